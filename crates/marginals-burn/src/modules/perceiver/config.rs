//! Configuration of a Perceiver.

use burn::config::Config;
use marginals::Error;

use crate::checkpoint::Checkpoint;
use crate::error::ModelError;
use crate::modules::slots::{optional_shape, shape_of};
use crate::sizes::{check_norm_epsilon, check_repeated, check_width};

/// Which layers have weights of their own.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All.
    Separate,
    /// The first; all others share one set (Jaegle et al. 2021, §3.2).
    AfterFirst,
}

/// The nonlinearity of the feed-forward networks.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum FeedForwardActivation {
    /// GEGLU (Shazeer 2020): half of the hidden numbers, times the GELU of the others.
    Geglu,
    /// GELU of all.
    Gelu,
}

/// Configuration of [`Perceiver`](super::Perceiver).
#[derive(Config, Debug)]
pub struct PerceiverConfig {
    /// Numbers per input, position encoding included.
    pub input_width: usize,
    /// Latents.
    pub latents: usize,
    /// Numbers per latent.
    pub latent_width: usize,
    /// Times the latents look at the inputs.
    pub depth: usize,
    /// Self-attentions after each look.
    #[config(default = 1)]
    pub self_per_cross: usize,
    /// Heads of the cross-attention.
    #[config(default = 1)]
    pub cross_heads: usize,
    /// Heads of the self-attention.
    #[config(default = 8)]
    pub latent_heads: usize,
    /// Numbers per head of the cross-attention.
    #[config(default = 64)]
    pub cross_head_width: usize,
    /// Numbers per head of the self-attention.
    #[config(default = 64)]
    pub latent_head_width: usize,
    /// Which layers have weights of their own.
    #[config(default = "Sharing::AfterFirst")]
    pub sharing: Sharing,
    /// The nonlinearity of the feed-forward networks.
    #[config(default = "FeedForwardActivation::Geglu")]
    pub activation: FeedForwardActivation,
    /// Hidden numbers per number of a latent, after the nonlinearity.
    #[config(default = 4)]
    pub widening: usize,
    /// Classes of the final map; without, the latents themselves are the output.
    pub classes: Option<usize>,
    /// Rank of the maps of the attention over depth; without, each layer goes on from the one before.
    pub depth_rank: Option<usize>,
    /// ε of the layer normalisations.
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
}

impl PerceiverConfig {
    /// Refuses settings that make no module.
    ///
    /// # Errors
    /// [`Error::Value`], naming the setting.
    pub fn check(&self) -> Result<(), Error> {
        for (name, size) in [
            ("input_width", self.input_width),
            ("latents", self.latents),
            ("latent_width", self.latent_width),
            ("cross_heads", self.cross_heads),
            ("latent_heads", self.latent_heads),
            ("cross_head_width", self.cross_head_width),
            ("latent_head_width", self.latent_head_width),
            ("widening", self.widening),
            ("classes", self.classes.unwrap_or(1)),
            ("depth_rank", self.depth_rank.unwrap_or(1)),
        ] {
            check_width(name, size)?;
        }
        check_repeated("depth", self.depth)?;
        check_norm_epsilon(self.norm_epsilon)
    }

    /// Sets of weights that the layers have between them.
    pub(super) fn sets(&self) -> usize {
        match self.sharing {
            Sharing::Separate => self.depth,
            Sharing::AfterFirst => self.depth.min(2),
        }
    }

    /// The sizes a checkpoint was trained with. How its inner widths fall into heads is not in it: the
    /// cross-attention is taken to have one head, as it has by default in `perceiver-pytorch`, and the
    /// self-attention heads of 64, or one where 64 does not divide its width. Layers are taken to share
    /// weights where all their tensors are equal; how often they are used is not in a file that holds them
    /// once.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] where a tensor that sizes are read from is missing or has another
    /// number of axes; those of reading it.
    pub fn of_checkpoint(checkpoint: &dyn Checkpoint) -> Result<Self, ModelError> {
        let [latents, latent_width] = shape_of(checkpoint, "latents")?;
        let [_, input_width] = shape_of(checkpoint, "layers.0.cross_attn.fn.to_kv.weight")?;
        let [cross_inner, _] = shape_of(checkpoint, "layers.0.cross_attn.fn.to_q.weight")?;
        let [outer, _] = shape_of(checkpoint, "layers.0.cross_ff.fn.net.0.weight")?;
        let [_, hidden] = shape_of(checkpoint, "layers.0.cross_ff.fn.net.2.weight")?;
        let has = |name: String| checkpoint.shape(&name).is_some();
        let to_q = |layer: usize| format!("layers.{layer}.cross_attn.fn.to_q.weight");
        let depth = (0..).take_while(|&layer| has(to_q(layer))).count();
        let own = |index: usize| format!("layers.0.self_attns.{index}.0.fn.to_q.weight");
        let self_per_cross = (0..).take_while(|&index| has(own(index))).count();
        let mut config = Self::new(input_width, latents, latent_width, depth)
            .with_self_per_cross(self_per_cross)
            .with_cross_head_width(cross_inner)
            .with_widening(hidden / latent_width.max(1))
            .with_activation(match outer == hidden {
                true => FeedForwardActivation::Gelu,
                false => FeedForwardActivation::Geglu,
            });
        if self_per_cross > 0 {
            let [inner, _] = shape_of(checkpoint, &own(0))?;
            let heads = if inner % 64 == 0 { inner / 64 } else { 1 };
            config.latent_heads = heads;
            config.latent_head_width = inner / heads.max(1);
        }
        if let Some([rank, _]) = optional_shape(checkpoint, &depth_attention(0))? {
            config.depth_rank = Some(rank);
        }
        for name in checkpoint.names() {
            if let Some(shared) = shared_name(&name)
                && checkpoint.shape(&shared).is_some()
                && checkpoint.values(&name)? != checkpoint.values(&shared)?
            {
                config.sharing = Sharing::Separate;
                break;
            }
        }
        if let Some(shape) = checkpoint.shape("to_logits.2.weight") {
            config.classes = shape.first().copied();
        }
        Ok(config)
    }
}

/// The map to the rank of the attention over depth.
fn depth_attention(layer: usize) -> String {
    format!("attn_residuals.{layer}.to_attn_logits.1.weight")
}

/// The tensor of layer 1 that a tensor of a layer after it equals where layers share weights.
pub(super) fn shared_name(name: &str) -> Option<String> {
    let (list, rest) = name.split_once('.')?;
    let (layer, part) = rest.split_once('.')?;
    let after_the_second = layer.parse::<usize>().is_ok_and(|layer| layer > 1);
    let of_layers = matches!(list, "layers" | "attn_residuals");
    (of_layers && after_the_second).then(|| format!("{list}.1.{part}"))
}
