//! One layer of a transformer.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};
use marginals::Error;

use super::attention::{Attention, AttentionConfig};
use crate::modules::norm::Norm;
use crate::ops::Answers;
use crate::sizes::{at_least_one, check_norm_epsilon, check_rows};

/// Configuration of [`TransformerBlock`].
#[derive(Config, Debug)]
pub struct TransformerBlockConfig {
    /// The attention, whose width is the block's.
    pub attention: AttentionConfig,
    /// Width inside the feed-forward part; by default four times the block's.
    pub inner_width: Option<usize>,
    /// ε of the layer normalisations.
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
}

/// A layer with normalisation before each part (Xiong et al. 2020, *On Layer Normalization in the
/// Transformer Architecture*, fig. 1b):
///
/// ```text
/// x ← x + Attention(LayerNorm(x)),   x ← x + W₂ relu(W₁ LayerNorm(x) + b₁)² + b₂
/// ```
///
/// The squared rectifier is that of So et al. 2021 (*Primer: Searching for Efficient Transformers for
/// Language Modeling*, §3).
#[derive(Module, Debug)]
pub struct TransformerBlock {
    /// LayerNorm before the attention.
    pub attention_norm: Norm,
    /// The attention.
    pub attention: Attention,
    /// LayerNorm before the feed-forward part.
    pub inner_norm: Norm,
    /// W₁.
    pub widen: Linear,
    /// W₂.
    pub narrow: Linear,
}

impl TransformerBlockConfig {
    /// A module with fresh weights.
    ///
    /// # Errors
    /// [`Error`], naming the setting that makes no module.
    pub fn init(&self, device: &Device) -> Result<TransformerBlock, Error> {
        check_norm_epsilon(self.norm_epsilon)?;
        let width = self.attention.width;
        let inner = self.inner_width.unwrap_or(4 * width);
        at_least_one("inner_width", inner)?;
        Ok(TransformerBlock {
            attention_norm: Norm::new(width, self.norm_epsilon, device),
            attention: self.attention.init(device)?,
            inner_norm: Norm::new(width, self.norm_epsilon, device),
            widen: LinearConfig::new(width, inner).init(device),
            narrow: LinearConfig::new(inner, width).init(device),
        })
    }
}

impl TransformerBlock {
    /// One layer.
    ///
    /// # Shapes
    /// - x: `[B, N, width]`
    /// - output: `[B, N, width]`
    ///
    /// # Errors
    /// As [`Attention::forward`].
    pub fn forward(&self, x: Tensor<3>) -> Result<Tensor<3>, Error> {
        self.ask(x, &[]).map(|(out, _)| out)
    }

    /// The same, and what else the posterior of its attention knows.
    ///
    /// # Errors
    /// As [`Attention::ask`].
    pub fn ask(&self, x: Tensor<3>, questions: &[&str]) -> Result<(Tensor<3>, Answers), Error> {
        let [width] = self.attention_norm.gamma.dims();
        check_rows("x", &x, "N", width)?;
        let normal = self.attention_norm.forward(x.clone())?;
        let (attended, answers) = self.attention.ask(normal, questions)?;
        Ok((self.feed(x + attended)?, answers))
    }

    /// The feed-forward half.
    pub(crate) fn feed(&self, x: Tensor<3>) -> Result<Tensor<3>, Error> {
        let inner = activation::relu(self.widen.forward(self.inner_norm.forward(x.clone())?));
        Ok(x + self.narrow.forward(inner.clone() * inner))
    }
}
