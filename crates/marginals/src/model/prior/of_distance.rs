//! Priors that are functions of distance.

use std::ops::Range;

use marginals_kernels::{InstructionSet, Tile, TileMut, add_log_weight, add_log_weights};
use ndarray::ArrayViewMut4;

use super::causal::Causal;
use super::contract::{Coverage, Prior, hand_on_prior, intersect};
use super::product::Combine;
use crate::distance::{AnyDistance, Distance};
use crate::model::nodes::{NodeGradient, Nodes};
use crate::model::part::{List, Part};
use crate::special::log_add;
use crate::{Accumulator, Block, Error, Parameter, Positions, Real, Reference, Shape};

/// A log-weight that is a function of how far key j lies behind query i: log w_ij = f(d_ij).
///
/// The distance d is a [`Distance`]: their difference in position ([`Index`](crate::distance::Index)),
/// unless the part says otherwise. The function is evaluated in `f64`; where d is the index a tile has
/// only rows + columns − 1 different values of it, so that it may be costly. It is a prior with a
/// distance: [`over`](OfDistance::over) gives it one.
pub trait OfDistance: Part + Clone + Send + Sync {
    /// The distance d, where files may name one.
    fn distance(&self) -> &AnyDistance {
        &AnyDistance::INDEX
    }

    /// Refuses sizes and numbers that make no sense.
    ///
    /// # Errors
    /// [`Error`], naming the number.
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        self.check_numbers(shape)
    }

    /// f(d) in `head`; d is negative for keys ahead.
    fn log_weight(&self, head: usize, d: f64) -> f64;

    /// f(d) − f(from), where a closed form has more digits than the difference of both: far away they are
    /// large and nearly equal.
    fn difference(&self, _head: usize, _d: f64, _from: f64) -> Option<f64> {
        None
    }

    /// f′(d), at a kink that of larger d: what a distance with gradients of its own needs.
    fn slope(&self, head: usize, d: f64) -> f64;

    /// Learnable parameters, in the order of `into` below.
    fn parameters(&self) -> Vec<Parameter> {
        self.learnable()
    }

    /// Adds g · ∂f(d)/∂parameter to each parameter.
    fn gradient<T: Real>(&self, head: usize, d: f64, g: f64, into: &mut [Accumulator<'_, T>]);

    /// An upper bound of f between two distances of one sign, `near` the smaller one.
    fn upper_bound(&self, _head: usize, _near: f64, _far: f64) -> Option<f64> {
        None
    }

    /// An upper bound of log Σ_d e^f(d) over every whole distance from `near` to `far`.
    fn log_tail(&self, head: usize, near: f64, far: f64) -> Option<f64> {
        Some(self.upper_bound(head, near, far)? + (far.abs() - near.abs() + 1.0).ln())
    }

    /// The prior of this function over a distance.
    fn over<D>(self, distance: D) -> Over<Self, D> {
        Over { function: self, distance }
    }
}

/// A function of distance over a distance: log w_ij = f(d_ij).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Over<F, D> {
    function: F,
    distance: D,
}

impl<F, D> Combine for Over<F, D> {}

hand_on_prior!(
    [T: Real, F: OfDistance, D: Distance<T>] Over<F, D>,
    this => Lent(&this.function, &this.distance);
    fn bind<'n>(&'n self, nodes: &Nodes<'n, '_, T>) -> Option<Box<dyn Prior<T> + 'n>> {
        let distance = self.distance.bind(nodes)?;
        Some(Box::new(Over { function: self.function.clone(), distance }))
    }
);

/// A function over a distance, both somewhere else.
pub(super) struct Lent<'l, F, D>(pub &'l F, pub &'l D);

