//! Layer normalisation with its weights.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use marginals::Error;

use crate::checkpoint::loader::Loader;
use crate::error::ModelError;
use crate::ops::layer_norm;

/// γ x̂ + β over the last axis, as one node on the tape (see [`layer_norm`]).
#[derive(Module, Debug)]
pub struct Norm {
    /// γ, `[width]`.
    pub gamma: Param<Tensor<1>>,
    /// β, `[width]`.
    pub beta: Param<Tensor<1>>,
    epsilon: f64,
}

impl Norm {
    /// γ = 1, β = 0.
    pub(crate) fn new(width: usize, epsilon: f64, device: &Device) -> Self {
        let gamma = Initializer::Ones.init([width], device);
        Self { gamma, beta: Initializer::Zeros.init([width], device), epsilon }
    }

    /// `NAME.weight` and `NAME.bias`.
    pub(crate) fn load(
        loader: &Loader<'_>,
        name: &str,
        width: usize,
        epsilon: f64,
    ) -> Result<Self, ModelError> {
        let gamma = loader.vector(&format!("{name}.weight"), width)?;
        Ok(Self { gamma, beta: loader.vector(&format!("{name}.bias"), width)?, epsilon })
    }

    /// Normalises every row.
    ///
    /// # Shapes
    /// - x: `[..., width]`
    /// - output: as x
    ///
    /// # Errors
    /// [`Error::Shape`] where the last axis is not the width.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Result<Tensor<D>, Error> {
        layer_norm(x, self.gamma.val(), self.beta.val(), self.epsilon)
    }
}
