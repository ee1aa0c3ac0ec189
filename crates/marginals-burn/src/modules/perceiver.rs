//! Perceiver: a few latents look at many inputs, and think in between.

mod config;
mod perceiver_block;

use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use marginals::Error;

pub use config::{FeedForwardActivation, PerceiverConfig, Sharing};
pub use perceiver_block::{FeedForward, MultiHead, PerceiverBlock, SelfAttention};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::loader::Loader;
use crate::error::ModelError;
use crate::modules::norm::Norm;

/// Perceiver (Jaegle et al. 2021, arXiv 2103.03206), with pre-normalisation as in the PyPI package
/// `perceiver-pytorch`.
///
/// ```text
/// z ← Z                                         learned latents, N of them
/// repeat depth times (all but the first share weights):
///   z ← z + W_o attention(LayerNorm(z), LayerNorm(x)),     z ← z + FF(LayerNorm(z))
///   a few times: z ← z + W_o attention(LayerNorm(z), LayerNorm(z)),   z ← z + FF(LayerNorm(z))
/// ```
///
/// Every attention is each-query-picks-one · dot · gather. Looking at M inputs costs O(N M) time and
/// O(N + M) memory: the N × M matrix is never made, forwards or backwards. Positions are not encoded
/// here: an input that has one carries it in its own numbers.
#[derive(Module, Debug)]
pub struct Perceiver {
    /// Z, `[N, latent width]`.
    pub latents: Param<Tensor<2>>,
    /// The sets of weights; layers after the last use the last.
    pub blocks: Vec<PerceiverBlock>,
    /// What makes classes of the mean latent.
    pub classify: Option<Classify>,
    depth: usize,
}

/// W LayerNorm(mean over latents) + b.
#[derive(Module, Debug)]
pub struct Classify {
    /// The LayerNorm.
    pub norm: Norm,
    /// W and b.
    pub linear: Linear,
}

impl PerceiverConfig {
    /// A module with fresh weights.
    ///
    /// # Errors
    /// [`Error::Value`], naming the setting that makes no module.
    pub fn init(&self, device: &Device) -> Result<Perceiver, Error> {
        self.check()?;
        let width = self.latent_width;
        let normal = Initializer::Normal { mean: 0.0, std: 1.0 };
        Ok(Perceiver {
            latents: normal.init([self.latents, width], device),
            blocks: (0..self.sets()).map(|_| PerceiverBlock::new(self, device)).collect(),
            classify: self.classes.map(|classes| Classify {
                norm: Norm::new(width, self.norm_epsilon, device),
                linear: LinearConfig::new(width, classes).init(device),
            }),
            depth: self.depth,
        })
    }

    /// The module with the weights of a checkpoint.
    ///
    /// The names are those of `perceiver-pytorch` 0.11: `latents`, and for every layer
    /// `layers.L.cross_attn.norm`, `.norm_context`, `.fn.to_q`, `.fn.to_kv`, `.fn.to_out`,
    /// `layers.L.cross_ff.norm`, `.fn.net.0`, `.fn.net.2`, `layers.L.self_attns.S.0` (as
    /// `cross_attn`, without `norm_context`) and `layers.L.self_attns.S.1` (as `cross_ff`);
    /// `to_logits.1` and `to_logits.2` where there are classes. Shared weights are read from layer 1.
    ///
    /// # Errors
    /// [`ModelError::Configuration`] where the settings make no module; otherwise those of the
    /// checkpoint, where a tensor is missing or has another shape.
    pub fn load(
        &self,
        checkpoint: &dyn Checkpoint,
        device: &Device,
    ) -> Result<Perceiver, ModelError> {
        self.check()?;
        let loader = Loader { checkpoint, device };
        let width = self.latent_width;
        let block = |layer| PerceiverBlock::load(&loader, &format!("layers.{layer}"), self);
        let classify = |classes| {
            Ok::<_, ModelError>(Classify {
                norm: Norm::load(&loader, "to_logits.1", width, self.norm_epsilon)?,
                linear: loader.linear("to_logits.2", width, classes)?,
            })
        };
        Ok(Perceiver {
            latents: loader.matrix("latents", [self.latents, width])?,
            blocks: (0..self.sets()).map(block).collect::<Result<_, _>>()?,
            classify: self.classes.map(classify).transpose()?,
            depth: self.depth,
        })
    }
}

impl Perceiver {
    /// The latents after all layers.
    ///
    /// # Shapes
    /// - inputs: `[B, M, input width]`
    /// - output: `[B, N, latent width]`
    ///
    /// # Errors
    /// [`Error::Shape`] where the inputs have another width.
    pub fn forward(&self, inputs: Tensor<3>) -> Result<Tensor<3>, Error> {
        let [batch, ..] = inputs.dims();
        let [count, width] = self.latents.dims();
        let mut latents: Tensor<3> =
            self.latents.val().unsqueeze_dim::<3>(0).expand([batch, count, width]);
        for layer in 0..self.depth {
            let block = &self.blocks[layer.min(self.blocks.len() - 1)];
            latents = block.forward(latents, inputs.clone())?;
        }
        Ok(latents)
    }

    /// Logits of the classes.
    ///
    /// # Shapes
    /// - inputs: `[B, M, input width]`
    /// - output: `[B, classes]`
    ///
    /// # Errors
    /// As [`Self::forward`]; [`Error::NotAnswerable`] for a module without classes.
    pub fn classify(&self, inputs: Tensor<3>) -> Result<Tensor<2>, Error> {
        let Some(classify) = &self.classify else {
            return Err(Error::NotAnswerable {
                question: "classes".into(),
                why: "this Perceiver was configured without any".into(),
                instead: "Configure it `with_classes`, or take the latents of `forward`.".into(),
            });
        };
        let mean: Tensor<2> = self.forward(inputs)?.mean_dim(1).squeeze_dim(1);
        Ok(classify.linear.forward(classify.norm.forward(mean)?))
    }
}
