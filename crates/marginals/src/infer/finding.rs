//! Findings: what an inference leaves behind.

use std::borrow::Cow;
use std::ops::Range;

use marginals_kernels::LogPartition;
use serde::{Deserialize, Serialize};

use super::collapsed::Reason;
use super::expectation::Kind;
use super::statistic::{Handle, Request};
use crate::special::softplus;
use crate::{Error, Real, parallel};

pub use super::expectation::{Expectation, Merge};
pub(crate) use super::expectation::{at, weighted};
pub(crate) use super::extremes::insert;
pub use super::extremes::{Candidate, Extremes};

/// log Z of every factor as max + log_sum; see [`LogPartition`]. A max of −∞ says that nothing is
/// possible.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Normalisers<T> {
    /// The largest score, or another reference near it.
    pub max: Vec<T>,
    /// log Σ e^(θ − max).
    pub log_sum: Vec<T>,
}

impl<T: Real> Normalisers<T> {
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self { max: Vec::with_capacity(count), log_sum: Vec::with_capacity(count) }
    }

    pub(crate) fn push(&mut self, max: T, log_sum: T) {
        self.max.push(max);
        self.log_sum.push(log_sum);
    }

    /// Number of factors.
    pub fn len(&self) -> usize {
        self.max.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.max.is_empty()
    }

    /// Those of a run of factors.
    pub(crate) fn run(&self, factors: Range<usize>) -> LogPartition<'_, T> {
        LogPartition { max: &self.max[factors.clone()], log_sum: &self.log_sum[factors] }
    }

    /// log p of a score of one factor.
    #[inline(always)]
    pub fn log_p(&self, factor: usize, score: T) -> T {
        (score - self.max[factor]) - self.log_sum[factor]
    }

    /// log Z of one factor.
    #[inline(always)]
    pub fn log_z(&self, factor: usize) -> T {
        self.max[factor] + self.log_sum[factor]
    }
}

/// How a finding was come by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether it is exact, but for rounding.
    pub exactness: Exactness,
    /// Passes over the keys, or steps of an iteration.
    pub steps: usize,
    /// Why an iteration ended.
    #[serde(skip)]
    pub reason: Option<Reason>,
}

/// How far a finding can be from exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Exactness {
    /// Exact, but for rounding.
    #[default]
    Exact,
    /// Keys were left out whose posterior mass is at most this, for every query.
    MassLost(f64),
    /// The best member of a smaller family; its log-partition is a lower bound.
    LowerBound,
}

impl Exactness {
    /// After `mass` more of every query was left out.
    pub(crate) fn and_lost(self, mass: f64) -> Self {
        match self {
            Self::Exact => Self::MassLost(mass),
            Self::MassLost(before) => Self::MassLost((before + mass).min(1.0)),
            Self::LowerBound => self,
        }
    }

    /// Over two ranges of keys together.
    ///
    /// Where shares a of A and b of B are lost, of both together it is (a A + b B)/(A + B), which is no
    /// more than the larger.
    fn merged(self, other: Self) -> Self {
        match (self, other) {
            (Self::MassLost(a), Self::MassLost(b)) => Self::MassLost(a.max(b)),
            (Self::Exact, one) | (one, Self::Exact) => one,
            (Self::LowerBound, _) | (_, Self::LowerBound) => Self::LowerBound,
        }
    }
}

