//! Statistics: what a pass over the edges finds out beside the normaliser.
//!
//! There are two kinds. A **linear** statistic is a posterior expectation Σ_ij p_ij f(i, j): of the
//! values, of a function of the edge, of log p itself. An **extremal** one keeps the best edges under
//! the scores, with noise or without. An inference knows these kinds and nothing of questions; a
//! question says which of them its answer is a function of, and hands its gradient back to them as
//! [`Slopes`](super::Slopes).

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use marginals_kernels::{Tile, TileMut};
use ndarray::ArrayView4;

use crate::tensor::Stored;
use crate::{Accumulator, Block, Element, Error, Parameter, Real, Shape, check_room};

/// Averages of values at the peak: as they are summed, and as an answer.
const COPIES: usize = 2;

/// A function f(i, j) of an edge, by the block: what a linear statistic averages.
///
/// It may look at anything the implementor holds: positions, other tensors, tables with parameters
/// of their own. It must be finite wherever an edge is possible.
pub trait EdgeFunction<T: Real>: Debug + Send + Sync {
    /// The tile method: writes f(i, j) over `block`.
    fn fill(&self, block: &Block, values: TileMut<'_, T>);

    /// A range of keys outside which f is 0 for every query of `block`; within `block.keys`. Only they are
    /// filled where f is averaged by itself.
    fn live_keys(&self, block: &Block) -> Range<usize> {
        block.keys.clone()
    }

    /// Writes f(i, j) − c_i over `block`, c_i being the [references](EdgeFunction::references): what is
    /// common to all edges of a query costs no digits where it cancels.
    fn fill_apart(&self, block: &Block, values: TileMut<'_, T>) {
        self.fill(block, values);
    }

    /// Writes c_i of every query of `block`, numbers near f(i, j) that depend on no key; 0 by default.
    fn references(&self, _block: &Block, into: &mut [T]) {
        into.fill(T::zero());
    }

    /// Learnable parameters, in the order of the accumulators below.
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }

    /// Adds Σ_ij g_ij ∂f(i, j)/∂parameter over `block` to each parameter's accumulator.
    fn accumulate_gradient(
        &self,
        _block: &Block,
        _gradient: Tile<'_, T>,
        _into: &mut [Accumulator<'_, T>],
    ) {
    }
}

impl<T: Real, F: EdgeFunction<T> + ?Sized> EdgeFunction<T> for &F {
    fn fill(&self, block: &Block, values: TileMut<'_, T>) {
        (**self).fill(block, values);
    }
    fn live_keys(&self, block: &Block) -> Range<usize> {
        (**self).live_keys(block)
    }
    fn fill_apart(&self, block: &Block, values: TileMut<'_, T>) {
        (**self).fill_apart(block, values);
    }
    fn references(&self, block: &Block, into: &mut [T]) {
        (**self).references(block, into);
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
        (**self).accumulate_gradient(block, gradient, into);
    }
}

/// A function of edges that a statistic averages, shared by whoever reads the statistic.
pub type Function<'v, T> = Arc<dyn EdgeFunction<T> + 'v>;

/// A posterior expectation that a pass finds.
#[derive(Clone, Debug)]
pub enum Linear<'v, T: Real> {
    /// E\[log p\] of every factor: minus its entropy.
    LogProbability,
    /// E\[log p − log π\] of every factor: its KL from the prior.
    LogRatio,
    /// Σ_j p_ij v_j of every query, of the values with this index in the request.
    Value(usize),
    /// The variance of Σ_j φ_ij v_j of every query and coordinate.
    ValueVariance(usize),
    /// Σ_j p_ij f(i, j) of every query.
    Edge(Function<'v, T>),
    /// The covariance of Σ_j φ_ij f(i, j) and Σ_j φ_ij v_j, of every query and coordinate.
    Covariance(Function<'v, T>, usize),
    /// The derivative of Σ_j p_ij v_j as every score θ_ij moves by f(i, j). It is the covariance of the
    /// two where queries (or single edges) choose in proportion to e^θ. Has no gradient.
    Tangent(Function<'v, T>, usize),
}

impl<T: Real> Linear<'_, T> {
    /// Index of the values that it is of.
    pub(crate) fn table(&self) -> Option<usize> {
        match *self {
            Self::Value(values)
            | Self::ValueVariance(values)
            | Self::Covariance(_, values)
            | Self::Tangent(_, values) => Some(values),
            Self::LogProbability | Self::LogRatio | Self::Edge(_) => None,
        }
    }

    /// Whether functions of edges take part.
    pub(crate) fn reads_edges(&self) -> bool {
        matches!(self, Self::Edge(_) | Self::Covariance(..) | Self::Tangent(..))
    }
}

/// Best edges that a pass keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extremal {
    /// The k edges of highest score of every factor, best first; having no edge takes part where the
    /// structure allows it.
    Best(usize),
    /// The best edge of every factor under the Gumbel noise of each of `count` draws.
    Draws {
        /// How many draws.
        count: usize,
        /// Seed of the noise.
        seed: u64,
    },
    /// The possible edge of highest score of every query.
    Highest,
    /// The possible edge of lowest score of every query.
    Lowest,
}

/// Place of a statistic among those of its kind in a request, and in what the pass leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(pub(crate) usize);

/// Values that a pass averages: a tensor and where the caller keeps it.
#[derive(Debug)]
pub(crate) struct Values<'v, T> {
    pub tensor: Stored<'v, T>,
    /// How many heads they have, where they were repeated for each query head.
    pub own_heads: Option<usize>,
    /// Address, sizes and strides: the same tensor given twice is read once.
    source: (usize, Vec<usize>, Vec<isize>),
    /// Whether nobody differentiates in them.
    constant: bool,
}

