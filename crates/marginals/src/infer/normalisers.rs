//! Normalisers: log-partitions of factors, in two parts.

use std::ops::Range;

use marginals_kernels::LogPartition;
use serde::{Deserialize, Serialize};

use crate::Real;

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

/// The shares of two normalisers in their sum, and the sum.
pub(super) fn shares_of<T: Real>(
    a: &Normalisers<T>,
    b: &Normalisers<T>,
) -> (Vec<(T, T)>, Normalisers<T>) {
    let mut sum = Normalisers::with_capacity(a.len());
    let shares = (0..a.len())
        .map(|r| {
            let max = a.max[r].max(b.max[r]);
            // Garbage alone has no largest score, and is not nothing.
            let is_nothing =
                |n: &Normalisers<T>| n.max[r] == T::neg_infinity() && !n.log_sum[r].is_nan();
            if is_nothing(a) && is_nothing(b) {
                sum.push(max, T::neg_infinity());
                return (T::one(), T::zero());
            }
            let part = |n: &Normalisers<T>| match is_nothing(n) {
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