/// What an inference over a range of keys leaves behind: owned, plain data that can be stored, sent,
/// merged and resumed.
///
/// Every quantity is normalised over the keys seen: log Z in two parts, posterior expectations under
/// that, best edges. The findings of two neighbouring ranges merge into that of their union, so that
/// threads, long contexts and several machines all use one merge:
///
/// ```
/// # use marginals::{Model, potential::Dot, prior::Uniform, structure::EachQueryPicksOne};
/// # use marginals::question::{Entropy, Mean};
/// # use ndarray::Array4;
/// # let (q, k, v) = (Array4::<f64>::ones((1, 1, 3, 4)), Array4::<f64>::ones((1, 1, 6, 4)), Array4::<f64>::ones((1, 1, 6, 2)));
/// # let model = Model::new(EachQueryPicksOne, Uniform, Dot::scaled(4));
/// let posterior = model.posterior(q.view(), k.view())?;
/// let questions = (Mean(v.view()), Entropy);
/// let mut finding = posterior.find(&questions, 0..4)?;
/// finding.merge(posterior.find(&questions, 4..6)?)?;
/// let (mean, entropy) = posterior.complete(questions, finding)?.answer()?;
/// # assert!((entropy[[0, 0, 0]] - 6f64.ln()).abs() < 1e-12);
/// # assert!((mean[[0, 0, 0, 0]] - 1.0).abs() < 1e-12);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding<T> {
    pub(crate) merge: Merge,
    /// Positions of the keys seen.
    pub(crate) keys: Range<i64>,
    /// Heads of all batch entries together: what factors and queries are grouped by.
    pub(crate) heads: usize,
    /// Whether what a factor may choose beside its keys (no edge) has been taken in.
    pub(crate) complete: bool,
    /// log Z of every factor.
    pub(crate) normalisers: Normalisers<T>,
    /// log Z(log w) of every factor; empty where it was not asked for.
    pub(crate) prior: Normalisers<T>,
    /// Reference of every factor: the part that all its log-weights share, left out of its log-partitions
    /// and scores. Empty where all are 0. See [`Reference`](crate::Reference).
    pub(crate) references: Vec<f64>,
    /// log Z and log Z(log w) of every factor, where there are references and no edge may be had on a score
    /// of its own: the larger of the two keeps its digits. Empty otherwise.
    pub(crate) log_partitions: Vec<[f64; 2]>,
    /// log P(no edge) of every factor; empty where each must have one.
    pub(crate) log_none: Vec<T>,
    /// Σ_j p_ij of every query.
    pub(crate) mass: Vec<T>,
    /// What is gathered is to be multiplied by e to this, by query; empty where it is 0. A mass may be
    /// far below the smallest number and still be averaged over.
    pub(crate) log_scale: Vec<T>,
    pub(crate) linear: Vec<Expectation<T>>,
    pub(crate) extremal: Vec<Extremes<T>>,
    /// Findings of single steps, where the inference takes several and a backward is to follow.
    pub(crate) steps: Vec<Finding<T>>,
    /// How it was come by.
    pub report: Report,
}

impl<T: Real> Finding<T> {
    /// The positions of the keys seen.
    pub fn keys(&self) -> Range<i64> {
        self.keys.clone()
    }

    /// Number of factors, of all heads together.
    pub fn factors(&self) -> usize {
        self.normalisers.len()
    }

    /// Reference of one factor.
    pub(crate) fn reference(&self, factor: usize) -> f64 {
        self.references.get(factor).copied().unwrap_or(0.0)
    }

    /// log Z of one factor, in nats.
    pub fn log_partition(&self, factor: usize) -> T {
        let log_z = self.normalisers.log_z(factor);
        if let Some(&[whole, _]) = self.log_partitions.get(factor) {
            return T::of(whole);
        }
        match self.reference(factor) {
            0.0 => log_z,
            reference => T::of(reference + log_z.f64()),
        }
    }

    /// log Z − log Z(log w) of one factor, in nats.
    pub(crate) fn log_evidence(&self, factor: usize) -> T {
        let (all, prior) = (&self.normalisers, &self.prior);
        match (all.log_z(factor), self.log_partitions.get(factor)) {
            (dead, _) if dead == T::neg_infinity() => dead,
            (_, Some([all, prior])) => T::of(all - prior),
            // Two parts each: what both have in common cancels exactly.
            _ => {
                (all.max[factor] - prior.max[factor])
                    + (all.log_sum[factor] - prior.log_sum[factor])
            }
        }
    }

    /// log Z of every factor less what its log-weights have in common, in nats.
    pub fn normalisers(&self) -> &Normalisers<T> {
        &self.normalisers
    }

    /// log Z(log w) of every factor less the same, where a question asked for it.
    pub fn prior_normalisers(&self) -> &Normalisers<T> {
        &self.prior
    }

    /// log P(no edge) of every factor; empty where each must have one.
    pub fn log_none(&self) -> &[T] {
        &self.log_none
    }

    /// Σ_j p_ij of every query.
    pub fn mass(&self) -> &[T] {
        &self.mass
    }

