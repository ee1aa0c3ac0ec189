use marginals_kernels::{Tile, TileMut};
use ndarray::{Array3, CowArray, Ix4};

use super::{Bias, Prior};
use crate::{Accumulator, Block, Error, Parameter, Real, Shape};

/// log w_ij = b_j: how eligible a key is, whoever asks. A large entry is a sink, −∞ a padded key.
///
/// Shape [B, H, M], where batch and head axes may be 1.
#[derive(Clone, Debug)]
pub struct KeyBias<T: 'static>(Bias<'static, T>);

impl<T: Real> KeyBias<T> {
    /// One log-weight per key, shared along axes of length 1.
    pub fn new(log_weights: Array3<T>) -> Self {
        let with_queries: CowArray<'static, T, Ix4> =
            log_weights.insert_axis(ndarray::Axis(2)).into();
        Self(Bias::named("key-bias", with_queries))
    }
}

impl<T: Real> Prior<T> for KeyBias<T> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        self.0.check(shape)
    }
    fn add_log_weights(&self, block: &Block, scores: TileMut<'_, T>) {
        self.0.add_log_weights(block, scores)
    }
    fn parameters(&self) -> Vec<Parameter> {
        self.0.parameters()
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    ) {
        self.0.accumulate_gradient(block, gradient, into)
    }
}
