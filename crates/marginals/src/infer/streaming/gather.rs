//! What queries gather, tile by tile.

use std::ops::Range;

use marginals_kernels::{InstructionSet, Tile, TileMut, dot_rows, scale_rows};

use super::heads::HeadKeys;
use super::softmax::not_negative;
use super::{STRIDE, STRIP};
use crate::infer::finding::{Finding, weighted};
use crate::infer::statistic::{Linear, Request};
use crate::{Block, Real};

/// How sums over many tiles are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sums {
    /// Relative to a running maximum: they stay of the size of their largest terms.
    Relative,
    /// Absolute: each tile is summed by itself first, or one long running sum would round every
    /// product to the size of all before it.
    Absolute,
}

/// Room that gathering needs.
pub(super) struct Room<'a, T> {
    /// A tile.
    pub tile: &'a mut [T],
    /// Part sums.
    pub part: &'a mut Vec<T>,
}

/// Most rows of any tile that is gathered from.
pub(super) const MOST_ROWS: usize = if STRIP > 128 { STRIP } else { 128 };

/// Whether the variance of some values is found.
pub(super) fn finds_variances<T: Real>(request: &Request<'_, T>) -> bool {
    request.linear.iter().any(|statistic| matches!(statistic, Linear::ValueVariance(_)))
}

