//! Priors that depend on the positions of query and key through their difference alone.

use marginals_kernels::{InstructionSet, Tile, TileMut, add_log_weights};

use crate::{Accumulator, Block, Real};

/// A log-weight that is a function of the relative position d = position of query − position of
/// key (positive when the key lies behind).
///
/// A tile has only rows + columns − 1 different values of d, so the function is evaluated once per
/// diagonal, in `f64`, and may be costly.
pub trait Stationary: Send + Sync {
    /// log w for relative position `d` in `head`.
    fn log_weight(&self, head: usize, d: i64) -> f64;

    /// Adds g · ∂log w(d)/∂parameter to each parameter.
    fn gradient<T: Real>(&self, head: usize, d: i64, g: f64, into: &mut [Accumulator<'_, T>]);
}

/// Relative position on diagonal `x` of `block`, diagonals numbered from the lower left corner of
/// the tile so that row r, column c lies on diagonal c + (rows − 1 − r).
fn on_diagonal(block: &Block, x: usize) -> i64 {
    block.distance(block.queries.end - 1, block.keys.start) - x as i64
}

/// The tile method of a stationary prior.
pub fn add_stationary<T: Real>(
    prior: &(impl Stationary + ?Sized),
    block: &Block,
    scores: TileMut<'_, T>,
) {
    let (rows, columns) = (scores.rows, scores.columns);
    if rows == 0 || columns == 0 {
        return;
    }
    let diagonals: Vec<T> = (0..rows + columns - 1)
        .map(|x| T::of(prior.log_weight(block.head, on_diagonal(block, x))))
        .collect();
    add_log_weights(InstructionSet::detect(), scores, |r| &diagonals[rows - 1 - r..]);
}

/// The gradient of a stationary prior: the tile is summed along its diagonals first.
pub fn stationary_gradient<T: Real>(
    prior: &impl Stationary,
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
            prior.gradient(block.head, on_diagonal(block, x), g, into);
        }
    }
}

/// Implements [`Prior`](super::Prior) for a [`Stationary`] type, with its name, its check and its
/// parameters.
macro_rules! stationary_prior {
    ($type:ty, $name:literal, $check:expr, $parameters:expr) => {
        impl<T: crate::Real> super::Prior<T> for $type {
            fn name(&self) -> &'static str {
                $name
            }
            fn check(&self, shape: &crate::Shape) -> Result<(), crate::Error> {
                let check: fn(&$type, &crate::Shape) -> Result<(), crate::Error> = $check;
                check(self, shape)
            }
            fn add_log_weights(
                &self,
                block: &crate::Block,
                scores: marginals_kernels::TileMut<'_, T>,
            ) {
                super::add_stationary(self, block, scores)
            }
            fn parameters(&self) -> Vec<crate::Parameter> {
                let parameters: fn(&$type) -> Vec<crate::Parameter> = $parameters;
                parameters(self)
            }
            fn accumulate_gradient(
                &self,
                block: &crate::Block,
                gradient: marginals_kernels::Tile<'_, T>,
                into: &mut [crate::Accumulator<'_, T>],
            ) {
                super::stationary_gradient(self, block, gradient, into)
            }
        }
    };
}
pub(super) use stationary_prior;