/// Request to a pass: the union of the statistics that the questions asked need.
#[derive(Debug)]
pub struct Request<'v, T: Real> {
    shape: Shape,
    pub(crate) values: Vec<Values<'v, T>>,
    pub(crate) linear: Vec<Linear<'v, T>>,
    pub(crate) extremal: Vec<Extremal>,
    /// Whether log Z(log w) is wanted.
    pub(crate) prior_normaliser: bool,
    /// Whether a backward pass may follow, so that what single steps found is to be kept.
    pub(crate) keeps_steps: bool,
    /// Whether sums over edge sets are read, and not the best of them alone.
    pub(crate) reads_sums: bool,
    /// How many questions read each linear statistic.
    readers: Vec<usize>,
}

impl<'v, T: Real> Request<'v, T> {
    /// Nothing wanted yet of a problem of these sizes.
    pub(crate) fn new(shape: &Shape) -> Self {
        Self {
            shape: *shape,
            values: Vec::new(),
            linear: Vec::new(),
            extremal: Vec::new(),
            prior_normaliser: false,
            keeps_steps: true,
            reads_sums: true,
            readers: Vec::new(),
        }
    }

    /// The sizes of the problem.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Declares values `v` [B, Hk or H, M, D_v] to be averaged, and returns their index.
    ///
    /// # Errors
    /// [`Error::Shape`] where they do not belong to the keys.
    pub fn values<E: Element<Real = T>>(&mut self, v: ArrayView4<'v, E>) -> Result<usize, Error> {
        let shape = &self.shape;
        let (batch, heads, keys, width) = v.dim();
        let shared = heads == shape.key_heads || (heads > 0 && shape.heads.is_multiple_of(heads));
        if (batch, keys) != (shape.batch, shape.keys) || !shared {
            return Err(Error::shape(
                "v",
                format!(
                    "[{}, {}, {}, D_v], one value per key",
                    shape.batch, shape.key_heads, shape.keys
                ),
                v.shape(),
                "Values belong to keys: batch and keys are those of k, and their heads divide the \
                 query heads.",
            ));
        }
        let averages = [shape.batch, shape.heads, shape.queries, width];
        check_room("v", &averages, COPIES * size_of::<T>())?;
        let source = (v.as_ptr() as usize, v.shape().to_vec(), v.strides().to_vec());
        if let Some(known) = self.values.iter().position(|known| known.source == source) {
            return Ok(known);
        }
        let tensor = E::store(v);
        let values = match heads % shape.key_heads.max(1) {
            0 => Values { tensor, own_heads: None, source, constant: false },
            _ => Values {
                tensor: tensor.with_heads(shape.heads),
                own_heads: Some(heads),
                source,
                constant: false,
            },
        };
        self.values.push(values);
        Ok(self.values.len() - 1)
    }

    /// Declares values that have been checked.
    pub(crate) fn stored_values(&mut self, tensor: Stored<'v, T>) -> usize {
        let source = (0, Vec::new(), Vec::new());
        self.values.push(Values { tensor, own_heads: None, source, constant: false });
        self.values.len() - 1
    }

