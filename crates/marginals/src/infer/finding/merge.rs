//! Merges of findings: of ranges of keys, of choices, of runs of factors.

use super::{Expectation, Extremes, Finding, Merge, at, weighted};
use crate::infer::expectation::Kind;
use crate::infer::normalisers::shares_of;
use crate::{Error, Real, parallel};

impl<T: Real> Finding<T> {
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
