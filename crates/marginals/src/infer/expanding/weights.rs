//! The weights of expanding attention by distance, and the parameters they come from.

use std::borrow::Cow;
use std::sync::OnceLock;

use marginals_kernels::{InstructionSet, Tile};
use ndarray::Array3;

use super::windows::DistanceWeights;
use crate::special::{digamma_rise, ln_beta};
use crate::{Accumulator, Block, Error, Layout, Parameter, Real, Shape, model};

/// α and β of ρ ~ Beta(α, β): each [B, H, N], any axis of which may be 1, shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Concentrations {
    /// α > 0.
    pub alpha: Array3<f64>,
    /// β > 0.
    pub beta: Array3<f64>,
}

impl Concentrations {
    /// Refuses shapes that do not broadcast and numbers that are not positive and finite.
    pub(crate) fn check(&self, shape: &Shape) -> Result<(), Error> {
        for (name, values) in [("expanding.alpha", &self.alpha), ("expanding.beta", &self.beta)] {
            let sizes = [shape.batch, shape.heads, shape.queries];
            if values.shape().iter().zip(sizes).any(|(&own, size)| own != 1 && own != size) {
                return Err(Error::shape(
                    name,
                    format!("{sizes:?} (batch, heads, queries), any axis of which may be 1"),
                    values.shape(),
                    "Give one number for all, one per head, or one per query.",
                ));
            }
            let flat: Vec<f64> = values.iter().copied().collect();
            model::check_positive(name, &flat)?;
        }
        Ok(())
    }

    /// α and β of one query.
    pub(crate) fn of(&self, place: (usize, usize), query: usize) -> (f64, f64) {
        (self.alpha[entry(&self.alpha, place, query)], self.beta[entry(&self.beta, place, query)])
    }

    /// Whether either is given by query.
    fn by_query(&self) -> bool {
        self.alpha.dim().2 > 1 || self.beta.dim().2 > 1
    }
}

/// Index of a query's entry in an array any axis of which may be 1.
pub(crate) fn entry<A>(
    values: &Array3<A>,
    (batch, head): (usize, usize),
    query: usize,
) -> [usize; 3] {
    let (b, h, n) = values.dim();
    let own = |size: usize, index: usize| if size == 1 { 0 } else { index };
    [own(b, batch), own(h, head), own(n, query)]
}

/// Such an array as a learnable parameter. Numbers by query are too many to be summed by every
/// task.
fn parameter(name: &str, values: &Array3<f64>) -> Parameter {
    let (b, h, n) = values.dim();
    if n == 1 { Parameter::new(name, &[b, h, 1]) } else { Parameter::scores(name, [b, h, n, 1]) }
}

/// Adds a number per row of `block` to the gradient of such a parameter.
fn add_rows<T: Real>(
    values: &Array3<f64>,
    block: &Block,
    rows: &[f64],
    into: &mut Accumulator<'_, T>,
) {
    if parameter("", values).layout == Layout::Small {
        let [b, h, _] = entry(values, (block.batch, block.head), 0);
        into.add(b * values.dim().1 + h, rows.iter().sum());
    } else {
        let column: Vec<T> = rows.iter().map(|&x| T::of(x)).collect();
        into.add_tile(block, Tile::new(&column, column.len(), 1, 1));
    }
}

/// Distances per chunk of a table.
const CHUNK: usize = 1024;

/// log w(d) = log B(α + 1, β + d) − log B(α, β), ρ summed out.
///
/// Where α and β belong to a head the weights are tabled, in chunks of distances that are computed
/// when first needed; where they belong to a query they cost a logarithm per edge and pass.
#[derive(Debug)]
pub(crate) struct BetaGeometricWeights<'a, T> {
    concentrations: &'a Concentrations,
    heads: usize,
    /// Smallest distance a table holds.
    nearest: i64,
    /// By batch entry and head; weights within a chunk run from far to near, as keys do.
    tables: Vec<Vec<OnceLock<Vec<T>>>>,
}

