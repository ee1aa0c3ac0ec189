//! A mixture's z as its posterior reads it.

use ndarray::Array4;

use crate::potential::GaussianDensity;
use crate::prior::{Bias, LogWeights};
use crate::structure::EachKeyPicksOne;
use crate::{Model, Real};

/// z as a model reads it.
pub(super) struct State<T> {
    /// μ and σ² of every component, [B, H, K, D + V].
    pub queries: Array4<T>,
    /// log π, normalised, [B, H, K, 1].
    pub log_weights: Array4<T>,
    /// Which problems have a variance below its floor or no weights; harmless numbers stand in.
    pub infeasible: Vec<bool>,
}

impl<T: Real> State<T> {
    pub fn model(&self) -> Model<EachKeyPicksOne, Bias<LogWeights<'_, T>>, GaussianDensity> {
        Model::new(EachKeyPicksOne, Bias::new(self.log_weights.view()), GaussianDensity)
    }
}
