//! How far one run of queries has read, and how much farther it must.

use std::ops::Range;

use super::certificate::{Tail, length, lost};
use super::problem::Problem;
use super::windows::visible;
use crate::Real;
use crate::infer::finding::Finding;
use crate::infer::statistic::Handle;
use crate::infer::streaming::ALIGN;

/// One run of queries of one head and the first key it has read from.
pub(super) struct Frontier<'p, 'a, T: Real> {
    problem: &'p Problem<'a, T>,
    place: (usize, usize),
    queries: Range<usize>,
    /// |q| of each query.
    lengths: Vec<f64>,
    /// First key read.
    pub start: usize,
    /// Behind the last key any of the queries sees.
    pub end: usize,
    /// Times the window grew.
    pub growths: usize,
}

/// The share of the tolerance that the first key is aimed at.
pub(super) const AIM: f64 = 0.9;

impl<'p, 'a, T: Real> Frontier<'p, 'a, T> {
    /// Before anything is read; the first window is `start..end`.
    pub fn new(problem: &'p Problem<'a, T>, place: (usize, usize), queries: Range<usize>) -> Self {
        let q = problem.q.rows(place, queries.clone());
        let nearest = visible(&problem.shape, queries.start);
        let start = match problem.tolerance {
            0.0 => 0,
            _ => nearest.saturating_sub(problem.first_keys) / ALIGN * ALIGN,
        };
        Self {
            lengths: q.outer_iter().map(|row| length(row.iter().copied())).collect(),
            end: visible(&problem.shape, queries.end - 1),
            problem,
            place,
            queries,
            start,
            growths: 0,
        }
    }

    /// Whether no key is left.
    pub fn at_the_beginning(&self) -> bool {
        self.start == 0
    }

    /// An upper bound of log U of query number `r` of the run, had it read from `start` on: what the
    /// unseen can add to the normaliser.
    pub fn log_unseen(&self, r: usize, tail: Tail, start: usize) -> f64 {
        let shape = &self.problem.shape;
        let (from, to) = self.unseen(r, start);
        let mass = tail.log_mass(from, to);
        if mass == f64::NEG_INFINITY {
            return mass;
        }
        let key_head = shape.key_head(self.place.1);
        let longest = self.problem.norms.before((self.place.0, key_head), start);
        let greatest = self.problem.potential.greatest(self.place.1, self.lengths[r], longest);
        let greatest = greatest.unwrap_or(f64::INFINITY);
        // Scores and sums are computed in T: what rounding can have moved them by is added.
        let terms = (shape.query_width + 8) as f64;
        let read = self.end.saturating_sub(start) as f64;
        let rounding =
            T::epsilon().f64() * (terms * greatest.abs() + 4.0 * mass.abs() + read + 64.0);
        if greatest == f64::INFINITY { greatest } else { greatest + mass + rounding }
    }

    /// The distances query number `r` has not seen, had it read from `start` on.
    pub fn unseen(&self, r: usize, start: usize) -> (f64, f64) {
        let position = (self.queries.start + r) as f64 + self.problem.shape.query_offset as f64;
        (position - start as f64 + 1.0, position)
    }

    /// Bounds on the lost mass, by query, from log Z seen.
    pub fn lost(&self, tails: &dyn Fn(usize) -> Tail, log_seen: &[f64]) -> Vec<f64> {
        let bound =
            |(r, &seen): (usize, &f64)| lost(seen, self.log_unseen(r, tails(r), self.start));
        log_seen.iter().enumerate().map(bound).collect()
    }

    /// Whether every bound is within the tolerance. What is NaN is not mended by reading on.
    pub fn is_within(&self, lost: &[f64]) -> bool {
        self.at_the_beginning() || !lost.iter().any(|&lost| lost > self.problem.tolerance)
    }

    /// Moves the first key back: the window doubles, but goes no farther than where the query that
    /// is worst off is certain to come within the share `aim` of the tolerance. Returns the keys to
    /// read.
    pub fn widen(
        &mut self,
        tails: &dyn Fn(usize) -> Tail,
        log_seen: &[f64],
        bounds: &[f64],
        aim: f64,
    ) -> Range<usize> {
        let before = self.start;
        let doubled = before.saturating_sub(self.end - before) / ALIGN * ALIGN;
        let worst = (0..bounds.len()).max_by(|&a, &b| bounds[a].total_cmp(&bounds[b]));
        let certain = worst.map_or(doubled, |r| {
            let enough = |start: usize| {
                let log_unseen = self.log_unseen(r, tails(r), start);
                lost(log_seen[r], log_unseen) <= aim * self.problem.tolerance
            };
            // The last aligned start that is enough: 0 is, and where one is, so is every smaller.
            let (mut low, mut high) = (doubled / ALIGN, before / ALIGN);
            while low + 1 < high {
                let middle = (low + high) / 2;
                *(if enough(middle * ALIGN) { &mut low } else { &mut high }) = middle;
            }
            low * ALIGN
        });
        self.start = certain.max(doubled).min(before - ALIGN.min(before));
        self.growths += 1;
        self.start..before
    }
}

/// log Z of every query from what was found.
pub(super) fn log_seen<T: Real>(finding: &Finding<T>) -> Vec<f64> {
    (0..finding.factors()).map(|row| finding.normalisers.log_z(row).f64()).collect()
}

/// An expectation of every query.
pub(super) fn expected<T: Real>(finding: &Finding<T>, statistic: Handle) -> Vec<f64> {
    finding.expectation(statistic).values.iter().map(|x| x.f64()).collect()
}