/// log w of `count` distances from `first` on: the first in closed form, the others by
/// w(d + 1)/w(d) = (β + d)/(α + β + 1 + d).
fn log_weights(alpha: f64, beta: f64, first: i64, count: usize) -> impl Iterator<Item = f64> {
    let mut d = first as f64;
    let mut weight = ln_beta(alpha + 1.0, beta + d) - ln_beta(alpha, beta);
    (0..count).map(move |_| {
        let own = weight;
        weight += (-(alpha + 1.0) / (alpha + beta + 1.0 + d)).ln_1p();
        d += 1.0;
        own
    })
}

/// ∂log w/∂α and ∂log w/∂β of `count` distances from `first` on, by ψ₀(x + 1) = ψ₀(x) + 1/x.
fn slopes(alpha: f64, beta: f64, first: i64, count: usize) -> impl Iterator<Item = (f64, f64)> {
    let mut d = first as f64;
    let mut all = digamma_rise(alpha + beta, 1.0 + d);
    let mut own = if d > 0.0 { digamma_rise(beta, d) } else { 0.0 };
    (0..count).map(move |_| {
        let slopes = (1.0 / alpha - all, own - all);
        all += 1.0 / (alpha + beta + 1.0 + d);
        own += 1.0 / (beta + d);
        d += 1.0;
        slopes
    })
}

impl<'a, T: Real> BetaGeometricWeights<'a, T> {
    pub fn new(concentrations: &'a Concentrations, shape: &Shape) -> Self {
        let nearest = (shape.query_offset - (shape.keys as i64 - 1)).max(0);
        let farthest = (shape.queries as i64 - 1 + shape.query_offset).max(nearest);
        let chunks = (farthest - nearest) as usize / CHUNK + 1;
        let tables = if concentrations.by_query() { 0 } else { shape.batch * shape.heads };
        let table = || (0..chunks).map(|_| OnceLock::new()).collect();
        Self {
            concentrations,
            heads: shape.heads,
            nearest,
            tables: (0..tables).map(|_| table()).collect(),
        }
    }

    fn chunk(&self, place: (usize, usize), index: usize) -> &[T] {
        self.tables[place.0 * self.heads + place.1][index].get_or_init(|| {
            let (alpha, beta) = self.concentrations.of(place, 0);
            let first = self.nearest + (index * CHUNK) as i64;
            let mut chunk: Vec<T> = log_weights(alpha, beta, first, CHUNK).map(T::of).collect();
            chunk.reverse();
            chunk
        })
    }
}

impl<T: Real> DistanceWeights<T> for BetaGeometricWeights<'_, T> {
    fn add(&self, place: (usize, usize), query: usize, farthest: i64, row: &mut [T]) {
        if self.concentrations.by_query() {
            let (alpha, beta) = self.concentrations.of(place, query);
            let nearest = farthest - (row.len() as i64 - 1);
            let weights = log_weights(alpha, beta, nearest, row.len());
            row.iter_mut().rev().zip(weights).for_each(|(x, w)| *x += T::of(w));
            return;
        }
        let mut rest = row;
        let mut at = (farthest - self.nearest) as usize;
        while !rest.is_empty() {
            let in_chunk = at % CHUNK;
            let count = rest.len().min(in_chunk + 1);
            let weights = &self.chunk(place, at / CHUNK)[CHUNK - 1 - in_chunk..][..count];
            let (now, after) = rest.split_at_mut(count);
            InstructionSet::detect().run(
                #[inline(always)]
                || now.iter_mut().zip(weights).for_each(|(x, &w)| *x += w),
            );
            rest = after;
            at = at.wrapping_sub(count);
        }
    }
    fn parameters(&self) -> Vec<Parameter> {
        vec![
            parameter("expanding.alpha", &self.concentrations.alpha),
            parameter("expanding.beta", &self.concentrations.beta),
        ]
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    ) {
        let place = (block.batch, block.head);
        let Concentrations { alpha, beta } = self.concentrations;
        let (mut to_alpha, mut to_beta) = (vec![0.0; gradient.rows], vec![0.0; gradient.rows]);
        if self.concentrations.by_query() {
            for (r, i) in block.queries.clone().enumerate() {
                let nearest = block.distance(i, block.keys.end - 1).max(0);
                let count = (block.distance(i, block.keys.start) - nearest + 1).max(0) as usize;
                let (alpha, beta) = self.concentrations.of(place, i);
                let slopes = slopes(alpha, beta, nearest, count);
                for (&g, (a, b)) in gradient.row(r)[..count].iter().rev().zip(slopes) {
                    to_alpha[r] += g.f64() * a;
                    to_beta[r] += g.f64() * b;
                }
            }
        } else if gradient.rows > 0 && gradient.columns > 0 {
            // One pair of slopes serves a whole diagonal.
            let (nearest, farthest) = block.distances();
            let nearest = nearest.max(0);
            let count = (farthest - nearest + 1).max(0) as usize;
            let mut diagonals = vec![0.0; count];
            for (r, i) in block.queries.clone().enumerate() {
                let first = block.distance(i, block.keys.start);
                let live = ((first - nearest + 1).max(0) as usize).min(gradient.columns);
                let sums = diagonals[..(first - nearest + 1).max(0) as usize].iter_mut().rev();
                sums.zip(&gradient.row(r)[..live]).for_each(|(sum, &g)| *sum += g.f64());
            }
            let (alpha, beta) = self.concentrations.of(place, 0);
            for (&g, (a, b)) in diagonals.iter().zip(slopes(alpha, beta, nearest, count)) {
                to_alpha[0] += g * a;
                to_beta[0] += g * b;
            }
        }
        add_rows(alpha, block, &to_alpha, &mut into[0]);
        add_rows(beta, block, &to_beta, &mut into[1]);
    }
}

