//! Structural priors: what is known about an edge before looking at the content.
//!
//! A prior gives every edge a log-weight log w_ij ∈ [−∞, ∞). It needs no normalisation, and −∞
//! means impossible. Priors combine by product: log-weights add.
//!
//! To add one, see CONTRIBUTING.md.

mod adjacency;
mod alibi;
mod beta_geometric;
mod bias;
mod causal;
mod from_function;
mod generalized_gaussian;
mod geometric;
mod key_bias;
mod laplace;
mod product;
mod relative_buckets;
mod segments;
mod stationary;
mod uniform;
mod window;

pub use adjacency::Adjacency;
pub use alibi::Alibi;
pub use beta_geometric::BetaGeometric;
pub use bias::Bias;
pub use causal::Causal;
pub use from_function::FromFunction;
pub use generalized_gaussian::GeneralizedGaussian;
pub use geometric::Geometric;
pub use key_bias::KeyBias;
pub use laplace::Laplace;
pub use product::{And, Product};
pub use relative_buckets::{Directions, RelativeBuckets};
pub use segments::Segments;
pub use stationary::{Stationary, add_stationary, stationary_gradient};
pub use uniform::Uniform;
pub use window::Window;

use std::ops::Range;

use marginals_kernels::{Tile, TileMut};

use crate::{Accumulator, Block, Error, Parameter, Real, Shape};

/// What a prior says about a whole block of edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// Every edge is impossible: the block is never computed.
    Empty,
    /// Every log-weight is 0: nothing needs adding.
    Free,
    /// Anything else.
    Weighted,
}

/// A structural prior: log-weights by the block.
///
/// Only [`name`](Prior::name) and [`add_log_weights`](Prior::add_log_weights) must be written; the
/// rest saves work ([`coverage`](Prior::coverage), [`live_keys`](Prior::live_keys),
/// [`is_mask`](Prior::is_mask)) or makes parameters learnable.
pub trait Prior<T: Real>: Send + Sync {
    /// The name used in messages and model files.
    fn name(&self) -> &'static str;

    /// Refuses sizes and parameters that make no sense. Called once per posterior.
    fn check(&self, _shape: &Shape) -> Result<(), Error> {
        Ok(())
    }

    /// The tile method: adds log w_ij to the scores of `block`.
    fn add_log_weights(&self, block: &Block, scores: TileMut<'_, T>);

    /// What is known of all of `block` at once, cheaply. [`Coverage::Weighted`] is always right.
    fn coverage(&self, _block: &Block) -> Coverage {
        Coverage::Weighted
    }

    /// A range of keys outside which no query of `block` has a possible edge; within `block.keys`.
    fn live_keys(&self, block: &Block) -> Range<usize> {
        block.keys.clone()
    }

    /// Whether every log-weight is 0 or −∞, whatever the block.
    fn is_mask(&self) -> bool {
        false
    }

    /// Learnable parameters, in the order of the accumulators below.
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }

    /// Adds Σ_ij g_ij ∂log w_ij/∂parameter over `block` to each parameter's accumulator.
    fn accumulate_gradient(
        &self,
        _block: &Block,
        _gradient: Tile<'_, T>,
        _into: &mut [Accumulator<'_, T>],
    ) {
    }
}

/// Multiplying priors: `Causal.and(Geometric::new(0.1))`.
///
/// Apart from [`Prior`], so that the number type need not be known yet; a prior of your own is multiplied
/// with `impl Combine for Yours {}`.
pub trait Combine: Sized {
    /// The product with another prior: log-weights add.
    fn and<P: Combine>(self, other: P) -> And<Self, P> {
        And(self, other)
    }
}

impl Combine for Adjacency {}
impl Combine for Alibi {}
impl Combine for BetaGeometric {}
impl<T> Combine for Bias<'_, T> {}
impl Combine for Causal {}
impl<F> Combine for FromFunction<F> {}
impl Combine for GeneralizedGaussian {}
impl Combine for Geometric {}
impl<T> Combine for KeyBias<T> {}
impl Combine for Laplace {}
impl Combine for RelativeBuckets {}
impl Combine for Segments {}
impl Combine for Uniform {}
impl Combine for Window {}
impl<A: Combine, B: Combine> Combine for And<A, B> {}
impl<T> Combine for Product<'_, T> {}
impl<T> Combine for Box<dyn Prior<T> + '_> {}
impl<P: Combine> Combine for &P {}

macro_rules! forwarding {
    ($($owner:ty),+) => {$(
        impl<T: Real, P: Prior<T> + ?Sized> Prior<T> for $owner {
            fn name(&self) -> &'static str {
                (**self).name()
            }
            fn check(&self, shape: &Shape) -> Result<(), Error> {
                (**self).check(shape)
            }
            fn add_log_weights(&self, block: &Block, scores: TileMut<'_, T>) {
                (**self).add_log_weights(block, scores)
            }
            fn coverage(&self, block: &Block) -> Coverage {
                (**self).coverage(block)
            }
            fn live_keys(&self, block: &Block) -> Range<usize> {
                (**self).live_keys(block)
            }
            fn is_mask(&self) -> bool {
                (**self).is_mask()
            }
            fn parameters(&self) -> Vec<Parameter> {
                (**self).parameters()
            }
            fn accumulate_gradient(
                &self,
                block: &Block,
                gradient: Tile<'_, T>,
                into: &mut [Accumulator<'_, T>],
            ) {
                (**self).accumulate_gradient(block, gradient, into)
            }
        }
    )+};
}
forwarding!(Box<P>, &P);

/// The intersection of two ranges, empty ranges kept inside the first.
pub(crate) fn intersect(a: Range<usize>, b: Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start).min(a.end);
    start..a.end.min(b.end).max(start)
}

/// Marks every edge outside `allowed` impossible, where `allowed(i)` is the range of keys that
/// query `i` may have.
pub(crate) fn restrict<T: Real>(
    block: &Block,
    mut scores: TileMut<'_, T>,
    allowed: impl Fn(usize) -> Range<usize>,
) {
    for (r, i) in block.queries.clone().enumerate() {
        let keep = intersect(block.keys.clone(), allowed(i));
        let (from, to) = (keep.start - block.keys.start, keep.end - block.keys.start);
        let row = scores.row_mut(r);
        row[..from].fill(T::neg_infinity());
        row[to..].fill(T::neg_infinity());
    }
}
