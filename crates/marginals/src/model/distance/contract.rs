//! Promises of a distance.

use std::ops::Range;

use marginals_kernels::{Tile, TileMut};
use ndarray::ArrayViewMut4;

use crate::model::nodes::{NodeGradient, Nodes};
use crate::model::tensors::Inputs;
use crate::{Accumulator, Block, Error, Parameter, Real, Shape};

/// How far key j lies behind query i: d_ij, in whatever unit, negative for keys ahead.
///
/// Only [`name`](Distance::name) and [`fill`](Distance::fill) must be written; the rest makes a
/// distance learnable.
pub trait Distance<T: Real>: Send + Sync {
    /// The name used in messages and model files.
    fn name(&self) -> &'static str;

    /// Refuses sizes and parameters that make no sense. Called once per posterior.
    ///
    /// # Errors
    /// [`Error`], naming the argument.
    fn check(&self, _shape: &Shape) -> Result<(), Error> {
        Ok(())
    }

    /// The tile method: writes d_ij of `block`. No query picks a key at an infinite distance.
    fn fill(&self, block: &Block, distances: TileMut<'_, f64>);

    /// Whether d_ij is the position of query i less that of key j ([`Block::distance`]). It is then
    /// the same along a diagonal, and [`fill`](Distance::fill) is not called.
    fn is_index(&self) -> bool {
        false
    }

    /// Whether it is known of keys ahead of a query. Where it is not, a query picks none of them, and what
    /// [`fill`](Distance::fill) writes for them is not read.
    fn sees_ahead(&self) -> bool {
        true
    }

    /// The smallest and the largest distance in `block`, of keys that may be picked, where they are known
    /// without looking: a bound of each is enough.
    fn range(&self, _block: &Block) -> Option<Range<f64>> {
        None
    }

    /// A range of keys outside which every distance of `block` is infinite; within `block.keys`.
    fn reach(&self, block: &Block) -> Range<usize> {
        block.keys.clone()
    }

    /// Learnable parameters, in the order of the accumulators below.
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }

    /// Adds Σ_ij g_ij ∂d_ij/∂parameter over `block` to each parameter's accumulator.
    fn accumulate_gradient(
        &self,
        _block: &Block,
        _gradient: Tile<'_, f64>,
        _into: &mut [Accumulator<'_, T>],
    ) {
    }

    /// The distance between these nodes, where it depends on what queries and keys hold; see
    /// [`Prior::bind`](crate::prior::Prior::bind), and there for the two methods below.
    fn bind<'n>(&'n self, _nodes: &Nodes<'n, '_, T>) -> Option<Box<dyn Distance<T> + 'n>> {
        None
    }

    /// Adds Σ_j g_ij ∂d_ij/∂q_i, and the like of keys, for the nodes of `block` themselves.
    fn accumulate_node_gradient(
        &self,
        _block: &Block,
        _gradient: Tile<'_, f64>,
        _into: &mut NodeGradient<'_, T>,
    ) {
    }

    /// Adds what is owed to nodes of other blocks.
    fn finish_node_gradients(&self, _q: ArrayViewMut4<'_, T>, _k: ArrayViewMut4<'_, T>) {}
}

/// A distance as data, which model files hold.
pub trait DistancePart {
    /// The distance, with the tensors it names.
    ///
    /// # Errors
    /// [`Error`], where a tensor is missing or of another shape.
    fn build<'a, T: Real>(
        &self,
        inputs: &Inputs<'a, T>,
    ) -> Result<Box<dyn Distance<T> + 'a>, Error>;

    /// Whether it is known of keys ahead of a query; see [`Distance::sees_ahead`].
    fn sees_ahead(&self) -> bool {
        true
    }
}

impl<T: Real, D: Distance<T> + ?Sized> Distance<T> for Box<D> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        (**self).check(shape)
    }
    fn fill(&self, block: &Block, distances: TileMut<'_, f64>) {
        (**self).fill(block, distances)
    }
    fn is_index(&self) -> bool {
        (**self).is_index()
    }
    fn sees_ahead(&self) -> bool {
        (**self).sees_ahead()
    }
    fn range(&self, block: &Block) -> Option<Range<f64>> {
        (**self).range(block)
    }
    fn reach(&self, block: &Block) -> Range<usize> {
        (**self).reach(block)
    }
    fn parameters(&self) -> Vec<Parameter> {
        (**self).parameters()
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, f64>,
        into: &mut [Accumulator<'_, T>],
    ) {
        (**self).accumulate_gradient(block, gradient, into)
    }
    fn bind<'n>(&'n self, nodes: &Nodes<'n, '_, T>) -> Option<Box<dyn Distance<T> + 'n>> {
        (**self).bind(nodes)
    }
    fn accumulate_node_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, f64>,
        into: &mut NodeGradient<'_, T>,
    ) {
        (**self).accumulate_node_gradient(block, gradient, into)
    }
    fn finish_node_gradients(&self, q: ArrayViewMut4<'_, T>, k: ArrayViewMut4<'_, T>) {
        (**self).finish_node_gradients(q, k)
    }
}