    /// An expectation that was asked for.
    pub fn expectation(&self, statistic: Handle) -> &Expectation<T> {
        &self.linear[statistic.0]
    }

    /// The same, moved out.
    pub(crate) fn take_expectation(&mut self, statistic: Handle) -> Vec<T> {
        std::mem::take(&mut self.linear[statistic.0].values)
    }

    /// Numbers by query as they were gathered, `width` to a query, without the scale they were gathered in.
    pub(crate) fn unscaled(&self, mut values: Vec<T>, width: usize) -> Vec<T> {
        self.rescale(&mut values, width);
        values
    }

    /// The gradient in what queries gathered, from that in what it is without a scale.
    pub(crate) fn scaled<'g>(&self, gradient: Cow<'g, [T]>, width: usize) -> Cow<'g, [T]> {
        if self.log_scale.is_empty() {
            return gradient;
        }
        let mut gradient = gradient.into_owned();
        self.rescale(&mut gradient, width);
        Cow::Owned(gradient)
    }

    fn rescale(&self, rows: &mut [T], width: usize) {
        for (row, scale) in rows.chunks_exact_mut(width.max(1)).zip(&self.log_scale) {
            let scale = scale.exp();
            row.iter_mut().for_each(|x| *x = weighted(*x, scale));
        }
    }

    /// Puts an expectation where it was asked for.
    pub(crate) fn put_expectation(&mut self, statistic: Handle, values: Vec<T>) {
        self.linear[statistic.0].values = values;
    }

    /// Probability of a choice of a factor, its score known: of no edge, 0 where nothing is possible.
    pub fn probability(&self, factor: usize, choice: Candidate<T>) -> T {
        if choice.index < 0 && choice.score == T::neg_infinity() {
            // Nothing beat the impossible: nothing is possible, or nothing is a number.
            let log_z = self.normalisers.log_z(factor);
            return if log_z.is_nan() { log_z } else { T::zero() };
        }
        let log_p = match self.merge {
            // Each edge by itself.
            Merge::Sum => -softplus(-choice.score),
            Merge::Mixture | Merge::Factors => self.normalisers.log_p(factor, choice.score),
            // Scores of a sequence are log-probabilities.
            Merge::Sequence => choice.score,
        };
        (if log_p > T::zero() { T::zero() } else { log_p }).exp()
    }

    /// Best edges that were asked for.
    pub fn extremes(&self, statistic: Handle) -> &Extremes<T> {
        &self.extremal[statistic.0]
    }

    /// Takes in the finding of the keys that follow.
    ///
    /// # Errors
    /// [`Error::Value`] where `next` does not start where this one ends, and
    /// [`Error::NotAnswerable`] where the two come from different models, sizes or questions.
    pub fn merge(&mut self, next: Self) -> Result<(), Error> {
        if next.keys.start != self.keys.end {
            return Err(Error::value(
                "keys",
                format!("a finding that starts at key {}, where this one ends", self.keys.end),
                format!("{:?}", next.keys),
            ));
        }
        let by_factor = self.merge == Merge::Factors;
        let kinds = |finding: &Self| -> Vec<(Kind, usize)> {
            let length = |e: &Expectation<T>| match by_factor && e.is_of_factors() {
                true => 0,
                false => e.values.len(),
            };
            finding.linear.iter().map(|e| (e.kind, length(e))).collect()
        };
        let same = self.merge == next.merge
            && self.heads == next.heads
            && !self.complete
            && !next.complete
            && self.mass.len() == next.mass.len()
            && (by_factor || self.factors() == next.factors())
            && (by_factor || self.prior.is_empty() == next.prior.is_empty())
            && self.extremal.len() == next.extremal.len()
            && kinds(self) == kinds(&next);
        if !same {
            return Err(Error::NotAnswerable {
                question: "merge".into(),
                why: "the findings come from different models, sizes or questions, or one is \
                      complete already"
                    .into(),
                instead: "Merge findings of one posterior and the same questions.".into(),
            });
        }
        self.merge_checked(next);
        Ok(())
    }

    pub(crate) fn merge_checked(&mut self, next: Self) {
        let keys = self.keys.start..next.keys.end;
        let exactness = self.report.exactness.merged(next.report.exactness);
        match self.merge {
            Merge::Mixture => self.mix(&next),
            Merge::Factors => self.interleave(&next),
            Merge::Sum => self.add(&next),
            Merge::Sequence => {
                let far = std::mem::replace(self, next);
                self.follow(&far);
            }
        }
        self.report.exactness = exactness;
        self.keys = keys;
    }

    /// Mixes in a finding over other choices of the same factors.
    pub(crate) fn mix(&mut self, other: &Self) {
        if !(self.references.is_empty() && other.references.is_empty())
            && self.references != other.references
        {
            let mut other = other.clone();
            self.share_references(&mut other);
            return self.mix(&other);
        }
        let (shares, normalisers) = shares_of(&self.normalisers, &other.normalisers);
        let prior = match self.prior.is_empty() {
            true => None,
            false => Some(shares_of(&self.prior, &other.prior)),
        };
        for (own, others) in self.linear.iter_mut().zip(&other.linear) {
            match own.kind {
                Kind::LogProbability => {
                    for (r, &(a, b)) in shares.iter().enumerate() {
                        let (x, y) = (own.values[r] + a.ln(), others.values[r] + b.ln());
                        own.values[r] = weighted(a, x) + weighted(b, y);
                    }
                }
                Kind::LogRatio => {
                    let prior = prior.as_ref().expect("a KL has the prior's normaliser").0.iter();
                    for (r, (&(a, b), &(c, d))) in shares.iter().zip(prior).enumerate() {
                        let x = own.values[r] + (a.ln() - c.ln());
                        let y = others.values[r] + (b.ln() - d.ln());
                        own.values[r] = weighted(a, x) + weighted(b, y);
                    }
                }
                Kind::Average => mix_rows(&mut own.values, &others.values, &shares),
                Kind::Variance | Kind::Covariance | Kind::Tangent => {
                    own.mix_spread(others, &shares);
                }
            }
        }
        mix_rows(&mut self.mass, &other.mass, &shares);
        self.normalisers = normalisers;
        if let Some((_, prior)) = prior {
            self.prior = prior;
        }
        self.merge_extremes(other);
    }

    /// Makes what log-weights are relative to the same in both.
    fn share_references(&mut self, other: &mut Self) {
        let of = |finding: &Self, factor: usize| match finding.normalisers.max[factor] {
            // What is impossible is relative to nothing.
            max if max == T::neg_infinity() => None,
            _ => Some(finding.reference(factor)),
        };
        let common = |factor| match (of(self, factor), of(other, factor)) {
            (Some(own), Some(others)) => own.max(others),
            (one, another) => one.or(another).unwrap_or(0.0),
        };
        let references: Vec<f64> = (0..self.factors()).map(common).collect();
        for finding in [self, other] {
            finding.refer_to(references.clone());
        }
    }

    /// Makes log-partitions and scores relative to other references.
    pub(crate) fn refer_to(&mut self, references: Vec<f64>) {
        let own = std::mem::take(&mut self.references);
        let rise = |factor: usize| {
            let own = own.get(factor).copied().unwrap_or(0.0);
            T::of(own - references[factor])
        };
        for (factor, max) in self.normalisers.max.iter_mut().enumerate() {
            *max += rise(factor);
        }
        for (factor, max) in self.prior.max.iter_mut().enumerate() {
            *max += rise(factor);
        }
        let rises: Vec<T> = (0..references.len()).map(rise).collect();
        self.extremal.iter_mut().for_each(|extremes| extremes.put_back(&rises));
        self.references = references;
    }

    /// Makes the best scores of queries, which choose, relative to nothing.
    pub(crate) fn put_references_back(&mut self) {
        if self.references.is_empty() {
            return;
        }
        for extremes in &mut self.extremal {
            if let Extremes::Highest(edges) | Extremes::Lowest(edges) = extremes {
                for (edge, reference) in edges.iter_mut().zip(&self.references) {
                    edge.score = T::of(edge.score.f64() + reference);
                }
            }
        }
    }

    /// Mixes in having no edge, which gathers nothing. `shares` are those of the edges and of none;
    /// `prior` those of the prior, where a KL is found. `is_gated` says that the shares are the same
    /// whatever the edges' scores are.
    pub(crate) fn mix_in_none(
        &mut self,
        shares: &[Shares<T>],
        prior: &[Shares<T>],
        is_gated: bool,
    ) {
        let rows = shares.len();
        // A share too small for what is gathered to keep its digits is told apart, as a scale.
        let tiny = T::min_positive_value() / T::epsilon();
        let is_tiny = |share: &Shares<T>| share.edges < tiny && share.log_edges > T::neg_infinity();
        if shares.iter().any(is_tiny) {
            let scale = |share| if is_tiny(share) { share.log_edges } else { T::zero() };
            self.log_scale = shares.iter().map(scale).collect();
        }
        let scale = |list: &mut [T]| {
            let width = list.len() / rows.max(1);
            for (row, share) in list.chunks_exact_mut(width.max(1)).zip(shares) {
                if !is_tiny(share) {
                    row.iter_mut().for_each(|x| *x = weighted(share.edges, *x));
                }
            }
        };
        for own in &mut self.linear {
            match own.kind {
                Kind::LogProbability => {
                    for (x, &Shares { edges, none, log_edges }) in own.values.iter_mut().zip(shares)
                    {
                        *x = weighted(edges, *x + log_edges) + weighted(none, none.ln());
                    }
                }
                Kind::LogRatio => {
                    let both = shares.iter().zip(prior);
                    for (x, (own, prior)) in own.values.iter_mut().zip(both) {
                        let mixed = weighted(own.edges, *x + (own.log_edges - prior.log_edges));
                        let mixed = mixed + weighted(own.none, own.none.ln() - prior.none.ln());
                        *x = if mixed < T::zero() { T::zero() } else { mixed };
                    }
                }
                Kind::Average => scale(&mut own.values),
                Kind::Tangent if is_gated => scale(&mut own.values),
                Kind::Variance | Kind::Covariance | Kind::Tangent => {
                    let of_edges =
                        |share: &Shares<T>| if is_tiny(share) { T::one() } else { share.edges };
                    own.spread_by_none(shares.iter().map(|s| (of_edges(s), s.none)), rows);
                }
            }
        }
        scale(&mut self.mass);
    }

    /// Takes having no edge into spreads that are given that there is one: nothing is gathered then.
    pub(crate) fn spread_by_none(&mut self) {
        let none = self.log_none.iter().map(|log_none| log_none.exp());
        let shares = self.mass.iter().copied().zip(none);
        for own in &mut self.linear {
            if matches!(own.kind, Kind::Variance | Kind::Covariance) {
                own.spread_by_none(shares.clone(), self.mass.len());
            }
        }
    }

    fn merge_extremes(&mut self, other: &Self) {
        for (own, others) in self.extremal.iter_mut().zip(&other.extremal) {
            own.merge(others);
        }
    }

    /// Independent edges: everything adds.
    fn add(&mut self, other: &Self) {
        add(&mut self.normalisers.log_sum, &other.normalisers.log_sum);
        add(&mut self.prior.log_sum, &other.prior.log_sum);
        add(&mut self.log_none, &other.log_none);
        self.add_gathered(other, |_| true);
        self.merge_extremes(other);
    }

    /// Adds masses and those expectations that `of` names, bringing both to one scale.
    fn add_gathered(&mut self, other: &Self, of: impl Fn(&Expectation<T>) -> bool) {
        let scales = |r: usize| -> (T, T, T) {
            // What has no mass has no scale.
            let of = |finding: &Self| match finding.mass[r] == T::zero() {
                true => T::neg_infinity(),
                false => finding.log_scale.get(r).copied().unwrap_or(T::zero()),
            };
            let (a, b) = (of(self), of(other));
            let max = a.max(b);
            if max == T::neg_infinity() {
                return (T::one(), T::one(), T::zero());
            }
            ((a - max).exp(), (b - max).exp(), max)
        };
        if self.log_scale.is_empty() && other.log_scale.is_empty() {
            add(&mut self.mass, &other.mass);
            for (own, others) in self.linear.iter_mut().zip(&other.linear) {
                if of(own) {
                    add(&mut own.values, &others.values);
                    add(&mut own.means, &others.means);
                }
            }
            return;
        }
        let rows: Vec<(T, T, T)> = (0..self.mass.len()).map(scales).collect();
        let shares: Vec<(T, T)> = rows.iter().map(|&(a, b, _)| (a, b)).collect();
        mix_rows(&mut self.mass, &other.mass, &shares);
        for (own, others) in self.linear.iter_mut().zip(&other.linear) {
            if own.is_of_factors() {
                if of(own) {
                    add(&mut own.values, &others.values);
                }
                continue;
            }
            mix_rows(&mut own.values, &others.values, &shares);
            mix_rows(&mut own.means, &others.means, &shares);
        }
        self.log_scale = rows.iter().map(|&(_, _, max)| max).collect();
    }

    /// Keys' factors follow one another within each head; what queries gather adds.
    fn interleave(&mut self, next: &Self) {
        let heads = self.heads;
        fn by_head<R: Clone>(a: &mut Vec<R>, b: &[R], heads: usize) {
            if heads == 0 || (a.is_empty() && b.is_empty()) {
                return;
            }
            let (m, n) = (a.len() / heads, b.len() / heads);
            let rows = (0..heads).flat_map(|h| a[h * m..][..m].iter().chain(&b[h * n..][..n]));
            *a = rows.cloned().collect();
        }
        self.add_gathered(next, |e| !e.is_of_factors());
        by_head(&mut self.normalisers.max, &next.normalisers.max, heads);
        by_head(&mut self.normalisers.log_sum, &next.normalisers.log_sum, heads);
        by_head(&mut self.prior.max, &next.prior.max, heads);
        by_head(&mut self.prior.log_sum, &next.prior.log_sum, heads);
        by_head(&mut self.log_none, &next.log_none, heads);
        let (own, others) = (self.references.len(), next.references.len());
        if own + others > 0 {
            let whole = |list: &[f64], count: usize| match list.is_empty() {
                true => vec![0.0; count],
                false => list.to_vec(),
            };
            let count = self.normalisers.len();
            self.references = whole(&self.references, count - next.normalisers.len());
            by_head(&mut self.references, &whole(&next.references, next.normalisers.len()), heads);
        }
        for (own, others) in self.linear.iter_mut().zip(&next.linear) {
            if own.is_of_factors() {
                by_head(&mut own.values, &others.values, heads);
            }
        }
        for (own, others) in self.extremal.iter_mut().zip(&next.extremal) {
            match (own, others) {
                (Extremes::Best { edges, .. }, Extremes::Best { edges: others, .. }) => {
                    by_head(edges, others, heads);
                }
                (Extremes::Draws { edges, .. }, Extremes::Draws { edges: others, .. }) => {
                    by_head(edges, others, heads);
                }
                (own, others) => own.merge(others),
            }
        }
    }

    /// Keys offered in turn, these before those of `far`.
    fn follow(&mut self, far: &Self) {
        let rows = self.factors();
        for (own, others) in self.linear.iter_mut().zip(&far.linear) {
            // E[log p] and the KL sum over the offers, each as often as it is reached.
            if own.is_of_factors() {
                for (r, none) in self.log_none.iter().enumerate() {
                    own.values[r] += weighted(none.exp(), others.values[r]);
                }
            }
        }
        // Weights of what both gathered, in the larger of the two scales.
        let scaled = !(self.log_scale.is_empty() && far.log_scale.is_empty());
        let scale = |finding: &Self, r: usize| match (scaled, finding.mass[r] == T::zero()) {
            (true, true) => T::neg_infinity(),
            _ => at(&finding.log_scale, r),
        };
        let scales: Vec<[T; 3]> = (0..rows)
            .map(|r| {
                let (near, far) = (scale(self, r), scale(far, r) + self.log_none[r]);
                let most = if scaled { near.max(far) } else { T::zero() };
                [near, far, if most == T::neg_infinity() { T::zero() } else { most }]
            })
            .collect();
        let shares: Vec<(T, T)> = scales
            .iter()
            .map(|&[near, far, most]| ((near - most).exp(), (far - most).exp()))
            .collect();
        // Variances are given that there is an edge; what having none adds, the end adds.
        let shares_of_mass = |(r, &(a, b)): (usize, &(T, T))| {
            let (x, y) = (weighted(a, self.mass[r]), weighted(b, far.mass[r]));
            if x + y == T::zero() { (T::one(), T::zero()) } else { (x / (x + y), y / (x + y)) }
        };
        let gathered: Vec<(T, T)> = shares.iter().enumerate().map(shares_of_mass).collect();
        for (own, others) in self.linear.iter_mut().zip(&far.linear) {
            match own.kind {
                Kind::LogProbability | Kind::LogRatio => {}
                Kind::Average => mix_rows(&mut own.values, &others.values, &shares),
                Kind::Variance | Kind::Covariance => own.mix_spread(others, &gathered),
                Kind::Tangent => {
                    // Those far away move with what they average, and with how often they are reached.
                    let width = own.values.len() / rows.max(1);
                    for (r, &(a, b)) in shares.iter().enumerate() {
                        let reached = own.none_tangents[r];
                        for c in r * width..(r + 1) * width {
                            let moved = others.values[c] + reached * others.means[c];
                            own.values[c] = weighted(a, own.values[c]) + weighted(b, moved);
                        }
                        own.none_tangents[r] += others.none_tangents[r];
                    }
                    mix_rows(&mut own.means, &others.means, &shares);
                }
            }
        }
        mix_rows(&mut self.mass, &far.mass, &shares);
        if scaled {
            self.log_scale = scales.iter().map(|&[.., most]| most).collect();
        }
        // Those far away are reached past all that are near.
        let mut far_extremes = far.extremal.clone();
        far_extremes.iter_mut().for_each(|extremes| extremes.put_back(&self.log_none));
        self.extremal.iter_mut().zip(&far_extremes).for_each(|(own, far)| own.merge(far));
        add(&mut self.log_none, &far.log_none);
    }

    /// The finding of runs of factors that follow one another: batch-major, by head, by query.
    pub(crate) fn concatenate(parts: Vec<Self>, heads: usize) -> Option<Self> {
        let mut parts = parts.into_iter();
        let mut all = parts.next()?;
        let rest: Vec<Self> = parts.collect();
        all.heads = heads;
        if rest.is_empty() {
            return Some(all);
        }
        let append = |own: &mut Vec<T>, field: &(dyn Fn(&Self) -> &Vec<T> + Sync)| {
            join_rows(own, rest.iter().map(|part| field(part).as_slice()));
        };
        append(&mut all.normalisers.max, &|f| &f.normalisers.max);
        append(&mut all.normalisers.log_sum, &|f| &f.normalisers.log_sum);
        append(&mut all.prior.max, &|f| &f.prior.max);
        append(&mut all.prior.log_sum, &|f| &f.prior.log_sum);
        if rest.iter().any(|f| !f.references.is_empty()) || !all.references.is_empty() {
            let whole = |f: &Self, count: usize| match f.references.is_empty() {
                true => vec![0.0; count],
                false => f.references.clone(),
            };
            let others: usize = rest.iter().map(Self::factors).sum();
            let mut references = whole(&all, all.factors() - others);
            rest.iter().for_each(|f| references.extend(whole(f, f.factors())));
            all.references = references;
            rest.iter().for_each(|f| all.log_partitions.extend(&f.log_partitions));
        }
        append(&mut all.log_none, &|f| &f.log_none);
        append(&mut all.mass, &|f| &f.mass);
        if rest.iter().any(|f| !f.log_scale.is_empty()) || !all.log_scale.is_empty() {
            let rows = |f: &Self| match f.log_scale.is_empty() {
                true => vec![T::zero(); f.mass.len()],
                false => f.log_scale.clone(),
            };
            // Masses have been joined: those of the first part are what is left of them.
            let others: usize = rest.iter().map(|f| f.mass.len()).sum();
            let mut scale = match all.log_scale.is_empty() {
                true => vec![T::zero(); all.mass.len() - others],
                false => std::mem::take(&mut all.log_scale),
            };
            rest.iter().for_each(|f| scale.extend(rows(f)));
            all.log_scale = scale;
        }
        for index in 0..all.linear.len() {
            let own = &mut all.linear[index];
            append(&mut own.values, &|f| &f.linear[index].values);
            append(&mut own.means, &|f| &f.linear[index].means);
            append(&mut own.references, &|f| &f.linear[index].references);
            append(&mut own.edge_means, &|f| &f.linear[index].edge_means);
            append(&mut own.edge_references, &|f| &f.linear[index].edge_references);
            append(&mut own.none_tangents, &|f| &f.linear[index].none_tangents);
        }
        for (index, own) in all.extremal.iter_mut().enumerate() {
            rest.iter().for_each(|f| own.append(&f.extremal[index]));
        }
        Some(all)
    }

    /// A finding without keys: nothing is possible.
    pub(crate) fn nothing(
        merge: Merge,
        request: &Request<'_, T>,
        (factors, queries): (usize, usize),
        keys: Range<i64>,
    ) -> Self {
        let lowest = match merge {
            Merge::Mixture | Merge::Factors => T::neg_infinity(),
            Merge::Sum | Merge::Sequence => T::zero(),
        };
        let normalisers =
            |count| Normalisers { max: vec![lowest; count], log_sum: vec![T::zero(); count] };
        let wants_prior = request.wants_prior();
        let linear = request.linear.iter().enumerate().map(|(index, statistic)| {
            let rows = if request.is_of_factors(index) { factors } else { queries };
            Expectation::new(statistic, merge, (rows, request.columns(index)))
        });
        let extremal = &request.extremal;
        Self {
            merge,
            keys,
            heads: 1,
            complete: false,
            normalisers: normalisers(factors),
            prior: if wants_prior { normalisers(factors) } else { Normalisers::default() },
            references: Vec::new(),
            log_partitions: Vec::new(),
            log_none: match merge {
                Merge::Sum | Merge::Sequence => vec![T::zero(); factors],
                Merge::Mixture | Merge::Factors => Vec::new(),
            },
            mass: vec![T::zero(); queries],
            log_scale: Vec::new(),
            linear: linear.collect(),
            extremal: extremal.iter().map(|&w| Extremes::new(w, factors, queries)).collect(),
            steps: Vec::new(),
            report: Report::default(),
        }
    }
}