    /// Declares values that have been checked and that nobody differentiates in.
    pub(crate) fn constant_values(&mut self, tensor: Stored<'v, T>) -> usize {
        let tensor = match tensor.dim().1 % self.shape.key_heads.max(1) {
            0 => tensor,
            _ => tensor.with_heads(self.shape.heads),
        };
        let index = self.stored_values(tensor);
        self.values[index].constant = true;
        index
    }

    /// A request for these statistics over borrowed values, which more may be added to.
    pub(crate) fn reborrow(&self) -> Request<'_, T> {
        let values = self.values.iter().map(|own| Values {
            tensor: own.tensor.reborrow(),
            own_heads: own.own_heads,
            source: own.source.clone(),
            constant: own.constant,
        });
        Request {
            shape: self.shape,
            values: values.collect(),
            linear: self.linear.clone(),
            extremal: self.extremal.clone(),
            readers: self.readers.clone(),
            ..*self
        }
    }

    /// Wants an expectation.
    pub fn linear(&mut self, wanted: Linear<'v, T>) -> Handle {
        let same = |known: &Linear<'v, T>| match (known, &wanted) {
            (Linear::LogProbability, Linear::LogProbability)
            | (Linear::LogRatio, Linear::LogRatio) => true,
            (Linear::Value(a), Linear::Value(b))
            | (Linear::ValueVariance(a), Linear::ValueVariance(b)) => a == b,
            // Whether two functions are one cannot be told.
            _ => false,
        };
        let index = self.linear.iter().position(same).unwrap_or_else(|| {
            self.linear.push(wanted);
            self.readers.push(0);
            self.linear.len() - 1
        });
        self.readers[index] += 1;
        Handle(index)
    }

    /// Wants best edges.
    pub fn extremal(&mut self, wanted: Extremal) -> Handle {
        let index = self.extremal.iter().position(|known| *known == wanted);
        Handle(index.unwrap_or_else(|| {
            self.extremal.push(wanted);
            self.extremal.len() - 1
        }))
    }

    /// Wants the prior's own log-partition, log Z(log w).
    pub fn prior_log_partition(&mut self) {
        self.prior_normaliser = true;
    }

    /// How many questions read a linear statistic.
    pub(crate) fn readers(&self, statistic: Handle) -> usize {
        self.readers[statistic.0]
    }

    /// Whether values are averaged as they are and in no other way.
    pub(crate) fn averages_plainly(&self) -> bool {
        !self.linear.iter().any(|statistic| {
            matches!(
                statistic,
                Linear::ValueVariance(_) | Linear::Covariance(..) | Linear::Tangent(..)
            )
        })
    }

    /// Whether a statistic averages the values with this index, and may be differentiated in them.
    pub(crate) fn averages(&self, values: usize) -> bool {
        let averages = |statistic: &Linear<'_, T>| statistic.table() == Some(values);
        !self.values[values].constant && self.linear.iter().any(averages)
    }

    /// Tangents, with their places among the statistics.
    pub(crate) fn tangents(&self) -> impl Iterator<Item = (usize, &dyn EdgeFunction<T>)> {
        self.linear.iter().enumerate().filter_map(|(index, statistic)| match statistic {
            Linear::Tangent(function, _) => Some((index, &**function as &dyn EdgeFunction<T>)),
            _ => None,
        })
    }

    /// Numbers per value of the values with this index.
    pub(crate) fn width(&self, values: usize) -> usize {
        self.values[values].tensor.dim().3
    }

    /// Numbers per query (or factor) of a linear statistic.
    pub(crate) fn columns(&self, statistic: usize) -> usize {
        self.linear[statistic].table().map_or(1, |values| self.width(values))
    }

    /// Whether the statistic has an entry per factor; the others have one per query.
    pub(crate) fn is_of_factors(&self, statistic: usize) -> bool {
        matches!(self.linear[statistic], Linear::LogProbability | Linear::LogRatio)
    }

    /// Where E\[log p\] stands, if it is wanted.
    pub(crate) fn log_probability(&self) -> Option<usize> {
        self.linear.iter().position(|kind| matches!(kind, Linear::LogProbability))
    }

    /// Where E\[log p − log π\] stands, if it is wanted.
    pub(crate) fn log_ratio(&self) -> Option<usize> {
        self.linear.iter().position(|kind| matches!(kind, Linear::LogRatio))
    }

    /// Whether log Z(log w) is found: because it is asked for, or a KL needs it.
    pub(crate) fn wants_prior(&self) -> bool {
        self.prior_normaliser || self.log_ratio().is_some()
    }
}
