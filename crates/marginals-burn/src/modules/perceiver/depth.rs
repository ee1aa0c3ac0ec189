//! Attention over depth: every number of a latent picks the layer it is taken from.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor, activation};

use crate::checkpoint::loader::Loader;
use crate::error::ModelError;

/// A mean over the latents before the first layer and after every one so far, weighted number by number:
///
/// ```text
/// p_lc = softmax over l of (W₂ W₁ RMSNorm(z_l))_c,     z_c ← Σ_l p_lc z_lc
/// ```
///
/// each number c of each latent picks one of the l states it has been in. The residual connection over
/// depth is that of Chen et al. 2026 (*Attention Residuals*, arXiv 2603.15031), pooled as in Avsec et al.
/// 2021 (*Effective gene expression prediction from sequence by integrating long-range interactions*);
/// `perceiver-pytorch` has it as `attn_residual`.
#[derive(Module, Debug)]
pub struct DepthAttention {
    /// RMSNorm of every state.
    pub norm: RmsNorm,
    /// W₁, width to rank, without bias.
    pub narrow: Linear,
    /// W₂, rank to width, without bias.
    pub widen: Linear,
}

/// ε of the normalisation: PyTorch's where none is given, the distance from 1 to the next number.
const EPSILON: f64 = f32::EPSILON as f64;

impl DepthAttention {
    pub(super) fn new(width: usize, rank: usize, device: &Device) -> Self {
        let plain =
            |inputs, outputs| LinearConfig::new(inputs, outputs).with_bias(false).init(device);
        Self {
            norm: RmsNormConfig::new(width).with_epsilon(EPSILON).init(device),
            narrow: plain(width, rank),
            widen: plain(rank, width),
        }
    }

    pub(super) fn load(
        loader: &Loader<'_>,
        name: &str,
        width: usize,
        rank: usize,
    ) -> Result<Self, ModelError> {
        let name = format!("{name}.to_attn_logits");
        let gamma: Param<Tensor<1>> = loader.vector(&format!("{name}.0.weight"), width)?;
        Ok(Self {
            norm: RmsNorm { gamma, epsilon: EPSILON },
            narrow: loader.linear(&format!("{name}.1"), width, rank)?,
            widen: loader.linear(&format!("{name}.2"), rank, width)?,
        })
    }

    /// The mean over states.
    ///
    /// # Shapes
    /// - states: `[B, N, width]` each
    /// - output: as they
    pub(super) fn forward(&self, states: &[Tensor<3>]) -> Tensor<3> {
        let states: Tensor<4> = Tensor::stack(states.to_vec(), 2);
        let logits = self.norm.forward(states.clone());
        let logits = self.widen.forward(self.narrow.forward(logits));
        let weights = activation::softmax(logits, 2);
        (states * weights).sum_dim(2).squeeze_dim(2)
    }
}