impl<T: Real, F: OfDistance, D: Distance<T>> Prior<T> for Lent<'_, F, D> {
    fn name(&self) -> &'static str {
        F::NAME
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        self.0.check(shape)?;
        self.1.check(shape)?;
        // A function that was read from a file has its distance in name only, until it is built.
        let named = List::part(self.0.distance()).name();
        match self.1.is_index() && !self.0.distance().is_index() {
            true => Err(Error::value(format!("{}.distance", F::NAME), "a built distance", named)),
            false => Ok(()),
        }
    }
    fn add_log_weights(&self, block: &Block, mut scores: TileMut<'_, T>) {
        if self.1.is_index() {
            return add_along_diagonals(self.0, block, scores);
        }
        if !self.1.sees_ahead() {
            Causal.add_log_weights(block, scores.reborrow());
        }
        let columns = scores.columns;
        let distances = distances(self.1, block);
        for (r, d) in distances.chunks_exact(columns.max(1)).enumerate() {
            for (x, &d) in scores.row_mut(r).iter_mut().zip(d) {
                // Functions need not have a limit.
                let log_weight = match d == f64::INFINITY {
                    true => f64::NEG_INFINITY,
                    false => self.0.log_weight(block.head, d),
                };
                *x = add_log_weight(*x, T::of(log_weight));
            }
        }
    }
    fn coverage(&self, block: &Block) -> Coverage {
        if self.1.reach(block).is_empty() {
            return Coverage::Empty;
        }
        match self.1.sees_ahead() || Prior::<T>::coverage(&Causal, block) != Coverage::Empty {
            true => Coverage::Weighted,
            false => Coverage::Empty,
        }
    }
    fn live_keys(&self, block: &Block) -> Range<usize> {
        let reach = self.1.reach(block);
        match self.1.sees_ahead() {
            true => reach,
            false => intersect(reach, Prior::<T>::live_keys(&Causal, block)),
        }
    }
    fn parameters(&self) -> Vec<Parameter> {
        let mut all = self.0.parameters();
        all.extend(self.1.parameters());
        all
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    ) {
        if self.1.is_index() {
            return gradient_along_diagonals(self.0, block, gradient, into);
        }
        let (own, of_distance) = into.split_at_mut(self.0.parameters().len());
        let distances = distances(self.1, block);
        for (r, d) in distances.chunks_exact(gradient.columns.max(1)).enumerate() {
            // An edge without gradient may have any distance.
            let pairs = d.iter().zip(gradient.row(r)).filter(|(_, g)| **g != T::zero());
            pairs.for_each(|(&d, g)| self.0.gradient(block.head, d, g.f64(), own));
        }
        if !of_distance.is_empty() {
            let slopes = self.through_distance(block.head, distances, gradient);
            let (rows, columns) = (gradient.rows, gradient.columns);
            let tile = Tile::new(&slopes, rows, columns, columns);
            self.1.accumulate_gradient(block, tile, of_distance);
        }
    }
    fn add_references(&self, block: &Block, into: &mut [f64]) {
        let Some(nearest) = self.nearest::<T>(block) else { return };
        for (sum, d) in into.iter_mut().zip(nearest) {
            *sum += d.map_or(0.0, |d| self.0.log_weight(block.head, d));
        }
    }
    fn accumulate_reference_gradient(
        &self,
        block: &Block,
        gradient: &[f64],
        into: &mut [Accumulator<'_, T>],
    ) {
        let Some(nearest) = self.nearest::<T>(block) else { return };
        for (d, &g) in nearest.into_iter().zip(gradient).filter(|(_, g)| **g != 0.0) {
            if let Some(d) = d {
                self.0.gradient(block.head, d, g, into);
            }
        }
    }
    fn upper_bound(&self, block: &Block) -> Option<f64> {
        if !self.1.is_index() {
            let range = self.1.range(block)?;
            return match range.start < f64::INFINITY {
                true => self.0.upper_bound(block.head, range.start, range.end),
                false => Some(f64::NEG_INFINITY),
            };
        }
        self.each_bound::<T>(block, |near, far| self.0.upper_bound(block.head, near, far), f64::max)
    }
    fn log_tail(&self, block: &Block) -> Option<f64> {
        if !self.1.is_index() {
            let count = Prior::<T>::live_keys(self, block).len() as f64;
            return Some(Prior::<T>::upper_bound(self, block)? + count.ln());
        }
        self.each_bound::<T>(block, |near, far| self.0.log_tail(block.head, near, far), log_add)
    }
    fn accumulate_node_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut NodeGradient<'_, T>,
    ) {
        if self.1.is_index() {
            return;
        }
        let slopes = self.through_distance(block.head, distances(self.1, block), gradient);
        let (rows, columns) = (gradient.rows, gradient.columns);
        self.1.accumulate_node_gradient(block, Tile::new(&slopes, rows, columns, columns), into);
    }
    fn finish_node_gradients(&self, q: ArrayViewMut4<'_, T>, k: ArrayViewMut4<'_, T>) {
        self.1.finish_node_gradients(q, k);
    }
}

