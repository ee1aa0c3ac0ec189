//! Sums that queries gather, tile by tile.

use std::ops::Range;

use marginals_kernels::{InstructionSet, Tile, TileMut, dot_rows, scale_rows};

use super::blocks::{STRIDE, STRIP};
use super::heads::{Centred, HeadKeys};
use super::softmax::not_negative;
use crate::infer::finding::{Expectation, Finding, at, weighted};
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
    /// How fast log p moves, a tile for each tangent of the request; empty where tangents are covariances.
    pub tangents: &'a [Vec<T>],
    /// Part sums.
    pub part: &'a mut Vec<T>,
}

/// Most rows of any tile that is gathered from.
pub(super) const MOST_ROWS: usize = if STRIP > 128 { STRIP } else { 128 };

/// Whether the variance of some values is found, or a covariance with them.
pub(super) fn finds_spreads<T: Real>(request: &Request<'_, T>) -> bool {
    request.linear.iter().any(|statistic| {
        matches!(statistic, Linear::ValueVariance(_) | Linear::Covariance(..) | Linear::Tangent(..))
    })
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
    let Room { tile, tangents, part } = room;
    let (n, m) = (weights.rows, weights.columns);
    let run = block.keys.start - head_keys.keys.start..block.keys.end - head_keys.keys.start;
    let span = |width: usize| rows.start * width..rows.end * width;
    let mut moving = tangents.iter();
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
            Linear::Edge(ref function) => {
                let live = function.live_keys(block);
                if live.is_empty() {
                    continue;
                }
                let columns = live.start - block.keys.start..live.end - block.keys.start;
                let weights = weights.as_tile().columns(columns);
                let block = Block { keys: live, ..block.clone() };
                let mut values = TileMut::new(tile, n, block.keys.len(), STRIDE);
                function.fill(&block, values.reborrow());
                let mut sums = [T::zero(); MOST_ROWS];
                dot_rows(set, weights, values.as_tile(), &mut sums[..n]);
                let own = &mut into.values[rows.clone()];
                own.iter_mut().zip(&sums[..n]).for_each(|(total, &sum)| *total += sum);
            }
            Linear::Covariance(ref function, table) | Linear::Tangent(ref function, table) => {
                let moved = match statistic {
                    Linear::Tangent(..) => moving.next(),
                    _ => None,
                };
                if moved.is_none() && absent.is_some() {
                    continue;
                }
                let mut values = TileMut::new(tile, n, m, STRIDE);
                match moved {
                    Some(moved) => {
                        let moved = Tile::new(moved, n, m, STRIDE);
                        (0..n).for_each(|r| values.row_mut(r).copy_from_slice(moved.row(r)));
                    }
                    None => function.fill_apart(block, values.reborrow()),
                }
                weight(weights.as_tile(), values.reborrow());
                let width = request.width(table);
                let apart = &centred(head_keys, table, block.head).apart;
                let sums = TileMut::new(&mut into.values[span(width)], n, width, width);
                apart.accumulate_apart(values.as_tile(), run.clone(), sums, part);
                if absent.is_none() {
                    for (r, mean) in into.edge_means[rows.clone()].iter_mut().enumerate() {
                        *mean += values.row(r).iter().copied().sum();
                    }
                    let means = TileMut::new(&mut into.means[span(width)], n, width, width);
                    apart.accumulate_apart(weights.as_tile(), run.clone(), means, part);
                }
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
        let into = &mut finding.linear[index].means;
        let into = TileMut::new(&mut into[span(width)], n, width, width);
        let apart = &centred(head_keys, table, block.head).apart;
        apart.accumulate_apart(weights.as_tile(), run.clone(), into, part);
    }
    if let Some(absent) = absent {
        for r in 0..n {
            let pairs = weights.row_mut(r).iter_mut().zip(absent.row(r));
            pairs.for_each(|(p, &absent)| *p = weighted(*p, absent));
        }
    }
    for (index, table) in variances() {
        let width = request.width(table);
        let squares = centred(head_keys, table, block.head).squares.as_ref();
        let squares = squares.expect("values whose variance is found are prepared");
        let into = &mut finding.linear[index].values;
        let into = TileMut::new(&mut into[span(width)], n, width, width);
        squares.accumulate_apart(weights.as_tile(), run.clone(), into, part);
    }
    if absent.is_none() {
        return;
    }
    for (index, statistic) in request.linear.iter().enumerate() {
        let (function, table) = match statistic {
            Linear::Covariance(function, table) => (function, *table),
            Linear::Tangent(function, table) if tangents.is_empty() => (function, *table),
            _ => continue,
        };
        let mut values = TileMut::new(tile, n, m, STRIDE);
        function.fill(block, values.reborrow());
        weight(weights.as_tile(), values.reborrow());
        let width = request.width(table);
        let into = &mut finding.linear[index].values;
        let into = TileMut::new(&mut into[span(width)], n, width, width);
        let apart = &centred(head_keys, table, block.head).apart;
        apart.accumulate_apart(values.as_tile(), run.clone(), into, part);
    }
}