/// log w(d) = −λ_i d, a geometric whose rate is the query's own.
#[derive(Clone, Debug)]
pub(crate) struct Rates<'a> {
    /// λ of a run of queries.
    pub values: Cow<'a, [f64]>,
    /// Flat index of the first of them over [B, H, N].
    pub first: usize,
    pub shape: Shape,
}

impl Rates<'_> {
    fn of(&self, (batch, head): (usize, usize), query: usize) -> f64 {
        let flat = (batch * self.shape.heads + head) * self.shape.queries + query;
        self.values[flat - self.first]
    }
}

impl<T: Real> DistanceWeights<T> for Rates<'_> {
    fn add(&self, place: (usize, usize), query: usize, farthest: i64, row: &mut [T]) {
        let rate = T::of(self.of(place, query));
        let farthest = T::of(farthest as f64);
        InstructionSet::detect().run(
            #[inline(always)]
            || {
                for (c, x) in row.iter_mut().enumerate() {
                    *x -= rate * (farthest - T::of(c as f64));
                }
            },
        );
    }
    fn parameters(&self) -> Vec<Parameter> {
        let Shape { batch, heads, queries, .. } = self.shape;
        vec![Parameter::scores("expanding.rate", [batch, heads, queries, 1])]
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    ) {
        let of_row = |(r, i): (usize, usize)| -> T {
            let row = gradient.row(r).iter().zip(block.keys.clone());
            T::of(-row.map(|(&g, j)| g.f64() * block.distance(i, j).max(0) as f64).sum::<f64>())
        };
        let column: Vec<T> = block.queries.clone().enumerate().map(of_row).collect();
        into[0].add_tile(block, Tile::new(&column, column.len(), 1, 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::special::digamma;

    /// The closed form at every distance, against the running product and sum.
    #[test]
    fn recurrences_follow_the_closed_form() {
        for (alpha, beta) in [(0.3, 0.2), (1.0, 5.0), (12.0, 700.0)] {
            for first in [0, 3, 1_000_000] {
                let weights = log_weights(alpha, beta, first, CHUNK);
                for (k, (w, (a, b))) in weights.zip(slopes(alpha, beta, first, CHUNK)).enumerate() {
                    let d = first as f64 + k as f64;
                    let closed = ln_beta(alpha + 1.0, beta + d) - ln_beta(alpha, beta);
                    assert!((w - closed).abs() < 1e-13 * closed.abs().max(1.0), "{w} {closed}");
                    let all = digamma(alpha + beta + 1.0 + d) - digamma(alpha + beta);
                    let size = 1e-12 * (1.0 + 1.0 / beta + 1.0 / alpha);
                    assert!((a - (1.0 / alpha - all)).abs() < size);
                    assert!((b - (digamma(beta + d) - digamma(beta) - all)).abs() < size);
                }
            }
        }
    }
}
