//! What one pass over some keys leaves behind, and how two of them merge.

use crate::Real;
use serde::{Deserialize, Serialize};

/// A scored choice: an edge named by its key (or its query, where keys choose); −1 is none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate<T> {
    /// Its score θ (plus noise, for draws).
    pub score: T,
    /// Its index.
    pub index: i64,
}

impl<T: Real> Candidate<T> {
    /// No choice at all.
    pub fn none() -> Self {
        Self { score: T::neg_infinity(), index: -1 }
    }

    /// Whether this one is preferred: higher score, then smaller index. The impossible is never
    /// preferred, and neither is NaN.
    #[inline(always)]
    pub fn beats(&self, other: &Self) -> bool {
        self.score > other.score
            || (self.score == other.score
                && self.score > T::neg_infinity()
                && self.index < other.index)
    }
}

/// Statistics of the factors: one entry per query, or per key where keys choose. Vectors of what
/// was not asked for are empty.
///
/// For choices (a query's or a key's), everything is relative to the running maximum: `sum` is
/// Σ e^(θ − max), `score` Σ e^(θ − max)(θ − max), `log_weight` Σ e^(θ − max) log w. For independent
/// edges `max` is 0, `sum` is log Z, `score` the entropy and `log_weight` Σ p log w.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Factors<T> {
    /// Largest score.
    pub max: Vec<T>,
    /// Sum of exponentials, or log-partition.
    pub sum: Vec<T>,
    /// First moment of the scores, or entropy.
    pub score: Vec<T>,
    /// First moment of the log-weights.
    pub log_weight: Vec<T>,
    /// Largest log-weight.
    pub weight_max: Vec<T>,
    /// Sum of weights relative to `weight_max`, or the prior's log-partition.
    pub weight_sum: Vec<T>,
    /// Best edge.
    pub best: Vec<Candidate<T>>,
    /// Best edges, best first, the same number for every factor.
    pub top: Vec<Candidate<T>>,
    /// Best edge under each draw's noise, the draws of a factor side by side.
    pub draws: Vec<Candidate<f64>>,
}

/// Statistics of the queries: what they gather. Relative to the factor's `max` where queries
/// choose, absolute elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals<T> {
    /// Σ_j p_ij where it is not the factor's own sum (where keys choose, or edges are independent).
    pub mass: Vec<T>,
    /// Σ_j p_ij v_j, row after row.
    pub mean: Vec<T>,
    /// Σ_j p_ij v_j² (Σ_j p_ij (1 − p_ij) v_j² where a query may have several edges).
    pub second: Vec<T>,
    /// Σ_j p_ij |i − j|.
    pub distance: Vec<T>,
    /// Σ_j p_ij f_c(i, j) of each edge function, the functions of a query side by side.
    #[serde(default = "Vec::new")]
    pub functions: Vec<T>,
}

/// What a pass over a range of keys leaves behind for one run of queries of one head.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics<T> {
    /// By factor.
    pub factors: Factors<T>,
    /// By query.
    pub totals: Totals<T>,
}

/// Which statistics are kept, and for how many rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub score: bool,
    pub log_weight: bool,
    pub weights: bool,
    pub best: bool,
    pub top: usize,
    pub draws: usize,
    pub mass: bool,
    pub mean: bool,
    pub second: bool,
    pub distance: bool,
    pub functions: usize,
    pub value_width: usize,
}

fn zeros<T: Real>(kept: bool, n: usize) -> Vec<T> {
    if kept { vec![T::zero(); n] } else { Vec::new() }
}

impl<T: Real> Factors<T> {
    /// Nothing seen yet.
    pub(crate) fn new(kept: &Kept, rows: usize, running_max: bool) -> Self {
        let lowest = if running_max { T::neg_infinity() } else { T::zero() };
        Self {
            max: vec![lowest; rows],
            sum: vec![T::zero(); rows],
            score: zeros(kept.score, rows),
            log_weight: zeros(kept.log_weight, rows),
            weight_max: if kept.weights { vec![lowest; rows] } else { Vec::new() },
            weight_sum: zeros(kept.weights, rows),
            best: vec![Candidate::none(); if kept.best { rows } else { 0 }],
            top: vec![Candidate::none(); kept.top * rows],
            draws: vec![Candidate::none(); kept.draws * rows],
        }
    }

    /// Makes room for `times` as much.
    fn reserve(&mut self, times: usize) {
        reserve(&mut self.max, times);
        reserve(&mut self.sum, times);
        reserve(&mut self.score, times);
        reserve(&mut self.log_weight, times);
        reserve(&mut self.weight_max, times);
        reserve(&mut self.weight_sum, times);
        reserve(&mut self.best, times);
        reserve(&mut self.top, times);
        reserve(&mut self.draws, times);
    }

    /// Appends the factors of other queries, or of other keys where keys choose.
    pub(crate) fn append(&mut self, other: Self) {
        self.max.extend(other.max);
        self.sum.extend(other.sum);
        self.score.extend(other.score);
        self.log_weight.extend(other.log_weight);
        self.weight_max.extend(other.weight_max);
        self.weight_sum.extend(other.weight_sum);
        self.best.extend(other.best);
        self.top.extend(other.top);
        self.draws.extend(other.draws);
    }

    fn merge_candidates(&mut self, other: &Self) {
        for (a, b) in self.best.iter_mut().zip(&other.best) {
            if b.beats(a) {
                *a = *b;
            }
        }
        for (a, b) in self.draws.iter_mut().zip(&other.draws) {
            if b.beats(a) {
                *a = *b;
            }
        }
        let k = self.top.len() / self.max.len().max(1);
        if k > 0 {
            for (a, b) in self.top.chunks_exact_mut(k).zip(other.top.chunks_exact(k)) {
                b.iter().for_each(|&candidate| insert(a, candidate));
            }
        }
    }

