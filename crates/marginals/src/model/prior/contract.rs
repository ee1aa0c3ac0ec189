//! What a prior promises.

use std::ops::Range;

use marginals_kernels::{Tile, TileMut};

use crate::model::tensors::Inputs;
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
///
/// Log-weights are added by [`add_log_weight`](marginals_kernels::add_log_weight) or its like: −∞
/// overwrites whatever score is there, NaN included.
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

/// A prior as data, which model files hold.
pub trait PriorPart {
    /// The prior, with the tensors it names.
    ///
    /// # Errors
    /// [`Error`], where a tensor is missing or of another shape.
    fn build<'a, T: Real>(&self, inputs: &Inputs<'a, T>) -> Result<Box<dyn Prior<T> + 'a>, Error>;

    /// Whether a query may pick keys ahead of its position.
    fn sees_ahead(&self) -> bool {
        true
    }
}

/// Implements [`Prior`] by handing every call on to another prior.
macro_rules! hand_on_prior {
    ([$($generics:tt)*] $type:ty, $this:ident => $to:expr) => {
        impl<$($generics)*> $crate::prior::Prior<T> for $type {
            fn name(&self) -> &'static str {
                let $this = self;
                $crate::prior::Prior::<T>::name(&$to)
            }
            fn check(&self, shape: &$crate::Shape) -> Result<(), $crate::Error> {
                let $this = self;
                $crate::prior::Prior::<T>::check(&$to, shape)
            }
            fn add_log_weights(
                &self,
                block: &$crate::Block,
                scores: marginals_kernels::TileMut<'_, T>,
            ) {
                let $this = self;
                $to.add_log_weights(block, scores)
            }
            fn coverage(&self, block: &$crate::Block) -> $crate::prior::Coverage {
                let $this = self;
                $crate::prior::Prior::<T>::coverage(&$to, block)
            }
            fn live_keys(&self, block: &$crate::Block) -> std::ops::Range<usize> {
                let $this = self;
                $crate::prior::Prior::<T>::live_keys(&$to, block)
            }
            fn is_mask(&self) -> bool {
                let $this = self;
                $crate::prior::Prior::<T>::is_mask(&$to)
            }
            fn parameters(&self) -> Vec<$crate::Parameter> {
                let $this = self;
                $crate::prior::Prior::<T>::parameters(&$to)
            }
            fn accumulate_gradient(
                &self,
                block: &$crate::Block,
                gradient: marginals_kernels::Tile<'_, T>,
                into: &mut [$crate::Accumulator<'_, T>],
            ) {
                let $this = self;
                $to.accumulate_gradient(block, gradient, into)
            }
        }
    };
}
pub(super) use hand_on_prior;

hand_on_prior!([T: Real, P: Prior<T> + ?Sized] Box<P>, this => **this);
hand_on_prior!([T: Real, P: Prior<T> + ?Sized] &P, this => **this);

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