/// Adds what the weights of one tile say of every gathered statistic; `rows` are those of the
/// finding. Where edges vary one by one `absent` holds 1 − p, known by itself: taken from p it would
/// have no digits where p is near 1. The weights end multiplied by it.
#[allow(clippy::too_many_arguments, reason = "the tile, its place and what it is added to")]
pub(super) fn gather<T: Real>(
    request: &Request<'_, T>,
    head_keys: &HeadKeys<'_, T>,
    block: &Block,
    mut weights: TileMut<'_, T>,
    rows: Range<usize>,
    (sums, absent): (Sums, Option<Tile<'_, T>>),
    room: Room<'_, T>,
    finding: &mut Finding<T>,
) {
    let set = InstructionSet::detect();
    let Room { tile, part } = room;
    let (n, m) = (weights.rows, weights.columns);
    let run = block.keys.start - head_keys.keys.start..block.keys.end - head_keys.keys.start;
    let span = |width: usize| rows.start * width..rows.end * width;
    for (index, statistic) in request.linear.iter().enumerate() {
        let into = &mut finding.linear[index];
        match *statistic {
            Linear::LogProbability | Linear::LogRatio | Linear::ValueVariance(_) => {}
            Linear::Value(table) => {
                let width = request.width(table);
                let into = TileMut::new(&mut into.values[span(width)], n, width, width);
                let values = head_keys.table(table, block.head).plain.as_ref();
                let values = values.expect("values that are averaged are prepared");
                match sums {
                    Sums::Relative => values.accumulate(weights.as_tile(), run.clone(), into),
                    Sums::Absolute => {
                        values.accumulate_apart(weights.as_tile(), run.clone(), into, part)
                    }
                }
            }
            Linear::Edge(function) => {
                let mut values = TileMut::new(tile, n, m, STRIDE);
                function.fill(block, values.reborrow());
                let mut sums = [T::zero(); MOST_ROWS];
                dot_rows(set, weights.as_tile(), values.as_tile(), &mut sums[..n]);
                let own = &mut into.values[rows.clone()];
                own.iter_mut().zip(&sums[..n]).for_each(|(total, &sum)| *total += sum);
            }
            Linear::EdgeTimesValue(function, table) => {
                let mut values = TileMut::new(tile, n, m, STRIDE);
                function.fill(block, values.reborrow());
                for r in 0..n {
                    let pairs = values.row_mut(r).iter_mut().zip(weights.row(r));
                    // An impossible edge contributes nothing, whatever the function says of it.
                    pairs.for_each(|(f, &p)| *f = if p == T::zero() { p } else { *f * p });
                }
                let width = request.width(table);
                let into = TileMut::new(&mut into.values[span(width)], n, width, width);
                let table = head_keys.table(table, block.head).plain.as_ref();
                let table = table.expect("values that are averaged are prepared");
                table.accumulate_apart(values.as_tile(), run.clone(), into, part);
            }
        }
    }
    // Last: where edges vary one by one the weights are used up.
    let variances = || {
        request.linear.iter().enumerate().filter_map(|(index, statistic)| match *statistic {
            Linear::ValueVariance(table) => Some((index, table)),
            _ => None,
        })
    };
    for (index, table) in variances() {
        let width = request.width(table);
        let centred = head_keys.table(table, block.head).centred.as_ref();
        let centred = centred.expect("values whose variance is found are prepared");
        let into = &mut finding.linear[index].means;
        let into = TileMut::new(&mut into[span(width)], n, width, width);
        centred.apart.accumulate_apart(weights.as_tile(), run.clone(), into, part);
    }
    if let Some(absent) = absent {
        for r in 0..n {
            let pairs = weights.row_mut(r).iter_mut().zip(absent.row(r));
            pairs.for_each(|(p, &absent)| *p = weighted(*p, absent));
        }
    }
    for (index, table) in variances() {
        let width = request.width(table);
        let centred = head_keys.table(table, block.head).centred.as_ref();
        let centred = centred.expect("values whose variance is found are prepared");
        let into = &mut finding.linear[index].values;
        let into = TileMut::new(&mut into[span(width)], n, width, width);
        centred.squares.accumulate_apart(weights.as_tile(), run.clone(), into, part);
    }
}

/// Brings what was gathered against an old maximum to the new one.
pub(super) fn rescale<T: Real>(
    request: &Request<'_, T>,
    factor: &[T],
    rows: Range<usize>,
    finding: &mut Finding<T>,
) {
    if factor.iter().all(|&f| f == T::one()) {
        return;
    }
    each_gathered(request, finding, |width, list| {
        let set = InstructionSet::detect();
        let span = rows.start * width..rows.end * width;
        scale_rows(set, TileMut::new(&mut list[span], rows.len(), width, width), factor);
    });
}

/// Every list of gathered sums, with its numbers per query.
pub(super) fn each_gathered<T: Real>(
    request: &Request<'_, T>,
    finding: &mut Finding<T>,
    mut f: impl FnMut(usize, &mut [T]),
) {
    for index in (0..request.linear.len()).filter(|&index| !request.is_of_factors(index)) {
        let width = request.columns(index);
        let own = &mut finding.linear[index];
        for list in [&mut own.values, &mut own.means] {
            if !list.is_empty() {
                f(width, list);
            }
        }
    }
}

/// Ends the sums of variances where a query has one edge at most: from Σ p (v − r) and Σ p (v − r)² to
/// mean and variance, given that there is an edge.
pub(super) fn finish_variances<T: Real>(
    request: &Request<'_, T>,
    head_keys: &HeadKeys<'_, T>,
    head: usize,
    finding: &mut Finding<T>,
) {
    for (index, statistic) in request.linear.iter().enumerate() {
        let Linear::ValueVariance(table) = *statistic else { continue };
        let centred = head_keys.table(table, head).centred.as_ref();
        let reference = &centred.expect("values whose variance is found are prepared").reference;
        let own = &mut finding.linear[index];
        let width = request.width(table).max(1);
        let rows = own.values.chunks_exact_mut(width).zip(own.means.chunks_exact_mut(width));
        for ((variance, mean), &mass) in rows.zip(&finding.mass) {
            if mass == T::zero() {
                continue;
            }
            for (variance, mean) in variance.iter_mut().zip(mean) {
                *mean /= mass;
                *variance = not_negative(*variance / mass - *mean * *mean);
            }
        }
        let references = own.references.chunks_exact_mut(width);
        references.for_each(|own| own.copy_from_slice(reference));
    }
}
