//! Normalisations, and where they stand around the two parts of a layer.

use burn::nn::{LayerNorm, LayerNormConfig, RmsNorm};
use burn::tensor::Tensor;

use crate::checkpoint::loader::Loader;
use crate::error::ModelError;

/// Kinds of normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// γ x̂ + β, x̂ of mean 0 and variance 1 (Ba et al. 2016).
    Layer,
    /// γ x̂.
    LayerWithoutBias,
    /// γ x over its root mean square (Zhang & Sennrich 2019).
    Rms,
    /// (1 + γ) x over its root mean square: Gemma's.
    RmsAroundOne,
}

/// A normalisation with its weights.
#[derive(Debug)]
pub(crate) enum Norm {
    Layer(LayerNorm),
    Rms(RmsNorm),
}

impl Norm {
    /// The weights `NAME.weight` and, of layer normalisation, `NAME.bias`.
    pub fn load(
        loader: &Loader<'_>,
        name: &str,
        width: usize,
        (kind, epsilon): (NormKind, f64),
    ) -> Result<Self, ModelError> {
        let gamma = loader.vector(&format!("{name}.weight"), width)?;
        Ok(match kind {
            NormKind::Layer | NormKind::LayerWithoutBias => {
                let mut norm =
                    LayerNormConfig::new(width).with_epsilon(epsilon).init(loader.device);
                norm.gamma = gamma;
                norm.beta = match kind {
                    NormKind::Layer => Some(loader.vector(&format!("{name}.bias"), width)?),
                    _ => None,
                };
                Self::Layer(norm)
            }
            NormKind::Rms => Self::Rms(RmsNorm { gamma, epsilon }),
            NormKind::RmsAroundOne => {
                Self::Rms(RmsNorm { gamma: gamma.map(|gamma| gamma + 1.0), epsilon })
            }
        })
    }

    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
        }
    }

    /// Normalises each head of rows `[N, H·D]`.
    pub fn heads(&self, rows: Tensor<2>, heads: usize) -> Tensor<2> {
        let [nodes, width] = rows.dims();
        self.forward(rows.reshape([nodes, heads, width / heads])).reshape([nodes, width])
    }
}

/// Places of normalisations around one part of a layer, each with a name or with weights:
///
/// ```text
/// x ← after(x + branch(part(before(x))))
/// ```
///
/// Before the part alone (GPT-2, Llama), after the sum (BERT), or before the part and after it (Gemma 2).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Around<N> {
    pub before: Option<N>,
    pub branch: Option<N>,
    pub after: Option<N>,
}

impl<N> Around<N> {
    pub const NONE: Self = Self { before: None, branch: None, after: None };

    /// The weights of each name.
    pub fn load<W>(
        self,
        load: impl Fn(N) -> Result<W, ModelError>,
    ) -> Result<Around<W>, ModelError> {
        Ok(Around {
            before: self.before.map(&load).transpose()?,
            branch: self.branch.map(&load).transpose()?,
            after: self.after.map(&load).transpose()?,
        })
    }
}

impl Around<Norm> {
    /// Input of the part.
    pub fn enter(&self, x: Tensor<2>) -> Tensor<2> {
        normalised(self.before.as_ref(), x)
    }

    /// The residual stream with what the part wrote.
    pub fn leave(&self, x: Tensor<2>, part: Tensor<2>) -> Tensor<2> {
        normalised(self.after.as_ref(), x + normalised(self.branch.as_ref(), part))
    }
}

/// `x` by a normalisation, where there is one.
pub(crate) fn normalised(norm: Option<&Norm>, x: Tensor<2>) -> Tensor<2> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}
