//! Statistics turned into posterior quantities.

use std::ops::Range;

use crate::Real;
use marginals_kernels::LogPartition;
use rayon::prelude::*;

use super::by_query::softplus;
use super::forward::{NULL_KEY, draw};
use super::request::Request;
use super::statistics::{Candidate, Statistics, insert};
use crate::Posterior;
use crate::model::structure::Factorisation;

/// Normalised answers, flat: factor quantities over [B, H, factors], query quantities over
/// [B, H, N]. Vectors of what was not asked for are empty.
#[derive(Clone, Debug, Default)]
pub struct Summary<T> {
    /// log Z.
    pub log_partition: Vec<T>,
    /// log Z in two parts, which probabilities are taken against.
    pub normalisers: Normalisers<T>,
    /// Entropy.
    pub entropy: Vec<T>,
    /// E[log w]; empty when every weight is 0 or 1 and no null edge has one.
    pub expected_log_weight: Vec<T>,
    /// log Z(log w).
    pub prior_log_partition: Vec<T>,
    /// Best edges, index and probability.
    pub best: Vec<Candidate<T>>,
    /// Best edges, best first, the same number for every factor; `score` is the probability.
    pub top: Vec<Candidate<T>>,
    /// Drawn edges, the draws of a factor side by side.
    pub draws: Vec<i64>,
    /// Σ_j p_ij.
    pub mass: Vec<T>,
    /// Σ_j p_ij v_j.
    pub mean: Vec<T>,
    /// See [`Totals::second`](super::Totals::second), normalised.
    pub second: Vec<T>,
    /// Σ_j p_ij |i − j|.
    pub distance: Vec<T>,
    /// Σ_j p_ij f_c(i, j), the functions of a query side by side.
    pub functions: Vec<T>,
}

/// log Z of every factor as max + log_sum; see [`LogPartition`]. Empty for independent edges, which
/// have no use for it.
#[derive(Clone, Debug, Default)]
pub struct Normalisers<T> {
    max: Vec<T>,
    log_sum: Vec<T>,
}

impl<T: Real> Normalisers<T> {
    fn with_capacity(count: usize) -> Self {
        Self { max: Vec::with_capacity(count), log_sum: Vec::with_capacity(count) }
    }

    fn push(&mut self, max: T, log_sum: T) {
        self.max.push(max);
        self.log_sum.push(log_sum);
    }

    /// Those of a run of factors.
    pub(crate) fn run(&self, factors: Range<usize>) -> LogPartition<'_, T> {
        LogPartition { max: &self.max[factors.clone()], log_sum: &self.log_sum[factors] }
    }

    /// log p of a score of one factor.
    #[inline(always)]
    pub(crate) fn log_p(&self, factor: usize, score: T) -> T {
        (score - self.max[factor]) - self.log_sum[factor]
    }
}

/// 0 for what rounding made negative; NaN stays.
fn not_negative<T: Real>(x: T) -> T {
    if x < T::zero() { T::zero() } else { x }
}

/// 0 for what rounding made positive; NaN stays.
fn not_positive<T: Real>(x: T) -> T {
    if x > T::zero() { T::zero() } else { x }
}

/// Lists one after the other, copied by every thread: the values of all queries are as large as
/// the answer.
fn join_rows<'p, T: Real>(parts: impl Iterator<Item = &'p [T]> + Clone) -> Vec<T> {
    let mut all = vec![T::zero(); parts.clone().map(<[T]>::len).sum()];
    let mut rest = all.as_mut_slice();
    let mut pairs = Vec::new();
    for part in parts {
        let (own, after) = rest.split_at_mut(part.len());
        pairs.push((own, part));
        rest = after;
    }
    pairs.into_par_iter().for_each(|(own, part)| own.copy_from_slice(part));
    all
}

impl<T: Real> Summary<T> {
    /// Normalises statistics over all keys; `row` says to which batch entry and head, and to which
    /// factor there, each of their factors belongs.
    pub(crate) fn new(
        statistics: Statistics<T>,
        posterior: &Posterior<'_, T>,
        request: &Request<'_, T>,
        row: impl Fn(usize) -> ((usize, usize), usize),
    ) -> Self {
        match &posterior.factorisation {
            Factorisation::PerEdge => Self::of_edges(statistics),
            Factorisation::PerKey => Self::of_choices(statistics, |_| None, request, row),
            Factorisation::PerQuery { null } => {
                let null = |head| null.as_ref().map(|n| crate::model::of_head(n, head));
                Self::of_choices(statistics, null, request, row)
            }
        }
    }

