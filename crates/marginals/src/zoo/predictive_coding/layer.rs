//! Layers of a network, as they are given.

use ndarray::{Array3, ArrayView3, CowArray, Ix3};

use super::{Activation, Map};
use crate::prior::{Prior, Uniform};
use crate::structure::{EachQueryPicksOne, Structure};
use crate::{Real, Shape};

/// Layer of a network: N units of C channels, what is known about them, and what predicts them.
pub struct Layer<'a, T: Real> {
    /// N: nodes that pick their predictors each on their own (or as the structure couples them).
    pub units: usize,
    /// C: numbers of a unit, which are predicted together.
    pub channels: usize,
    /// Nodes that are known, and their values.
    pub nodes: Nodes<'a, T>,
    /// Predictions of them; without any, nothing is known about them beforehand.
    pub predictors: Option<Predictors<'a, T>>,
}

/// Knowledge of the nodes of a layer.
#[derive(Clone, Debug, Default)]
pub enum Nodes<'a, T> {
    /// Nothing: they are inferred.
    #[default]
    Free,
    /// All of them, [B, N, C].
    Clamped(ArrayView3<'a, T>),
    /// Those that `known` [B, N, C] says; what `values` [B, N, C] holds for the others is not read.
    Partly {
        /// The values of those that are known.
        values: ArrayView3<'a, T>,
        /// Which are.
        known: ArrayView3<'a, bool>,
    },
}

/// Predictors of a layer: K predictions f_k of every unit, and which of them explains it.
///
/// f_k = W_k a(z) + b_k of the layer above, z. Tensors may be 1 along axes where they are shared.
pub struct Predictors<'a, T: Real> {
    /// W.
    pub map: Map<'a, T>,
    /// a.
    pub activation: Activation,
    /// b, [K, N or 1, C or 1].
    pub offset: CowArray<'a, T, Ix3>,
    /// Π, the precision of the prediction error, above 0: [K, N or 1, C or 1].
    pub precision: CowArray<'a, T, Ix3>,
    /// β, inverse temperature of the posterior over predictors, above 0.
    pub beta: f64,
    /// Which sets of predictors may explain the units of a layer; queries are units, keys predictors.
    pub structure: Box<dyn Structure<T> + 'a>,
    /// Prior over those.
    pub prior: Box<dyn Prior<T> + 'a>,
}

impl<'a, T: Real> Layer<'a, T> {
    /// Units of which nothing is known and that nothing predicts.
    pub fn free(units: usize, channels: usize) -> Self {
        Self { units, channels, nodes: Nodes::Free, predictors: None }
    }

    /// Layer with all its nodes known, [B, N, C].
    pub fn clamped(self, values: ArrayView3<'a, T>) -> Self {
        Self { nodes: Nodes::Clamped(values), ..self }
    }

    /// Layer with the nodes known that `known` says, both [B, N, C].
    pub fn partly_clamped(self, values: ArrayView3<'a, T>, known: ArrayView3<'a, bool>) -> Self {
        Self { nodes: Nodes::Partly { values, known }, ..self }
    }

    /// Layer that is predicted.
    pub fn predicted(self, predictors: Predictors<'a, T>) -> Self {
        Self { predictors: Some(predictors), ..self }
    }
}

impl<'a, T: Real> Predictors<'a, T> {
    /// K predictors of precision 1 and offset 0, of which each unit picks one; any is as likely.
    pub fn new(map: Map<'a, T>, predictors: usize) -> Self {
        Self {
            map,
            activation: Activation::Identity,
            offset: Array3::zeros((predictors, 1, 1)).into(),
            precision: Array3::ones((predictors, 1, 1)).into(),
            beta: 1.0,
            structure: Box::new(EachQueryPicksOne),
            prior: Box::new(Uniform),
        }
    }

    /// Predictors after an activation of the layer above.
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Predictors with offsets [K, N or 1, C or 1].
    pub fn with_offset(self, offset: impl Into<CowArray<'a, T, Ix3>>) -> Self {
        Self { offset: offset.into(), ..self }
    }

    /// Predictors with precisions [K, N or 1, C or 1].
    pub fn with_precision(self, precision: impl Into<CowArray<'a, T, Ix3>>) -> Self {
        Self { precision: precision.into(), ..self }
    }

    /// Predictors at another inverse temperature.
    pub fn with_beta(self, beta: f64) -> Self {
        Self { beta, ..self }
    }

    /// Predictors of which units pick as a structure says.
    pub fn with_structure(self, structure: impl Structure<T> + 'a) -> Self {
        Self { structure: Box::new(structure), ..self }
    }

    /// Predictors under a prior, of every unit.
    pub fn with_prior(self, prior: impl Prior<T> + 'a) -> Self {
        Self { prior: Box::new(prior), ..self }
    }

    /// K.
    pub fn count(&self) -> usize {
        self.offset.dim().0
    }
}

/// Sizes of the posterior over the predictors of a layer: units pick them, as queries do keys.
pub(super) fn shape(batch: usize, units: usize, predictors: usize) -> Shape {
    Shape {
        batch,
        heads: 1,
        key_heads: 1,
        queries: units,
        keys: predictors,
        query_width: predictors,
        key_width: 0,
        query_offset: 0,
        key_offset: 0,
        reference: crate::Reference::Nothing,
    }
}