/// Probability of having an edge, and of having none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares<T> {
    pub edges: T,
    pub none: T,
    /// log of the first, which may be far below the smallest number.
    pub log_edges: T,
}

/// The shares of two normalisers in their sum, and the sum.
fn shares_of<T: Real>(a: &Normalisers<T>, b: &Normalisers<T>) -> (Vec<(T, T)>, Normalisers<T>) {
    let mut sum = Normalisers::with_capacity(a.len());
    let shares = (0..a.len())
        .map(|r| {
            let max = a.max[r].max(b.max[r]);
            if max == T::neg_infinity() {
                sum.push(max, T::neg_infinity());
                return (T::one(), T::zero());
            }
            let part = |n: &Normalisers<T>| match n.max[r] == T::neg_infinity() {
                true => T::zero(),
                false => ((n.max[r] - max) + n.log_sum[r]).exp(),
            };
            let (x, y) = (part(a), part(b));
            let total = x + y;
            sum.push(max, total.ln());
            (x / total, y / total)
        })
        .collect();
    (shares, sum)
}

/// Row by row, a · own + b · other.
fn mix_rows<T: Real>(own: &mut [T], other: &[T], shares: &[(T, T)]) {
    let width = own.len() / shares.len().max(1);
    if width == 0 {
        return;
    }
    let rows = own.chunks_exact_mut(width).zip(other.chunks_exact(width));
    for ((own, other), &(a, b)) in rows.zip(shares) {
        own.iter_mut().zip(other).for_each(|(x, &y)| *x = weighted(a, *x) + weighted(b, y));
    }
}

fn add<T: Real>(into: &mut [T], other: &[T]) {
    into.iter_mut().zip(other).for_each(|(a, &b)| *a += b);
}

/// Appends lists, copied by every thread: the values of all queries are as large as the answer.
fn join_rows<'p, T: Real>(own: &mut Vec<T>, parts: impl Iterator<Item = &'p [T]> + Clone) {
    let more: usize = parts.clone().map(<[T]>::len).sum();
    if more == 0 {
        return;
    }
    let mut all = vec![T::zero(); own.len() + more];
    let (first, mut rest) = all.split_at_mut(own.len());
    first.copy_from_slice(own);
    let mut pairs = Vec::new();
    for part in parts {
        let (into, after) = rest.split_at_mut(part.len());
        pairs.push((into, part));
        rest = after;
    }
    parallel::map_each(pairs, &|(into, part): (&mut [T], _)| into.copy_from_slice(part));
    *own = all;
}
