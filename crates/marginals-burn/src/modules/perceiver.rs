//! Perceiver: a few latents look at many inputs, and think in between.

mod config;
mod depth;
mod perceiver_block;

use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use marginals::Error;

use config::shared_name;
pub use config::{FeedForwardActivation, PerceiverConfig, Sharing};
pub use depth::DepthAttention;
pub use perceiver_block::{FeedForward, MultiHead, PerceiverBlock, SelfAttention};

use crate::checkpoint::loader::Loader;
use crate::checkpoint::{Asked, Checkpoint};
use crate::error::ModelError;
use crate::modules::last_posterior::LastPosterior;
use crate::modules::norm::Norm;
use crate::sizes::check_rows;

/// Perceiver (Jaegle et al. 2021, arXiv 2103.03206), with pre-normalisation as in the PyPI package
/// `perceiver-pytorch`.
///
/// ```text
/// z ← Z                                         learned latents, N of them
/// repeat depth times (all but the first share weights):
///   z ← z + W_o attention(LayerNorm(z), LayerNorm(x)),     z ← z + FF(LayerNorm(z))
///   a few times: z ← z + W_o attention(LayerNorm(z), LayerNorm(z)),   z ← z + FF(LayerNorm(z))
///   where there is an attention over depth, z ← its mean of Z and of z after every layer so far
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
    /// The attentions over depth, as many, or none.
    pub depths: Vec<DepthAttention>,
    /// Projection of the mean latent onto classes.
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
            depths: match self.depth_rank {
                Some(rank) => {
                    (0..self.sets()).map(|_| DepthAttention::new(width, rank, device)).collect()
                }
                None => Vec::new(),
            },
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
    /// `to_logits.1` and `to_logits.2` where there are classes, `attn_residuals.L.to_attn_logits.0`, `.1`
    /// and `.2` where there is an attention over depth. Shared weights are read from layer 1; those of
    /// layers after it may be there too where they are the same.
    ///
    /// # Errors
    /// [`ModelError::Configuration`] where the settings make no module; [`ModelError::Unsupported`] where
    /// the checkpoint holds other tensors; otherwise those of the checkpoint, where a tensor is missing or
    /// has another shape.
    pub fn load(
        &self,
        checkpoint: &dyn Checkpoint,
        device: &Device,
    ) -> Result<Perceiver, ModelError> {
        self.check()?;
        let asked = Asked::new(checkpoint);
        let loader = Loader { checkpoint: &asked, device };
        let width = self.latent_width;
        let block = |layer| PerceiverBlock::load(&loader, &format!("layers.{layer}"), self);
        let classify = |classes| {
            Ok::<_, ModelError>(Classify {
                norm: Norm::load(&loader, "to_logits.1", width, self.norm_epsilon)?,
                linear: loader.linear("to_logits.2", width, classes)?,
            })
        };
        let depth = |(layer, rank): (usize, usize)| {
            DepthAttention::load(&loader, &format!("attn_residuals.{layer}"), width, rank)
        };
        let ranks = (0..self.sets()).filter_map(|layer| Some((layer, self.depth_rank?)));
        let module = Perceiver {
            latents: loader.matrix("latents", [self.latents, width])?,
            blocks: (0..self.sets()).map(block).collect::<Result<_, _>>()?,
            depths: ranks.map(depth).collect::<Result<_, _>>()?,
            classify: self.classes.map(classify).transpose()?,
            depth: self.depth,
        };
        self.read_shared(&asked)?;
        asked.refuse_rest("a Perceiver", &[""], &[])?;
        Ok(module)
    }

    /// Reads what layers that share weights hold once more, where it is the same.
    fn read_shared(&self, asked: &Asked<'_>) -> Result<(), ModelError> {
        let copies = asked.rest().into_iter().filter_map(|name| {
            let shared = shared_name(&name)?;
            let layer = name.split('.').nth(1)?.parse::<usize>().ok()?;
            let used = self.sharing == Sharing::AfterFirst && layer < self.depth;
            (used && asked.shape(&shared).is_some()).then_some((name, shared))
        });
        for (name, shared) in copies {
            if asked.values(&name)? != asked.values(&shared)? {
                return Err(ModelError::Unsupported {
                    path: asked.path().to_path_buf(),
                    reason: format!(
                        "its layers are to share weights, and `{name}` is not `{shared}`"
                    ),
                });
            }
        }
        Ok(())
    }
}

/// Latents after all layers, and those that the last layer began with.
struct Run {
    latents: Tensor<3>,
    looked: Tensor<3>,
}

impl Perceiver {
    /// The latents after all layers.
    ///
    /// # Shapes
    /// - inputs: `[B, M, input width]`
    /// - output: `[B, N, latent width]`
    ///
    /// # Errors
    /// [`Error::Shape`] where the inputs have another width, or there are none.
    pub fn forward(&self, inputs: Tensor<3>) -> Result<Tensor<3>, Error> {
        Ok(self.run(inputs)?.latents)
    }

    /// The latents after all layers, and the posterior of the last layer's look at the inputs.
    ///
    /// # Shapes
    /// As [`Self::forward`].
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_and_posterior(
        &self,
        inputs: Tensor<3>,
    ) -> Result<(Tensor<3>, LastPosterior), Error> {
        let Run { latents, looked } = self.run(inputs.clone())?;
        let last = (self.depth - 1).min(self.blocks.len() - 1);
        Ok((latents, self.blocks[last].posterior(looked, inputs)?))
    }

    fn run(&self, inputs: Tensor<3>) -> Result<Run, Error> {
        let [input_width] = self.blocks[0].norm_inputs.gamma.dims();
        check_rows("inputs", &inputs, "M", input_width)?;
        let [batch, ..] = inputs.dims();
        let [count, width] = self.latents.dims();
        let mut latents: Tensor<3> =
            self.latents.val().unsqueeze_dim::<3>(0).expand([batch, count, width]);
        let mut states = match self.depths.is_empty() {
            true => Vec::new(),
            false => vec![latents.clone()],
        };
        let mut looked = latents.clone();
        for layer in 0..self.depth {
            let set = layer.min(self.blocks.len() - 1);
            looked = latents;
            latents = self.blocks[set].forward(looked.clone(), inputs.clone())?;
            if let Some(depth) = self.depths.get(set) {
                states.push(latents);
                latents = depth.forward(&states);
            }
        }
        Ok(Run { latents, looked })
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
