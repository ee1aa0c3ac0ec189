//! Sets of edges that are kept, and priors that leave the others out.

use std::ops::Range;

use marginals_kernels::{Tile, TileMut};
use ndarray::{ArrayView4, ArrayViewMut4};

use crate::prior::{Coverage, NodeGradient, Prior, intersect};
use crate::{Accumulator, Block, Error, Parameter, Real, Shape};

/// A set of edges: for every query, or run of queries, some ranges of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub(super) queries: usize,
    /// Queries that share a list.
    pub(super) rows: usize,
    keys: usize,
    /// Batch entries, and heads of each, with lists of their own: all, or one for all.
    heads: (usize, usize),
    /// Ranges in order, apart from each other, head after head and run after run.
    lists: Vec<Vec<Range<usize>>>,
}

impl Kept {
    pub(super) fn new(shape: &Shape, rows: usize, lists: Vec<Vec<Range<usize>>>) -> Self {
        let heads = (shape.batch, shape.heads);
        Self { queries: shape.queries, rows, keys: shape.keys, heads, lists }
    }

    /// Keys at most `left` behind each query and at most `right` ahead of it.
    pub fn window(shape: &Shape, left: usize, right: usize) -> Self {
        let block = shape.block((0, 0), 0..shape.queries, 0..shape.keys);
        let list = |i: usize| {
            let position = i as i64 + block.lead();
            let at = |key: i64| usize::try_from(key).unwrap_or(0).min(shape.keys);
            let from = at(position.saturating_sub_unsigned(left as u64));
            let to = at(position.saturating_add_unsigned(right as u64).saturating_add(1));
            Some(from..to).filter(|keys| !keys.is_empty()).into_iter().collect()
        };
        let lists = (0..shape.queries).map(list).collect();
        Self { heads: (1, 1), ..Self::new(shape, 1, lists) }
    }

    /// The keys with these numbers, [B, H, N, K], as `top-k` answers them: −1 is none.
    ///
    /// # Errors
    /// [`Error::Shape`] where there are not as many lists as queries, and [`Error::Value`] for numbers of
    /// no key.
    pub fn keys(shape: &Shape, index: ArrayView4<'_, i64>) -> Result<Self, Error> {
        let expected = [shape.batch, shape.heads, shape.queries];
        if index.shape()[..3] != expected {
            let expected = format!("{expected:?} and any number of keys");
            let advice = "Give the keys of every query, -1 where there is none.";
            return Err(Error::shape("kept.keys", expected, index.shape(), advice));
        }
        let numbers = shape.key_offset..shape.key_offset + shape.keys as i64;
        let list = |row: ndarray::ArrayView1<'_, i64>| {
            let mut keys = Vec::with_capacity(row.len());
            for &number in row.iter().filter(|number| **number != -1) {
                if !numbers.contains(&number) {
                    let expected = format!("keys in {numbers:?}, or -1");
                    return Err(Error::value("kept.keys", expected, number));
                }
                let key = (number - shape.key_offset) as usize;
                keys.push(key..key + 1);
            }
            Ok(joined(keys))
        };
        let lists = index.rows().into_iter().map(list).collect::<Result<_, Error>>()?;
        Ok(Self::new(shape, 1, lists))
    }

    /// The tiles of `rows` queries and `columns` keys that `keep` says, by batch entry and head, and by
    /// number of the tile down and across.
    ///
    /// # Errors
    /// [`Error::Value`] for tiles of nothing.
    pub fn tiles(
        shape: &Shape,
        (rows, columns): (usize, usize),
        keep: impl Fn((usize, usize), (usize, usize)) -> bool,
    ) -> Result<Self, Error> {
        if rows == 0 || columns == 0 {
            let found = format!("{rows} × {columns}");
            return Err(Error::value("kept.tiles", "at least one query and one key", found));
        }
        let mut lists = Vec::new();
        for head in shape.all_heads() {
            for r in 0..shape.queries.div_ceil(rows) {
                let tiles = (0..shape.keys.div_ceil(columns)).filter(|&c| keep(head, (r, c)));
                let keys = tiles.map(|c| c * columns..((c + 1) * columns).min(shape.keys));
                lists.push(joined(keys.collect()));
            }
        }
        Ok(Self::new(shape, rows, lists))
    }

    /// Refuses to be used with other sizes.
    pub(super) fn check(&self, shape: &Shape) -> Result<(), Error> {
        let heads = (shape.batch, shape.heads);
        let found = [self.heads.0, self.heads.1, self.queries, self.keys];
        let fits = self.heads == (1, 1) || self.heads == heads;
        if fits && found[2..] == [shape.queries, shape.keys] {
            return Ok(());
        }
        Err(Error::shape(
            "kept",
            format!("{:?}", [heads.0, heads.1, shape.queries, shape.keys]),
            &found,
            "Keep edges of the posterior that is truncated.",
        ))
    }

    /// Number of a batch entry and head among those with lists of their own.
    fn head(&self, block: &Block) -> usize {
        match self.heads {
            (1, 1) => 0,
            (_, heads) => block.batch * heads + block.head,
        }
    }

    /// Runs of queries that share a list.
    pub(super) fn runs(&self, queries: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
        let rows = self.rows;
        (0..queries).step_by(rows).map(move |first| first..(first + rows).min(queries))
    }

    fn list(&self, head: usize, query: usize) -> &[Range<usize>] {
        let head = if self.heads == (1, 1) { 0 } else { head };
        &self.lists[head * self.queries.div_ceil(self.rows) + query / self.rows]
    }

    /// The keys of `among` that a query does not keep.
    pub(super) fn gaps(
        &self,
        head: usize,
        query: usize,
        among: Range<usize>,
    ) -> impl Iterator<Item = Range<usize>> {
        let list = self.list(head, query);
        let first = list.partition_point(|kept| kept.end <= among.start);
        let kept = list[first..].iter().take_while({
            let end = among.end;
            move |kept| kept.start < end
        });
        let (mut from, end) = (among.start, among.end);
        let ends = kept.cloned().chain(std::iter::once(end..end));
        ends.filter_map(move |kept| {
            let gap = from..kept.start.max(from);
            from = kept.end.max(from);
            (!gap.is_empty()).then_some(gap)
        })
    }

    /// Lists of the queries of a block.
    fn of_block<'k>(&'k self, block: &Block) -> impl Iterator<Item = &'k [Range<usize>]> {
        let head = self.head(block);
        let runs = match block.queries.is_empty() {
            true => 0..0,
            false => block.queries.start / self.rows..(block.queries.end - 1) / self.rows + 1,
        };
        runs.map(move |run| self.list(head, run * self.rows))
    }
}

