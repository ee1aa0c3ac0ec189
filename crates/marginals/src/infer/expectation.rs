//! Posterior expectations, and how those over two ranges of keys are mixed.

use serde::{Deserialize, Serialize};

use super::statistic::Linear;
use crate::Real;

/// Way in which the findings over two ranges of keys become that over their union.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    /// The factors choose among all keys: normalisers add in log space, expectations mix by the
    /// shares of the normaliser.
    Mixture,
    /// Each range is a set of factors of its own; what queries gather from them adds.
    Factors,
    /// Every key is independent: everything adds.
    Sum,
    /// Keys are offered from the last to the first: the earlier ones are reached with the probability
    /// that the later ones were passed over.
    Sequence,
}

/// Way in which a linear statistic of two findings is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// E\[log p\], by the chain rule of the entropy.
    LogProbability,
    /// E\[log p − log π\], by the chain rule of the KL.
    LogRatio,
    /// E\[f\].
    Average,
    /// A variance, by the law of total variance.
    Variance,
    /// A covariance, by the law of total covariance.
    Covariance,
    /// A derivative of E\[f\]: a covariance, but where keys are offered in turn, by the chain rule.
    Tangent,
}

/// A posterior expectation, row after row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expectation<T> {
    pub(super) kind: Kind,
    /// The expectation, or the variance.
    pub values: Vec<T>,
    /// Of a variance or covariance, the mean of the values (where a query may have no edge: given that it
    /// has one), less its `references`.
    pub means: Vec<T>,
    /// Numbers near the values that were averaged: what is common to them costs a mean no digits, in no
    /// merge.
    pub references: Vec<T>,
    /// Of a covariance, by row, the mean of the function of edges, less its reference.
    pub(crate) edge_means: Vec<T>,
    /// Reference of the mean of the function of edges.
    pub(crate) edge_references: Vec<T>,
    /// Of a tangent where keys are offered in turn, by row, that of log P(no edge).
    pub(crate) none_tangents: Vec<T>,
}

impl<T: Real> Expectation<T> {
    /// Nothing seen yet of a statistic over `rows` factors or queries.
    pub(crate) fn new(
        statistic: &Linear<'_, T>,
        merge: Merge,
        (rows, columns): (usize, usize),
    ) -> Self {
        let kind = match statistic {
            Linear::LogProbability => Kind::LogProbability,
            Linear::LogRatio => Kind::LogRatio,
            Linear::ValueVariance(_) => Kind::Variance,
            Linear::Covariance(..) => Kind::Covariance,
            Linear::Tangent(..) => Kind::Tangent,
            Linear::Value(_) | Linear::Edge(_) => Kind::Average,
        };
        let zeros = |wanted: bool, count: usize| vec![T::zero(); if wanted { count } else { 0 }];
        // Where edges vary one by one a covariance is a sum over them.
        let is_about_means = !matches!(merge, Merge::Sum | Merge::Factors);
        let of_edges = matches!(kind, Kind::Covariance | Kind::Tangent) && is_about_means;
        let in_turn = kind == Kind::Tangent && merge == Merge::Sequence;
        let is_spread = kind == Kind::Variance || of_edges;
        Self {
            kind,
            values: zeros(true, rows * columns),
            means: zeros(is_spread, rows * columns),
            references: zeros(is_spread && !in_turn, rows * columns),
            edge_means: zeros(of_edges, rows),
            edge_references: zeros(of_edges && !in_turn, rows),
            none_tangents: zeros(in_turn, rows),
        }
    }

    /// Mean of the values with an index, of a variance or covariance.
    fn mean(&self, index: usize) -> T {
        self.means[index] + self.references[index]
    }

    /// Mean of the function of edges of one row, of a covariance.
    fn edge_mean(&self, row: usize) -> T {
        self.edge_means[row] + self.edge_references[row]
    }

    /// Mixes another variance or covariance in, by the shares of both in what rows gathered: the law of
    /// total covariance.
    pub(super) fn mix_spread(&mut self, other: &Self, shares: &[(T, T)]) {
        let width = self.values.len() / shares.len().max(1);
        for (r, &(x, y)) in shares.iter().enumerate().filter(|(_, (_, y))| *y != T::zero()) {
            let row = r * width..(r + 1) * width;
            if x == T::zero() {
                for (own, others) in [
                    (&mut self.values, &other.values),
                    (&mut self.means, &other.means),
                    (&mut self.references, &other.references),
                ] {
                    own[row.clone()].copy_from_slice(&others[row.clone()]);
                }
                if self.kind != Kind::Variance {
                    self.edge_means[r] = other.edge_means[r];
                    self.edge_references[r] = other.edge_references[r];
                }
                continue;
            }
            let edges_apart = (self.kind != Kind::Variance).then(|| {
                (self.edge_means[r] - other.edge_means[r])
                    + (self.edge_references[r] - other.edge_references[r])
            });
            for c in row {
                let apart =
                    (self.means[c] - other.means[c]) + (self.references[c] - other.references[c]);
                let within = x * self.values[c] + y * other.values[c];
                self.values[c] = within + x * y * (edges_apart.unwrap_or(apart) * apart);
                self.means[c] -= y * apart;
            }
            if let Some(apart) = edges_apart {
                self.edge_means[r] -= y * apart;
            }
        }
    }

    /// Takes in the choice to have no edge, of value 0, with its probability in every row: from the spread
    /// given that there is an edge to `edges` times that of all.
    pub(super) fn spread_by_none(&mut self, shares: impl Iterator<Item = (T, T)>, rows: usize) {
        let width = self.values.len() / rows.max(1);
        for (r, (edges, none)) in shares.enumerate() {
            for c in r * width..(r + 1) * width {
                let mean = self.mean(c);
                let other = match self.kind {
                    Kind::Variance => mean,
                    _ => self.edge_mean(r),
                };
                self.values[c] = weighted(edges, self.values[c] + weighted(none, other * mean));
            }
        }
    }

    /// Whether it has one entry per factor, and not one per query.
    pub(super) fn is_of_factors(&self) -> bool {
        matches!(self.kind, Kind::LogProbability | Kind::LogRatio)
    }
}

/// Entry of a list that is empty where nobody asked for it.
#[inline(always)]
pub(crate) fn at<T: Real>(list: &[T], index: usize) -> T {
    list.get(index).copied().unwrap_or(T::zero())
}

/// w x, where a weight of 0 leaves nothing, whatever x is.
#[inline(always)]
pub(crate) fn weighted<T: Real>(weight: T, x: T) -> T {
    if weight == T::zero() { weight } else { weight * x }
}
