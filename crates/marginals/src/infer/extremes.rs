//! Best edges: the highest and lowest scores, and the winners of draws.

use serde::{Deserialize, Serialize};

use super::statistic::Extremal;
use crate::Real;

/// A scored choice: an edge named by its key (by its query, where keys choose); −1 is no edge.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate<T> {
    /// Its score θ, plus noise for draws.
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

    /// The choice with the sign of its score turned, so that the lowest wins.
    pub(crate) fn turned(self) -> Self {
        Self { score: -self.score, ..self }
    }
}

/// Puts a candidate in its place in a list kept best first, dropping the worst.
pub(crate) fn insert<T: Real>(list: &mut [Candidate<T>], candidate: Candidate<T>) {
    let Some(worst) = list.last() else { return };
    if !candidate.beats(worst) {
        return;
    }
    // Lists are short: moving one by one is faster than a search.
    let mut place = list.len() - 1;
    while place > 0 && candidate.beats(&list[place - 1]) {
        list[place] = list[place - 1];
        place -= 1;
    }
    list[place] = candidate;
}

/// Best edges, the same number for every factor (or query).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Extremes<T> {
    /// The highest scores of every factor, best first.
    Best {
        /// How many are kept.
        count: usize,
        /// The edges.
        edges: Vec<Candidate<T>>,
    },
    /// The winner of each draw of every factor, under its noise.
    Draws {
        /// How many draws.
        count: usize,
        /// The edges.
        edges: Vec<Candidate<f64>>,
    },
    /// The highest score of every query.
    Highest(Vec<Candidate<T>>),
    /// The lowest score of every query.
    Lowest(Vec<Candidate<T>>),
}

impl<T: Real> Extremes<T> {
    pub(crate) fn new(wanted: Extremal, factors: usize, queries: usize) -> Self {
        match wanted {
            Extremal::Best(count) => {
                Self::Best { count, edges: vec![Candidate::none(); count * factors] }
            }
            Extremal::Draws { count, .. } => {
                Self::Draws { count, edges: vec![Candidate::none(); count * factors] }
            }
            Extremal::Highest => Self::Highest(vec![Candidate::none(); queries]),
            Extremal::Lowest => Self::Lowest(vec![Candidate::none(); queries]),
        }
    }

    /// The edges, but those of draws.
    pub fn edges(&self) -> &[Candidate<T>] {
        match self {
            Self::Best { edges, .. } | Self::Highest(edges) | Self::Lowest(edges) => edges,
            Self::Draws { .. } => &[],
        }
    }

    /// The factors (or queries) of another finding after those of this one.
    pub(super) fn append(&mut self, other: &Self) {
        match (self, other) {
            (Self::Best { edges, .. }, Self::Best { edges: others, .. })
            | (Self::Highest(edges), Self::Highest(others))
            | (Self::Lowest(edges), Self::Lowest(others)) => edges.extend(others),
            (Self::Draws { edges, .. }, Self::Draws { edges: others, .. }) => edges.extend(others),
            _ => {}
        }
    }

    /// Adds to the log-probability of every choice of a factor that which it is reached with.
    pub(super) fn put_back(&mut self, log_reached: &[T]) {
        let each = |edges: &mut [Candidate<T>], count: usize| {
            for (list, &by) in edges.chunks_exact_mut(count.max(1)).zip(log_reached) {
                list.iter_mut().for_each(|edge| edge.score += by);
            }
        };
        match self {
            Self::Best { count, edges } => each(edges, *count),
            Self::Draws { count, edges } => {
                for (list, &by) in edges.chunks_exact_mut((*count).max(1)).zip(log_reached) {
                    list.iter_mut().for_each(|edge| edge.score += by.f64());
                }
            }
            Self::Highest(_) | Self::Lowest(_) => {}
        }
    }

    /// The best of both, factor by factor.
    pub(super) fn merge(&mut self, other: &Self) {
        fn each<R: Real>(a: &mut [Candidate<R>], b: &[Candidate<R>]) {
            for (a, b) in a.iter_mut().zip(b) {
                if b.beats(a) {
                    *a = *b;
                }
            }
        }
        match (self, other) {
            (Self::Best { count, edges }, Self::Best { edges: others, .. }) if *count > 0 => {
                for (a, b) in edges.chunks_exact_mut(*count).zip(others.chunks_exact(*count)) {
                    b.iter().for_each(|&candidate| insert(a, candidate));
                }
            }
            (Self::Draws { edges, .. }, Self::Draws { edges: others, .. }) => each(edges, others),
            (Self::Highest(edges), Self::Highest(others)) => each(edges, others),
            (Self::Lowest(edges), Self::Lowest(others)) => {
                for (a, b) in edges.iter_mut().zip(others) {
                    if b.index >= 0 && (a.index < 0 || b.turned().beats(&a.turned())) {
                        *a = *b;
                    }
                }
            }
            _ => {}
        }
    }
}