/// Ranges in order, those that touch joined.
pub(super) fn joined(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// A prior within a set of edges: those outside are impossible.
pub(super) struct Within<P> {
    prior: P,
    kept: Kept,
}

impl<P> Within<P> {
    pub fn new(prior: P, kept: Kept) -> Self {
        Self { prior, kept }
    }

    /// Whether none, or all, of the edges of a block are kept.
    fn share(&self, block: &Block) -> Share {
        let (mut none, mut all) = (true, true);
        for list in self.kept.of_block(block) {
            let first = list.partition_point(|kept| kept.end <= block.keys.start);
            let kept = list.get(first).filter(|kept| kept.start < block.keys.end);
            none &= kept.is_none();
            all &= kept
                .is_some_and(|kept| kept.start <= block.keys.start && block.keys.end <= kept.end);
        }
        match (none, all) {
            (true, _) => Share::None,
            (_, true) => Share::All,
            _ => Share::Some,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    None,
    Some,
    All,
}

impl<T: Real, P: Prior<T>> Prior<T> for Within<P> {
    fn name(&self) -> &'static str {
        self.prior.name()
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        self.prior.check(shape)
    }
    fn add_log_weights(&self, block: &Block, mut scores: TileMut<'_, T>) {
        self.prior.add_log_weights(block, scores.reborrow());
        if self.share(block) == Share::All {
            return;
        }
        for (r, i) in block.queries.clone().enumerate() {
            let row = scores.row_mut(r);
            for gap in self.kept.gaps(self.kept.head(block), i, block.keys.clone()) {
                let gap = gap.start - block.keys.start..gap.end - block.keys.start;
                row[gap].fill(T::neg_infinity());
            }
        }
    }
    fn coverage(&self, block: &Block) -> Coverage {
        match (self.share(block), self.prior.coverage(block)) {
            (Share::None, _) | (_, Coverage::Empty) => Coverage::Empty,
            (Share::Some, Coverage::Free) => Coverage::Weighted,
            (_, coverage) => coverage,
        }
    }
    fn live_keys(&self, block: &Block) -> Range<usize> {
        let ends = |list: &[Range<usize>]| Some(list.first()?.start..list.last()?.end);
        let lists = self.kept.of_block(block).filter_map(ends);
        let hull = lists.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
        intersect(self.prior.live_keys(block), hull)
    }
    fn is_mask(&self) -> bool {
        self.prior.is_mask()
    }
    fn parameters(&self) -> Vec<Parameter> {
        self.prior.parameters()
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    ) {
        self.prior.accumulate_gradient(block, gradient, into);
    }
    fn add_references(&self, block: &Block, into: &mut [f64]) {
        self.prior.add_references(block, into);
    }
    fn accumulate_reference_gradient(
        &self,
        block: &Block,
        gradient: &[f64],
        into: &mut [Accumulator<'_, T>],
    ) {
        self.prior.accumulate_reference_gradient(block, gradient, into);
    }
    fn upper_bound(&self, block: &Block) -> Option<f64> {
        self.prior.upper_bound(block)
    }
    fn log_tail(&self, block: &Block) -> Option<f64> {
        self.prior.log_tail(block)
    }
    fn accumulate_node_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut NodeGradient<'_, T>,
    ) {
        self.prior.accumulate_node_gradient(block, gradient, into);
    }
    fn finish_node_gradients(&self, q: ArrayViewMut4<'_, T>, k: ArrayViewMut4<'_, T>) {
        self.prior.finish_node_gradients(q, k);
    }
}