impl<F: OfDistance, D> Lent<'_, F, D> {
    /// ∂L/∂d_ij = g_ij f′(d_ij), from the distances of a tile, row after row.
    fn through_distance<T: Real>(
        &self,
        head: usize,
        mut distances: Vec<f64>,
        gradient: Tile<'_, T>,
    ) -> Vec<f64> {
        for (r, row) in distances.chunks_exact_mut(gradient.columns.max(1)).enumerate() {
            for (d, &g) in row.iter_mut().zip(gradient.row(r)) {
                // An edge without gradient may have any distance.
                *d = if g == T::zero() { 0.0 } else { g.f64() * self.0.slope(head, *d) };
            }
        }
        distances
    }

    /// The distance of the nearest node of every query, or key, whose reference is wanted, where it is
    /// not 0; none where no reference is.
    fn nearest<T: Real>(&self, block: &Block) -> Option<Vec<Option<f64>>>
    where
        D: Distance<T>,
    {
        if self.1.is_index() { nearest(self.0, block) } else { None }
    }

    /// The largest over the queries of `block` of what `bound` says of the keys behind and of those
    /// ahead, put together by `both`, less the query's reference.
    fn each_bound<T: Real>(
        &self,
        block: &Block,
        bound: impl Fn(f64, f64) -> Option<f64>,
        both: impl Fn(f64, f64) -> f64,
    ) -> Option<f64>
    where
        D: Distance<T>,
    {
        // References of keys are another one for every term of a sum.
        if !self.1.is_index() || block.positions.reference == Reference::OfKey {
            return None;
        }
        let nearest = nearest(self.0, block);
        let mut largest = f64::NEG_INFINITY;
        for (r, i) in block.queries.clone().enumerate().filter(|_| !block.keys.is_empty()) {
            let (last, first) =
                (block.distance(i, block.keys.end - 1), block.distance(i, block.keys.start));
            let behind = (first >= 0).then(|| bound(last.max(0) as f64, first as f64));
            let ahead = (last < 0).then(|| bound(first.min(-1) as f64, last as f64));
            let sum = match (behind, ahead) {
                (Some(behind), Some(ahead)) => both(behind?, ahead?),
                (one, other) => one.or(other).flatten()?,
            };
            let reference = nearest.as_ref().and_then(|nearest| nearest[r]);
            let reference = reference.map_or(0.0, |d| self.0.log_weight(block.head, d));
            // Differences of large numbers are right to their last digits.
            let rounding = 8.0 * f64::EPSILON * reference.abs();
            largest = largest.max(sum - reference + rounding);
        }
        Some(largest)
    }
}

/// The distance by index from each query of `block` to the nearest of all keys, or from each key to
/// the nearest of all queries, whichever references are of. Absent where it is 0 or its log-weight
/// infinite: such nodes have none. None at all where no node has one.
fn nearest(function: &impl OfDistance, block: &Block) -> Option<Vec<Option<f64>>> {
    let Positions { queries, keys, reference, .. } = block.positions;
    // Distances to all of the others run without gaps from the smallest to the largest.
    let within = |smallest: i64, largest: i64| {
        let d = if smallest > 0 { smallest } else { largest.min(0) } as f64;
        (d != 0.0 && function.log_weight(block.head, d).is_finite()).then_some(d)
    };
    let nearest: Vec<Option<f64>> = match reference {
        Reference::OfQuery if keys > 0 => {
            let of_query = |i| within(block.distance(i, keys - 1), block.distance(i, 0));
            block.queries.clone().map(of_query).collect()
        }
        Reference::OfKey if queries > 0 => {
            let of_key = |j| within(block.distance(0, j), block.distance(queries - 1, j));
            block.keys.clone().map(of_key).collect()
        }
        _ => return None,
    };
    nearest.iter().any(Option::is_some).then_some(nearest)
}

/// d_ij of `block`, row after row.
fn distances<T: Real>(distance: &impl Distance<T>, block: &Block) -> Vec<f64> {
    let (rows, columns) = (block.queries.len(), block.keys.len());
    let mut distances = vec![0.0; rows * columns];
    distance.fill(block, TileMut::new(&mut distances, rows, columns, columns));
    distances
}

/// Distance by index on diagonal `x` of `block`, diagonals numbered from the lower left corner of
/// the tile so that row r, column c lies on diagonal c + (rows − 1 − r).
fn on_diagonal(block: &Block, x: usize) -> f64 {
    (block.distance(block.queries.end - 1, block.keys.start) - x as i64) as f64
}

