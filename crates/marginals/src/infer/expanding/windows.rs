//! Which keys each query sees, and what they weigh.

use std::fmt::Debug;
use std::ops::Range;

use marginals_kernels::{Tile, TileMut};

use crate::infer::streaming::BACKWARD_QUERIES;
use crate::prior::{Coverage, Prior, intersect};
use crate::{Accumulator, Block, Parameter, Real, Shape};

/// Queries that share the first key of their windows: a tile of the backward pass, so that no tile
/// reaches outside a window.
const QUERIES: usize = BACKWARD_QUERIES;

/// The keys each query sees: from the first key of its block of queries to the one beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    shape: Shape,
    /// First keys, by batch entry, head and block of queries; multiples of what keys are packed by.
    starts: Vec<usize>,
}

impl Windows {
    /// Every key at or behind the query.
    pub(crate) fn causal(shape: Shape) -> Self {
        let blocks = shape.queries.div_ceil(QUERIES);
        Self { shape, starts: vec![0; shape.batch * shape.heads * blocks] }
    }

    fn index(&self, (batch, head): (usize, usize), query: usize) -> usize {
        let blocks = self.shape.queries.div_ceil(QUERIES);
        (batch * self.shape.heads + head) * blocks + query / QUERIES
    }

    /// Lets the windows of the block that `query` is in start at key `start`.
    pub(crate) fn set_start(&mut self, place: (usize, usize), query: usize, start: usize) {
        let index = self.index(place, query);
        self.starts[index] = start;
    }

    /// The first key of the window of `query`.
    pub(crate) fn start(&self, place: (usize, usize), query: usize) -> usize {
        self.starts[self.index(place, query)]
    }

    /// The keys that `query` of batch entry and head `place` sees.
    pub fn keys(&self, place: (usize, usize), query: usize) -> Range<usize> {
        let end = visible(&self.shape, query);
        self.start(place, query).min(end)..end
    }
}

/// Number of keys at or behind `query`.
pub(crate) fn visible(shape: &Shape, query: usize) -> usize {
    let end = (query as i64 + shape.query_offset).saturating_add(1);
    usize::try_from(end).map_or(0, |end| end.min(shape.keys))
}

/// Runs of queries of one head that share a window, in order. Those no key lies behind are in runs
/// of their own.
pub(crate) fn runs(shape: &Shape) -> Vec<Range<usize>> {
    let first = (0..shape.queries).find(|&i| visible(shape, i) > 0).unwrap_or(shape.queries);
    let mut runs = Vec::new();
    for start in (0..shape.queries).step_by(QUERIES) {
        let end = (start + QUERIES).min(shape.queries);
        let cut = first.clamp(start, end);
        runs.extend([start..cut, cut..end].into_iter().filter(|run| !run.is_empty()));
    }
    runs
}

/// Log-weights by distance: how far the key lies behind the query.
pub(crate) trait DistanceWeights<T>: Debug + Send + Sync {
    /// Adds the log-weights of `query` to a row whose first entry is at distance `farthest` and
    /// each further one a step nearer; no distance in it is negative.
    fn add(&self, place: (usize, usize), query: usize, farthest: i64, row: &mut [T]);

    /// As [`Prior::parameters`].
    fn parameters(&self) -> Vec<Parameter>;

    /// As [`Prior::accumulate_gradient`]; entries at negative distances are to be passed over.
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    );
}

/// The prior of expanding attention: weights by distance within windows, nothing outside them.
///
/// With it any question can be asked of the posterior that an expanding pass found.
#[derive(Clone, Copy, Debug)]
pub struct ExpandingPrior<'a, T> {
    pub(crate) windows: &'a Windows,
    pub(crate) weights: &'a dyn DistanceWeights<T>,
}

impl<T: Real> Prior<T> for ExpandingPrior<'_, T> {
    fn name(&self) -> &'static str {
        "expanding"
    }
    fn add_log_weights(&self, block: &Block, mut scores: TileMut<'_, T>) {
        let place = (block.batch, block.head);
        for (r, i) in block.queries.clone().enumerate() {
            let keep = intersect(block.keys.clone(), self.windows.keys(place, i));
            let (from, to) = (keep.start - block.keys.start, keep.end - block.keys.start);
            let row = scores.row_mut(r);
            row[..from].fill(T::neg_infinity());
            row[to..].fill(T::neg_infinity());
            if !keep.is_empty() {
                let farthest = block.distance(i, keep.start);
                self.weights.add(place, i, farthest, &mut row[from..to]);
            }
        }
    }
    fn coverage(&self, block: &Block) -> Coverage {
        match <Self as Prior<T>>::live_keys(self, block).is_empty() {
            true => Coverage::Empty,
            false => Coverage::Weighted,
        }
    }
    fn live_keys(&self, block: &Block) -> Range<usize> {
        let place = (block.batch, block.head);
        let Some(last) = block.queries.clone().last() else {
            return block.keys.start..block.keys.start;
        };
        let blocks = block.queries.clone().step_by(QUERIES).chain([last]);
        let start = blocks.map(|i| self.windows.start(place, i)).min().unwrap_or(0);
        intersect(block.keys.clone(), start..visible(&self.windows.shape, last))
    }
    fn parameters(&self) -> Vec<Parameter> {
        self.weights.parameters()
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    ) {
        self.weights.accumulate_gradient(block, gradient, into)
    }
}