/// Values about a reference, of a table of which a variance or a covariance is found.
fn centred<'k, 'a, T: Real>(
    head_keys: &'k HeadKeys<'a, T>,
    table: usize,
    head: usize,
) -> &'k Centred<'a, T> {
    let centred = head_keys.table(table, head).centred.as_ref();
    centred.expect("values whose spread is found are prepared")
}

/// Multiplies values of edges by their weights. An impossible edge contributes nothing, whatever a
/// function says of it.
fn weight<T: Real>(weights: Tile<'_, T>, mut values: TileMut<'_, T>) {
    for r in 0..values.rows {
        let pairs = values.row_mut(r).iter_mut().zip(weights.row(r));
        pairs.for_each(|(f, &p)| *f = if p == T::zero() { p } else { *f * p });
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
        let lists = [(width, &mut own.values), (width, &mut own.means), (1, &mut own.edge_means)];
        for (width, list) in lists {
            if !list.is_empty() {
                f(width, list);
            }
        }
    }
}

/// Ends the sums of variances and covariances where a query has one edge at most: from Σ p (v − r) and
/// Σ p (v − r)² to mean and variance, from Σ p (f − c)(v − r), Σ p (f − c) and Σ p (v − r) to means and
/// covariance, given that there is an edge.
pub(super) fn finish_spreads<T: Real>(
    request: &Request<'_, T>,
    head_keys: &HeadKeys<'_, T>,
    block: &Block,
    finding: &mut Finding<T>,
) {
    for (index, statistic) in request.linear.iter().enumerate() {
        let own = &mut finding.linear[index];
        let reference = |table: usize| &centred(head_keys, table, block.head).reference;
        match *statistic {
            Linear::ValueVariance(table) => {
                finish_variance(own, reference(table), &finding.mass);
            }
            Linear::Tangent(_, table) if !own.none_tangents.is_empty() => {
                let none = (&finding.log_none[..], &finding.log_scale[..]);
                finish_tangent(own, reference(table), &finding.mass, none);
            }
            Linear::Covariance(ref function, table) | Linear::Tangent(ref function, table) => {
                function.references(block, &mut own.edge_references);
                finish_covariance(own, reference(table), &finding.mass);
            }
            Linear::LogProbability | Linear::LogRatio | Linear::Value(_) | Linear::Edge(_) => {}
        }
    }
}

fn finish_variance<T: Real>(own: &mut Expectation<T>, reference: &[T], mass: &[T]) {
    let width = reference.len().max(1);
    let rows = own.values.chunks_exact_mut(width).zip(own.means.chunks_exact_mut(width));
    for ((variance, mean), &mass) in rows.zip(mass) {
        if mass == T::zero() {
            continue;
        }
        for (variance, mean) in variance.iter_mut().zip(mean) {
            *mean /= mass;
            *variance = not_negative(*variance / mass - *mean * *mean);
        }
    }
    own.references.chunks_exact_mut(width).for_each(|own| own.copy_from_slice(reference));
}

fn finish_covariance<T: Real>(own: &mut Expectation<T>, reference: &[T], mass: &[T]) {
    let width = reference.len().max(1);
    let rows = own.values.chunks_exact_mut(width).zip(own.means.chunks_exact_mut(width));
    let edges = own.edge_means.iter_mut().zip(&mut own.edge_references);
    for (((covariance, mean), (edge_mean, edge_reference)), &mass) in rows.zip(edges).zip(mass) {
        if mass == T::zero() {
            // The reference of a query without an edge may be anything.
            *edge_reference = T::zero();
            continue;
        }
        *edge_mean /= mass;
        for (covariance, mean) in covariance.iter_mut().zip(mean) {
            *mean /= mass;
            *covariance = *covariance / mass - *edge_mean * *mean;
        }
    }
    own.references.chunks_exact_mut(width).for_each(|own| own.copy_from_slice(reference));
}

/// From Σ ṗ (v − r) and Σ p (v − r) to Σ ṗ v and Σ p v, where keys are offered in turn.
fn finish_tangent<T: Real>(
    own: &mut Expectation<T>,
    reference: &[T],
    mass: &[T],
    (log_none, log_scale): (&[T], &[T]),
) {
    let width = reference.len();
    for (row, &mass) in mass.iter().enumerate() {
        // Σ ṗ is what P(no edge) loses, which is known to its own digits.
        let of_mass = match at(log_scale, row) == T::zero() {
            true => -weighted(log_none[row].exp(), own.none_tangents[row]),
            false => own.edge_means[row],
        };
        let list = row * width..(row + 1) * width;
        let pairs = own.values[list.clone()].iter_mut().zip(&mut own.means[list]);
        for ((tangent, mean), &r) in pairs.zip(reference) {
            *tangent += r * of_mass;
            *mean += r * mass;
        }
    }
}
