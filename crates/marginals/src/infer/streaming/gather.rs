//! What queries gather, tile by tile.

use std::ops::Range;

use marginals_kernels::{InstructionSet, Tile, TileMut, dot_rows, scale_rows};

use super::heads::{Centred, HeadKeys};
use super::rule::at;
use super::{STRIDE, STRIP};
use crate::infer::finding::{Expectation, Finding, exact_sum, weighted};
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

/// How the edges of one query vary together.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edges<'a, T> {
    /// It has one at most.
    One,
    /// Each varies by itself. The weights of row r are p over entry r; over 1, where there is none.
    Many(&'a [T]),
}

/// Room that gathering needs.
pub(super) struct Room<'a, T> {
    /// A tile.
    pub tile: &'a mut [T],
    /// How fast log p moves, by tangent of the request; empty where tangents are covariances.
    pub tangents: &'a [Vec<T>],
    /// Part sums.
    pub part: &'a mut Vec<T>,
}

/// Most rows of any tile that is gathered from.
pub(super) const MOST_ROWS: usize = if STRIP > 128 { STRIP } else { 128 };

/// Adds what the weights of one tile say of every gathered statistic; `rows` are those of the
/// finding. Where edges vary one by one the weights end multiplied by 1 − p.
#[allow(clippy::too_many_arguments, reason = "the tile, its place and what it is added to")]
pub(super) fn gather<T: Real>(
    request: &Request<'_, T>,
    head_keys: &HeadKeys<'_, T>,
    block: &Block,
    mut weights: TileMut<'_, T>,
    rows: Range<usize>,
    (sums, edges): (Sums, Edges<'_, T>),
    room: Room<'_, T>,
    finding: &mut Finding<T>,
) {
    let set = InstructionSet::detect();
    let Room { tile, tangents, part } = room;
    let (n, m) = (weights.rows, weights.columns);
    let run = block.keys.start - head_keys.keys.start..block.keys.end - head_keys.keys.start;
    let span = |width: usize| rows.start * width..rows.end * width;
    let one_edge = matches!(edges, Edges::One);
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
                let mut values = TileMut::new(tile, n, m, STRIDE);
                function.fill(block, values.reborrow());
                let mut sums = [T::zero(); MOST_ROWS];
                dot_rows(set, weights.as_tile(), values.as_tile(), &mut sums[..n]);
                let own = &mut into.values[rows.clone()];
                own.iter_mut().zip(&sums[..n]).for_each(|(total, &sum)| *total += sum);
            }
            Linear::Covariance(ref function, table) | Linear::Tangent(ref function, table) => {
                let moved = match statistic {
                    Linear::Tangent(..) => moving.next(),
                    _ => None,
                };
                if moved.is_none() && !one_edge {
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
                if one_edge {
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
    let covariances: Vec<usize> = match one_edge {
        true => Vec::new(),
        false => (0..request.linear.len())
            .filter(|&index| match request.linear[index] {
                Linear::Covariance(..) => true,
                Linear::Tangent(..) => tangents.is_empty(),
                _ => false,
            })
            .collect(),
    };
    let are_used_up = variances().next().is_some() || !covariances.is_empty();
    if let (Edges::Many(scales), true) = (edges, are_used_up) {
        for r in 0..n {
            let scale = scales.get(r).copied().unwrap_or(T::one());
            weights.row_mut(r).iter_mut().for_each(|p| *p *= T::one() - *p * scale);
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
    for index in covariances {
        let (Linear::Covariance(function, table) | Linear::Tangent(function, table)) =
            &request.linear[index]
        else {
            continue;
        };
        let mut values = TileMut::new(tile, n, m, STRIDE);
        function.fill(block, values.reborrow());
        weight(weights.as_tile(), values.reborrow());
        let width = request.width(*table);
        let into = &mut finding.linear[index].values;
        let into = TileMut::new(&mut into[span(width)], n, width, width);
        let apart = &centred(head_keys, *table, block.head).apart;
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

/// Ends the sums of variances and covariances: from Σ p (v − r) and Σ p (v − r)², normalised, to the
/// mean and the variance. Where edges vary one by one, sums stay as they are.
pub(super) fn finish_spreads<T: Real>(
    request: &Request<'_, T>,
    head_keys: &HeadKeys<'_, T>,
    block: &Block,
    finding: &mut Finding<T>,
) {
    // Mass, scale and P(no edge). Sums may be in a scale of their own; that of their products is its
    // square.
    let of_row = |row: usize| -> [T; 3] {
        let (mass, scale) = (finding.mass[row], at(&finding.log_scale, row).exp());
        // By itself where it is known: 1 less a sum has its digits off the sum.
        let missing = match finding.log_none.get(row) {
            Some(log_none) => log_none.exp(),
            None => T::one() - mass * scale,
        };
        [mass, scale, missing]
    };
    let rows: Vec<[T; 3]> = (0..finding.mass.len()).map(of_row).collect();
    for (index, statistic) in request.linear.iter().enumerate() {
        let own = &mut finding.linear[index];
        match statistic {
            Linear::ValueVariance(table) => {
                let reference = &centred(head_keys, *table, block.head).reference;
                finish_variance(own, reference, &rows);
            }
            Linear::Covariance(function, table) | Linear::Tangent(function, table) => {
                let reference = &centred(head_keys, *table, block.head).reference;
                if !own.none_tangents.is_empty() {
                    finish_tangent(own, reference, &rows);
                    continue;
                }
                function.references(block, &mut own.edge_references);
                finish_covariance(own, reference, &rows);
            }
            Linear::LogProbability | Linear::LogRatio | Linear::Value(_) | Linear::Edge(_) => {}
        }
    }
}

fn finish_variance<T: Real>(own: &mut Expectation<T>, reference: &[T], rows: &[[T; 3]]) {
    let width = reference.len().max(1);
    let sums = own.values.chunks_exact_mut(width).zip(own.means.chunks_exact_mut(width));
    for ((variance, mean), &[mass, scale, missing]) in sums.zip(rows) {
        for ((variance, mean), &r) in variance.iter_mut().zip(mean).zip(reference) {
            // About the reference, and what is gathered against no edge, whose value is 0.
            let far = *mean + *mean + r * mass;
            let spread = *variance - *mean * *mean * scale + missing * r * far;
            *variance = if spread < T::zero() { T::zero() } else { spread };
            // What is not gathered has no reference either.
            *mean += r * mass;
        }
    }
}

/// From Σ p (s − c)(v − r), Σ p (s − c) and Σ p (v − r) to the covariance of s and v, both 0 of no edge.
fn finish_covariance<T: Real>(own: &mut Expectation<T>, reference: &[T], rows: &[[T; 3]]) {
    let width = reference.len();
    for (row, &[mass, scale, missing]) in rows.iter().enumerate() {
        let (of_edges, c) = (own.edge_means[row], own.edge_references[row]);
        if mass == T::zero() {
            // The reference of a query without an edge may be anything.
            own.edge_references[row] = T::zero();
            continue;
        }
        let list = row * width..(row + 1) * width;
        let pairs = own.values[list.clone()].iter_mut().zip(&mut own.means[list.clone()]);
        let pairs = pairs.zip(&mut own.mean_rests[list]).zip(reference);
        for (((covariance, mean), rest), &r) in pairs {
            let far = c * *mean + r * of_edges + c * r * mass;
            *covariance += weighted(missing, far) - of_edges * *mean * scale;
            (*mean, *rest) = exact_sum(r * mass, *mean);
        }
        if scale == T::one() {
            own.edge_means[row] = of_edges - weighted(missing, c);
        } else {
            (own.edge_means[row], own.edge_references[row]) = (of_edges + c * mass, T::zero());
        }
    }
}

/// From Σ ṗ (v − r) to Σ ṗ v, where keys are offered in turn.
fn finish_tangent<T: Real>(own: &mut Expectation<T>, reference: &[T], rows: &[[T; 3]]) {
    let width = reference.len();
    for (row, &[mass, scale, missing]) in rows.iter().enumerate() {
        // Σ ṗ is what P(no edge) loses, which is known to its own digits.
        let of_mass = match scale == T::one() {
            true => -weighted(missing, own.none_tangents[row]),
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