/// [`Prior::add_log_weights`] of a function of the distance by index.
fn add_along_diagonals<T: Real>(function: &impl OfDistance, block: &Block, scores: TileMut<'_, T>) {
    let (rows, columns) = (scores.rows, scores.columns);
    if rows == 0 || columns == 0 {
        return;
    }
    let set = InstructionSet::detect();
    let weights =
        (0..rows + columns - 1).map(|x| function.log_weight(block.head, on_diagonal(block, x)));
    let Some(nearest) = nearest(function, block) else {
        let diagonals: Vec<T> = weights.map(T::of).collect();
        return add_log_weights(set, scores, |r| &diagonals[rows - 1 - r..]);
    };
    if function.difference(block.head, 1.0, 0.0).is_some() {
        let of_query = block.positions.reference == Reference::OfQuery;
        let mut differences = vec![T::zero(); rows * columns];
        for (r, row) in differences.chunks_exact_mut(columns).enumerate() {
            for (c, x) in row.iter_mut().enumerate() {
                let d = on_diagonal(block, c + rows - 1 - r);
                let from = nearest[if of_query { r } else { c }];
                let difference = from.and_then(|from| function.difference(block.head, d, from));
                *x = T::of(difference.unwrap_or_else(|| function.log_weight(block.head, d)));
            }
        }
        return add_log_weights(set, scores, |r| &differences[r * columns..]);
    }
    // Differences in `f64`, before a number format with fewer digits sees them.
    let of = |d: &Option<f64>| d.map_or(0.0, |d| function.log_weight(block.head, d));
    let references: Vec<f64> = nearest.iter().map(of).collect();
    let diagonals: Vec<f64> = weights.collect();
    let mut differences = vec![T::zero(); rows * columns];
    let of_query = block.positions.reference == Reference::OfQuery;
    set.run(
        #[inline(always)]
        || {
            for (r, row) in differences.chunks_exact_mut(columns).enumerate() {
                let weights = row.iter_mut().zip(&diagonals[rows - 1 - r..]);
                match of_query {
                    true => weights.for_each(|(x, w)| *x = T::of(w - references[r])),
                    false => {
                        let pairs = weights.zip(&references);
                        pairs.for_each(|((x, w), reference)| *x = T::of(w - reference));
                    }
                }
            }
        },
    );
    add_log_weights(set, scores, |r| &differences[r * columns..]);
}

/// [`Prior::accumulate_gradient`] of such a function: the tile is summed along its diagonals first.
fn gradient_along_diagonals<T: Real>(
    function: &impl OfDistance,
    block: &Block,
    gradient: Tile<'_, T>,
    into: &mut [Accumulator<'_, T>],
) {
    let (rows, columns) = (gradient.rows, gradient.columns);
    if rows == 0 || columns == 0 {
        return;
    }
    let mut diagonals = vec![0.0f64; rows + columns - 1];
    InstructionSet::detect().run(
        #[inline(always)]
        || {
            for r in 0..rows {
                let sums = &mut diagonals[rows - 1 - r..][..columns];
                sums.iter_mut().zip(gradient.row(r)).for_each(|(sum, &g)| *sum += g.f64());
            }
        },
    );
    for (x, &g) in diagonals.iter().enumerate() {
        if g != 0.0 {
            function.gradient(block.head, on_diagonal(block, x), g, into);
        }
    }
    let Some(nearest) = nearest(function, block) else { return };
    let mut sums = vec![0.0; nearest.len()];
    for r in 0..rows {
        match block.positions.reference == Reference::OfQuery {
            true => sums[r] = gradient.row(r).iter().map(|g| g.f64()).sum(),
            false => sums.iter_mut().zip(gradient.row(r)).for_each(|(sum, g)| *sum += g.f64()),
        }
    }
    for (d, sum) in nearest.into_iter().zip(sums) {
        if let Some(d) = d {
            function.gradient(block.head, d, -sum, into);
        }
    }
}

/// log Σ e^(−rate · d) over the whole distances from `near` to `far`, rounded up.
pub(super) fn exponential_tail(rate: f64, near: f64, far: f64) -> f64 {
    let count = far.abs() - near.abs() + 1.0;
    // A weight that rises with the distance is summed from its largest term, too.
    let largest = if rate < 0.0 { far } else { near };
    let series = match rate == 0.0 {
        true => count.ln(),
        false => (-(-rate.abs() * count).exp_m1()).ln() - (-(-rate.abs()).exp_m1()).ln(),
    };
    rounded_up(-rate * largest.abs() + series)
}

/// A number at least as large as one that was computed as `x` in a few operations.
pub(super) fn rounded_up(x: f64) -> f64 {
    x + 8.0 * f64::EPSILON * (1.0 + x.abs())
}

/// Makes a function of distance the prior of that function by index, and one that files name.
macro_rules! prior_of_distance {
    ($part:ty) => {
        super::contract::hand_on_prior!(
            [T: $crate::Real] $part,
            this => super::of_distance::Lent(this, &$crate::distance::Index)
        );

        impl $crate::prior::Combine for $part {}

        impl $crate::prior::PriorPart for $part {
            fn build<'a, T: $crate::Real>(
                &self,
                inputs: &$crate::model::tensors::Inputs<'a, T>,
            ) -> Result<Box<dyn $crate::prior::Prior<T> + 'a>, $crate::Error> {
                use $crate::distance::DistancePart as _;
                Ok(Box::new(self.clone().over(self.distance.build(inputs)?)))
            }
            fn sees_ahead(&self) -> bool {
                $crate::distance::DistancePart::sees_ahead(&self.distance)
            }
        }
    };
}
pub(super) use prior_of_distance;
