//! Promises of a prior.

use std::ops::Range;

use marginals_kernels::{Tile, TileMut};
use ndarray::ArrayViewMut4;

use crate::model::nodes::{Allowed, NodeGradient, Nodes};
use crate::model::tensors::Inputs;
use crate::{Accumulator, Block, Error, Parameter, Real, Shape};

/// Log-weights of a whole block of edges, as a prior tells them at once.
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
///
/// # References
/// The number added may be less than log w by a constant of the query, or of the key, as
/// [`Positions::reference`](crate::Positions::reference) of the block allows:
///
/// ```text
/// log w_ij = reference of i (or j) + what add_log_weights adds.
/// ```
///
/// Whoever lets a prior do so adds the [references](Prior::add_references), of which no posterior
/// depends but log Z and the weight of a null edge beside it. Parameters' gradients go the same way:
/// [`accumulate_gradient`](Prior::accumulate_gradient) differentiates what is added, and
/// [`accumulate_reference_gradient`](Prior::accumulate_reference_gradient) the references. Bounds are
/// of what is added.
pub trait Prior<T: Real>: Send + Sync {
    /// The name used in messages and model files.
    fn name(&self) -> &'static str;

    /// Refuses sizes and parameters that make no sense. Called once per posterior.
    fn check(&self, _shape: &Shape) -> Result<(), Error> {
        Ok(())
    }

    /// The tile method: adds log w_ij to the scores of `block`.
    fn add_log_weights(&self, block: &Block, scores: TileMut<'_, T>);

    /// Coverage of `block`: what is known of all of it at once, cheaply. [`Coverage::Weighted`] is always right.
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

    /// Adds the references of `block` to `into`: one of every query where they are of queries, one of
    /// every key where they are of keys. They do not depend on which other nodes are in the block.
    fn add_references(&self, _block: &Block, _into: &mut [f64]) {}

    /// Adds Σ g ∂reference/∂parameter to each parameter's accumulator, g one number per reference.
    fn accumulate_reference_gradient(
        &self,
        _block: &Block,
        _gradient: &[f64],
        _into: &mut [Accumulator<'_, T>],
    ) {
    }

    /// An upper bound of what is added anywhere in `block`, where one is known without looking.
    fn upper_bound(&self, _block: &Block) -> Option<f64> {
        self.is_mask().then_some(0.0)
    }

    /// An upper bound of log Σ_j e^x_ij over the keys of `block`, x being what is added, for each of
    /// its queries, where one is known without looking: the mass of keys out of sight.
    fn log_tail(&self, _block: &Block) -> Option<f64> {
        None
    }

    /// The prior of these nodes, where log-weights depend on what queries and keys hold. Called once
    /// per posterior; the prior that comes back is used in place of this one, which adds only what does
    /// not depend on them.
    fn bind<'n>(&'n self, _nodes: &Nodes<'n, '_, T>) -> Option<Box<dyn Prior<T> + 'n>> {
        None
    }

    /// Adds what the log-weights of `block` owe to its own nodes, where they were
    /// [bound](Prior::bind): Σ_j g_ij ∂log w_ij/∂q_i, and the like of keys. Blocks are seen in any order
    /// and by several threads; what a block leaves behind when it is seen again takes the place of what it
    /// left before.
    fn accumulate_node_gradient(
        &self,
        _block: &Block,
        _gradient: Tile<'_, T>,
        _into: &mut NodeGradient<'_, T>,
    ) {
    }

    /// Adds what is owed to nodes of other blocks, once every block has been seen: to the gradients of
    /// all queries [B, H, N, D] and keys [B, Hk, M, D].
    fn finish_node_gradients(&self, _q: ArrayViewMut4<'_, T>, _k: ArrayViewMut4<'_, T>) {}
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

/// Implements [`Prior`] by handing every call on to another prior; what borrows from it, at the end.
macro_rules! hand_on_prior {
    ([$($generics:tt)*] $type:ty, $this:ident => $to:expr $(; $($own:tt)*)?) => {
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
            fn add_references(&self, block: &$crate::Block, into: &mut [f64]) {
                let $this = self;
                $crate::prior::Prior::<T>::add_references(&$to, block, into)
            }
            fn accumulate_reference_gradient(
                &self,
                block: &$crate::Block,
                gradient: &[f64],
                into: &mut [$crate::Accumulator<'_, T>],
            ) {
                let $this = self;
                $to.accumulate_reference_gradient(block, gradient, into)
            }
            fn upper_bound(&self, block: &$crate::Block) -> Option<f64> {
                let $this = self;
                $crate::prior::Prior::<T>::upper_bound(&$to, block)
            }
            fn log_tail(&self, block: &$crate::Block) -> Option<f64> {
                let $this = self;
                $crate::prior::Prior::<T>::log_tail(&$to, block)
            }
            fn accumulate_node_gradient(
                &self,
                block: &$crate::Block,
                gradient: marginals_kernels::Tile<'_, T>,
                into: &mut $crate::model::nodes::NodeGradient<'_, T>,
            ) {
                let $this = self;
                $to.accumulate_node_gradient(block, gradient, into)
            }
            fn finish_node_gradients(
                &self,
                q: ndarray::ArrayViewMut4<'_, T>,
                k: ndarray::ArrayViewMut4<'_, T>,
            ) {
                let $this = self;
                $to.finish_node_gradients(q, k)
            }
            $($($own)*)?
        }
    };
}
pub(super) use hand_on_prior;

hand_on_prior!(
    [T: Real, P: Prior<T> + ?Sized] Box<P>, this => **this;
    fn bind<'n>(&'n self, nodes: &Nodes<'n, '_, T>) -> Option<Box<dyn Prior<T> + 'n>> {
        (**self).bind(nodes)
    }
);
hand_on_prior!(
    [T: Real, P: Prior<T> + ?Sized] &P, this => **this;
    fn bind<'n>(&'n self, nodes: &Nodes<'n, '_, T>) -> Option<Box<dyn Prior<T> + 'n>> {
        (**self).bind(nodes)
    }
);

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

/// The logarithm of how many keys of `block` the query with most of them may have, where `allowed(i)` is
/// the range of keys that query `i` may have.
pub(crate) fn log_count(block: &Block, allowed: impl Fn(usize) -> Range<usize>) -> f64 {
    let count = |i| intersect(block.keys.clone(), allowed(i)).len();
    (block.queries.clone().map(count).max().unwrap_or(0) as f64).ln()
}

impl<T: Real, P: Prior<T> + ?Sized> Allowed<T> for P {
    fn fill_allowed(&self, block: &Block, mut tile: TileMut<'_, T>) {
        let coverage = self.coverage(block);
        let possible = if coverage == Coverage::Empty { T::neg_infinity() } else { T::zero() };
        (0..tile.rows).for_each(|r| tile.row_mut(r).fill(possible));
        if coverage != Coverage::Weighted {
            return;
        }
        self.add_log_weights(block, tile.reborrow());
        for r in 0..tile.rows {
            for x in tile.row_mut(r).iter_mut().filter(|x| **x != T::neg_infinity()) {
                *x = T::zero();
            }
        }
    }
}