    /// Merges the same queries' statistics over other keys. Returns the factors by which whatever
    /// was relative to either maximum must be multiplied.
    fn merge_choices(&mut self, other: &Self) -> Vec<(T, T)> {
        let factors: Vec<(T, T)> = (0..self.max.len())
            .map(|r| {
                let (a, b) = (self.max[r], other.max[r]);
                let max = a.max(b);
                let (fa, fb) = (relative(a, max), relative(b, max));
                let shift = |sum: T, score: T, from: T| {
                    score + if sum > T::zero() { sum * (from - max) } else { T::zero() }
                };
                if !self.score.is_empty() {
                    self.score[r] = fa * shift(self.sum[r], self.score[r], a)
                        + fb * shift(other.sum[r], other.score[r], b);
                }
                if !self.log_weight.is_empty() {
                    self.log_weight[r] = fa * self.log_weight[r] + fb * other.log_weight[r];
                }
                self.sum[r] = fa * self.sum[r] + fb * other.sum[r];
                self.max[r] = max;
                (fa, fb)
            })
            .collect();
        for r in 0..self.weight_max.len() {
            let (a, b) = (self.weight_max[r], other.weight_max[r]);
            let max = a.max(b);
            self.weight_sum[r] =
                relative(a, max) * self.weight_sum[r] + relative(b, max) * other.weight_sum[r];
            self.weight_max[r] = max;
        }
        factors
    }
}

/// e^(a − max), and 1 where both are −∞.
fn relative<T: Real>(a: T, max: T) -> T {
    if a == max { T::one() } else { (a - max).exp() }
}

/// Puts a candidate in its place in a list kept best first, dropping the worst.
pub(crate) fn insert<T: Real>(list: &mut [Candidate<T>], candidate: Candidate<T>) {
    let place = list.partition_point(|kept| !candidate.beats(kept));
    if place < list.len() {
        list[place..].rotate_right(1);
        list[place] = candidate;
    }
}

/// Makes room for a list to grow to `times` its length.
fn reserve<R>(list: &mut Vec<R>, times: usize) {
    list.reserve_exact(list.len() * times.saturating_sub(1));
}

fn add<T: Real>(into: &mut [T], other: &[T]) {
    into.iter_mut().zip(other).for_each(|(a, &b)| *a += b);
}

impl<T: Real> Totals<T> {
    pub(crate) fn new(kept: &Kept, rows: usize) -> Self {
        Self {
            mass: zeros(kept.mass, rows),
            mean: zeros(kept.mean, rows * kept.value_width),
            second: zeros(kept.second, rows * kept.value_width),
            distance: zeros(kept.distance, rows),
            functions: vec![T::zero(); rows * kept.functions],
        }
    }

    fn reserve(&mut self, times: usize) {
        reserve(&mut self.mass, times);
        reserve(&mut self.mean, times);
        reserve(&mut self.second, times);
        reserve(&mut self.distance, times);
        reserve(&mut self.functions, times);
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.mass.extend(other.mass);
        self.mean.extend(other.mean);
        self.second.extend(other.second);
        self.distance.extend(other.distance);
        self.functions.extend(other.functions);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        add(&mut self.mass, &other.mass);
        add(&mut self.mean, &other.mean);
        add(&mut self.second, &other.second);
        add(&mut self.distance, &other.distance);
        add(&mut self.functions, &other.functions);
    }

    /// Weighted sum, row by row.
    fn blend(&mut self, other: &Self, factors: &[(T, T)]) {
        let blend = |a: &mut [T], b: &[T]| {
            let width = a.len() / factors.len().max(1);
            if width == 0 {
                return;
            }
            let rows = a.chunks_exact_mut(width).zip(b.chunks_exact(width));
            for ((a, b), &(fa, fb)) in rows.zip(factors) {
                a.iter_mut().zip(b).for_each(|(a, &b)| *a = fa * *a + fb * b);
            }
        };
        blend(&mut self.mass, &other.mass);
        blend(&mut self.mean, &other.mean);
        blend(&mut self.second, &other.second);
        blend(&mut self.distance, &other.distance);
        blend(&mut self.functions, &other.functions);
    }
}

impl<T: Real> Statistics<T> {
    /// The statistics of runs of queries (or keys) that follow one another.
    pub(crate) fn concatenate(parts: Vec<Self>) -> Self {
        let count = parts.len();
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap_or_default();
        all.factors.reserve(count);
        all.totals.reserve(count);
        for part in parts {
            all.factors.append(part.factors);
            all.totals.append(part.totals);
        }
        all
    }

    /// Merges with the same queries' statistics over other keys, where queries choose.
    pub(crate) fn merge_choices(&mut self, other: &Self) {
        let factors = self.factors.merge_choices(&other.factors);
        self.factors.merge_candidates(&other.factors);
        self.totals.blend(&other.totals, &factors);
    }

    /// The same for independent edges: everything adds.
    pub(crate) fn merge_edges(&mut self, other: &Self) {
        add(&mut self.factors.sum, &other.factors.sum);
        add(&mut self.factors.score, &other.factors.score);
        add(&mut self.factors.log_weight, &other.factors.log_weight);
        add(&mut self.factors.weight_sum, &other.factors.weight_sum);
        self.factors.merge_candidates(&other.factors);
        self.totals.add(&other.totals);
    }
}
