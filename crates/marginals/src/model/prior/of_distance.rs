//! Priors that are functions of distance.

use marginals_kernels::{InstructionSet, Tile, TileMut, add_log_weight, add_log_weights};

use super::contract::{Prior, hand_on_prior};
use crate::distance::{AnyDistance, Distance};
use crate::model::part::{List, Part};
use crate::{Accumulator, Block, Error, Parameter, Real, Shape};

/// A log-weight that is a function of how far key j lies behind query i: log w_ij = f(d_ij).
///
/// What d is, is a [`Distance`]: their difference in position ([`Index`](crate::distance::Index)),
/// unless the part says otherwise. The function is evaluated in `f64`; where d is the index a tile has
/// only rows + columns − 1 different values of it, so that it may be costly. It is a prior with a
/// distance: [`over`](OfDistance::over) gives it one.
pub trait OfDistance: Part + Clone + Send + Sync {
    /// What d is, where files may say so.
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

    /// f′(d), at a kink that of larger d: what a distance with gradients of its own needs.
    fn slope(&self, head: usize, d: f64) -> f64;

    /// Learnable parameters, in the order of `into` below.
    fn parameters(&self) -> Vec<Parameter> {
        self.learnable()
    }

    /// Adds g · ∂f(d)/∂parameter to each parameter.
    fn gradient<T: Real>(&self, head: usize, d: f64, g: f64, into: &mut [Accumulator<'_, T>]);

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

hand_on_prior!(
    [T: Real, F: OfDistance, D: Distance<T>] Over<F, D>,
    this => Lent(&this.function, &this.distance)
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
        let columns = scores.columns;
        let distances = distances(self.1, block);
        for (r, d) in distances.chunks_exact(columns.max(1)).enumerate() {
            for (x, &d) in scores.row_mut(r).iter_mut().zip(d) {
                *x = add_log_weight(*x, T::of(self.0.log_weight(block.head, d)));
            }
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
        let columns = gradient.columns;
        // From here on, each entry is d_ij and then ∂L/∂d_ij.
        let mut distances = distances(self.1, block);
        for (r, row) in distances.chunks_exact_mut(columns.max(1)).enumerate() {
            for (d, &g) in row.iter_mut().zip(gradient.row(r)) {
                // An edge without gradient may have any distance.
                *d = match g == T::zero() {
                    true => 0.0,
                    false => {
                        self.0.gradient(block.head, *d, g.f64(), own);
                        g.f64() * self.0.slope(block.head, *d)
                    }
                };
            }
        }
        if !of_distance.is_empty() {
            let tile = Tile::new(&distances, gradient.rows, columns, columns);
            self.1.accumulate_gradient(block, tile, of_distance);
        }
    }
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
    let diagonals: Vec<T> = (0..rows + columns - 1)
        .map(|x| T::of(function.log_weight(block.head, on_diagonal(block, x))))
        .collect();
    add_log_weights(InstructionSet::detect(), scores, |r| &diagonals[rows - 1 - r..]);
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
}

/// Makes a function of distance the prior of that function by index, and one that files name.
macro_rules! prior_of_distance {
    ($part:ty) => {
        super::contract::hand_on_prior!(
            [T: $crate::Real] $part,
            this => super::of_distance::Lent(this, &$crate::distance::Index)
        );

        impl $crate::prior::PriorPart for $part {
            fn build<'a, T: $crate::Real>(
                &self,
                inputs: &$crate::model::tensors::Inputs<'a, T>,
            ) -> Result<Box<dyn $crate::prior::Prior<T> + 'a>, $crate::Error> {
                use $crate::distance::DistancePart as _;
                Ok(Box::new(self.clone().over(self.distance.build(inputs)?)))
            }
        }
    };
}
pub(super) use prior_of_distance;
