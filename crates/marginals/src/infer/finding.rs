//! Findings: results of an inference over a range of keys.

mod merge;

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::collapsed::Reason;
use super::coupled::Moments;
use super::expectation::Kind;
use super::statistic::{Handle, Request};
use crate::Real;
use crate::special::softplus;

pub use super::expectation::{Expectation, Merge};
pub(crate) use super::expectation::{at, weighted};
pub(crate) use super::extremes::insert;
pub use super::extremes::{Candidate, Extremes};
pub use super::normalisers::Normalisers;

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
    /// The optimum of a transport of mass in place of sums over matchings; its log-partition is an upper
    /// bound of theirs. See [`entropic`](super::entropic).
    Transport {
        /// By how much the log-partition can be above the optimum, in nats: the largest of all heads.
        gap: f64,
        /// Σ |mass of a key − what it is to have| over the total, likewise.
        marginal_error: f64,
        /// log Z of the matchings is at most this below the log-partition, likewise; infinite where masses
        /// that are given make it something else.
        below: f64,
    },
}

impl Exactness {
    /// After `mass` more of every query was left out.
    pub(crate) fn and_lost(self, mass: f64) -> Self {
        match self {
            Self::Exact => Self::MassLost(mass),
            Self::MassLost(before) => Self::MassLost((before + mass).min(1.0)),
            Self::LowerBound | Self::Transport { .. } => self,
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
            // Of a head that there is no sum over, parts are not found.
            (Self::Transport { .. }, _) => self,
            (_, Self::Transport { .. }) => other,
            (Self::LowerBound, _) | (_, Self::LowerBound) => Self::LowerBound,
        }
    }
}

/// Finding of an inference over a range of keys: owned, plain data that can be stored, sent,
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
    /// Log of the scale of what is gathered, by query; empty where it is 0. A mass may be
    /// far below the smallest number and still be averaged over.
    pub(crate) log_scale: Vec<T>,
    /// Biases of the keys at which a transport has their masses, [B, H, M]; empty elsewhere.
    pub(crate) biases: Vec<f64>,
    pub(crate) linear: Vec<Expectation<T>>,
    pub(crate) extremal: Vec<Extremes<T>>,
    /// Moments of every factor, where edges depend on each other; empty otherwise.
    pub(crate) moments: Vec<Moments>,
    /// Those of the prior alone, where they were asked for.
    pub(crate) prior_moments: Vec<Moments>,
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

    /// log Z of one factor with the digits that it was found with.
    pub(crate) fn log_partition_exactly(&self, factor: usize) -> f64 {
        match self.log_partitions.get(factor) {
            Some(&[whole, _]) => whole,
            None => self.log_partition(factor).f64(),
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

    /// Potentials f [B, H, N] of the queries and g [B, H, M] of the keys, of a transport: its plan is
    /// e^(θ_ij + f_i + g_j). `None` of other findings. Nodes without mass have −∞.
    pub fn potentials(&self) -> Option<(Vec<f64>, &[f64])> {
        let rows = self.steps.first().filter(|_| !self.biases.is_empty())?;
        let each = self.mass.iter().enumerate();
        let of_query = |(query, &mass): (usize, &T)| match mass == T::zero() {
            true => f64::NEG_INFINITY,
            false => mass.f64().ln() - rows.log_partition_exactly(query),
        };
        Some((each.map(of_query).collect(), &self.biases))
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
            biases: Vec::new(),
            linear: linear.collect(),
            extremal: extremal.iter().map(|&w| Extremes::new(w, factors, queries)).collect(),
            moments: Vec::new(),
            prior_moments: Vec::new(),
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