    /// The summary of runs of factors that follow one another.
    pub(crate) fn concatenate(parts: Vec<Self>) -> Self {
        fn join<'p, P, R: Clone + 'p>(parts: &'p [P], field: impl Fn(&'p P) -> &'p [R]) -> Vec<R> {
            parts.iter().map(field).collect::<Vec<_>>().concat()
        }
        let parts = parts.as_slice();
        Self {
            log_partition: join(parts, |s| &s.log_partition),
            normalisers: Normalisers {
                max: join(parts, |s| &s.normalisers.max),
                log_sum: join(parts, |s| &s.normalisers.log_sum),
            },
            entropy: join(parts, |s| &s.entropy),
            expected_log_weight: join(parts, |s| &s.expected_log_weight),
            prior_log_partition: join(parts, |s| &s.prior_log_partition),
            best: join(parts, |s| &s.best),
            top: join(parts, |s| &s.top),
            draws: join(parts, |s| &s.draws),
            mass: join(parts, |s| &s.mass),
            mean: join_rows(parts.iter().map(|s| s.mean.as_slice())),
            second: join_rows(parts.iter().map(|s| s.second.as_slice())),
            distance: join(parts, |s| &s.distance),
            functions: join(parts, |s| &s.functions),
        }
    }

    fn of_edges(statistics: Statistics<T>) -> Self {
        let Statistics { factors, totals } = statistics;
        let probability = |c: Candidate<T>| Candidate {
            score: if c.index < 0 { T::zero() } else { (-softplus(-c.score)).exp() },
            ..c
        };
        Self {
            log_partition: factors.sum,
            normalisers: Normalisers::default(),
            entropy: factors.score,
            expected_log_weight: factors.log_weight,
            prior_log_partition: factors.weight_sum,
            best: factors.best.into_iter().map(probability).collect(),
            top: factors.top.into_iter().map(probability).collect(),
            draws: Vec::new(),
            mass: totals.mass,
            mean: totals.mean,
            second: totals.second,
            distance: totals.distance,
            functions: totals.functions,
        }
    }

    fn of_choices(
        statistics: Statistics<T>,
        null: impl Fn(usize) -> Option<f64>,
        request: &Request<'_, T>,
        place: impl Fn(usize) -> ((usize, usize), usize),
    ) -> Self {
        let Statistics { mut factors, mut totals } = statistics;
        let count = factors.max.len();
        let seed = request.draws.map_or(0, |(_, seed)| seed);
        let has_null = null(0).is_some();
        if has_null && request.expected_log_weight && factors.log_weight.is_empty() {
            factors.log_weight = vec![T::zero(); count];
        }
        // Queries' totals are relative to their own factor unless keys choose.
        let relative_totals = totals.mass.is_empty();
        if relative_totals {
            totals.mass = vec![T::one(); count];
        }
        let width = |totals: &Vec<T>| totals.len() / count.max(1);
        let (mean_width, second_width) = (width(&totals.mean), width(&totals.second));
        let function_count = width(&totals.functions);
        let (top, draws) = (factors.top.len() / count.max(1), factors.draws.len() / count.max(1));
        let mut log_partition = Vec::with_capacity(count);
        let mut normalisers = Normalisers::with_capacity(count);

        for row in 0..count {
            let (place, index) = place(row);
            let null = null(place.1).map_or(T::neg_infinity(), T::of);
            let (max, sum) = (factors.max[row], factors.sum[row]);
            let highest = max.max(null);
            // Nothing to bring to the new maximum where nothing was seen.
            let keep =
                if sum == T::zero() || max == highest { T::one() } else { (max - highest).exp() };
            let absent = if null == T::neg_infinity() { T::zero() } else { (null - highest).exp() };
            let total = keep * sum + absent;
            let dead = total == T::zero();
            let log_sum = total.ln();
            let log_total = if dead { T::neg_infinity() } else { highest + log_sum };
            log_partition.push(log_total);
            // Nothing possible is told by the maximum.
            normalisers.push(if dead { T::neg_infinity() } else { highest }, log_sum);

            if let Some(score) = factors.score.get_mut(row) {
                let shifted =
                    if sum == T::zero() { T::zero() } else { *score + sum * (max - highest) };
                let null_term =
                    if absent == T::zero() { T::zero() } else { absent * (null - highest) };
                let moment = keep * shifted + null_term;
                *score = if dead { T::zero() } else { not_negative(log_sum - moment / total) };
            }
            if let Some(weight) = factors.log_weight.get_mut(row) {
                let null_term = if absent == T::zero() { T::zero() } else { absent * null };
                *weight = if dead { T::zero() } else { (keep * *weight + null_term) / total };
            }
            if !factors.weight_max.is_empty() {
                let (max, sum) = (factors.weight_max[row], factors.weight_sum[row]);
                let highest = max.max(null);
                let kept = match sum == T::zero() || max == highest {
                    true => sum,
                    false => sum * (max - highest).exp(),
                };
                let absent =
                    if null == T::neg_infinity() { T::zero() } else { (null - highest).exp() };
                let total = kept + absent;
                factors.weight_sum[row] =
                    if total == T::zero() { T::neg_infinity() } else { highest + total.ln() };
            }

            let nothing = Candidate { score: null, index: -1 };
            let probability = |c: Candidate<T>| Candidate {
                score: match c.score == T::neg_infinity() {
                    true => T::zero(),
                    false => not_positive((c.score - highest) - log_sum).exp(),
                },
                ..c
            };
            if let Some(best) = factors.best.get_mut(row) {
                *best = probability(if nothing.beats(best) { nothing } else { *best });
            }
            let list = &mut factors.top[row * top..][..top];
            if has_null && top > 0 && null > T::neg_infinity() {
                insert(list, nothing);
            }
            list.iter_mut().for_each(|c| *c = probability(*c));
            if has_null && null > T::neg_infinity() && draws > 0 {
                for (sample, best) in factors.draws[row * draws..][..draws].iter_mut().enumerate() {
                    let noise = draw(seed, place, index, sample).noise(NULL_KEY);
                    let nothing = Candidate { score: null.f64() + noise, index: -1 };
                    if nothing.beats(best) {
                        *best = nothing;
                    }
                }
            }
            if relative_totals {
                let factor = if dead { T::zero() } else { keep / total };
                totals.mass[row] = if dead { T::zero() } else { sum * factor };
                for (list, width) in [
                    (&mut totals.mean, mean_width),
                    (&mut totals.second, second_width),
                    (&mut totals.functions, function_count),
                ] {
                    list[row * width..][..width].iter_mut().for_each(|x| *x *= factor);
                }
                if let Some(distance) = totals.distance.get_mut(row) {
                    *distance *= factor;
                }
            }
        }
        Self {
            log_partition,
            normalisers,
            entropy: factors.score,
            expected_log_weight: factors.log_weight,
            prior_log_partition: factors.weight_sum,
            best: factors.best,
            top: factors.top,
            draws: factors.draws.iter().map(|draw| draw.index).collect(),
            mass: totals.mass,
            mean: totals.mean,
            second: totals.second,
            distance: totals.distance,
            functions: totals.functions,
        }
    }

    /// The prior's normaliser for Key factors and choices comes as (max, sum); this is log Z(log w)
    /// less what the posterior expects of log w, less the entropy: KL(posterior ‖ prior).
    pub(crate) fn kl(&self) -> Vec<T> {
        (0..self.log_partition.len())
            .map(|row| {
                if self.log_partition[row] == T::neg_infinity() {
                    return T::zero();
                }
                let weight = self.expected_log_weight.get(row).copied().unwrap_or(T::zero());
                not_negative(self.prior_log_partition[row] - weight - self.entropy[row])
            })
            .collect()
    }

    /// log Z(θ) − log Z(log w); −∞ where nothing is possible.
    pub(crate) fn log_evidence(&self) -> Vec<T> {
        let pairs = self.log_partition.iter().zip(&self.prior_log_partition);
        pairs.map(|(&z, &w)| if z == T::neg_infinity() { z } else { z - w }).collect()
    }
}
