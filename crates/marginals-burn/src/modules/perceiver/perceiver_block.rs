//! One look at the inputs, and the thinking after it.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};
use marginals::potential::Dot;
use marginals::prior::Uniform;
use marginals::spec::ModelSpec;
use marginals::structure::EachQueryPicksOne;
use marginals::{Error, Model, Value};

use super::config::{FeedForwardActivation, PerceiverConfig};
use crate::checkpoint::loader::Loader;
use crate::error::ModelError;
use crate::modules::last_posterior::LastPosterior;
use crate::modules::norm::Norm;
use crate::modules::slots::{merge_heads, split_heads};
use crate::ops::{Nodes, Posterior};

/// Cross-attention to the inputs, feed-forward, then self-attentions with theirs.
#[derive(Module, Debug)]
pub struct PerceiverBlock {
    /// LayerNorm of the inputs.
    pub norm_inputs: Norm,
    /// Latents to inputs.
    pub cross: MultiHead,
    /// After it.
    pub cross_feed_forward: FeedForward,
    /// Latents to latents, each with the network after it.
    pub selves: Vec<SelfAttention>,
}

/// Latents attend to latents, then a feed-forward network.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// The attention.
    pub attention: MultiHead,
    /// The network.
    pub feed_forward: FeedForward,
}

/// x + W_o attention(LayerNorm(x), context), each-query-picks-one · dot · gather in every head.
#[derive(Module, Debug)]
pub struct MultiHead {
    /// LayerNorm of x.
    pub norm: Norm,
    /// x to queries, without bias.
    pub to_q: Linear,
    /// Context to keys and, behind them, values, without bias.
    pub to_kv: Linear,
    /// Heads to x.
    pub to_out: Linear,
    heads: usize,
    #[module(skip)]
    posterior: Posterior,
}

/// x + W₂ f(W₁ LayerNorm(x)).
#[derive(Module, Debug)]
pub struct FeedForward {
    /// LayerNorm of x.
    pub norm: Norm,
    /// W₁; twice as wide where half of what it makes are gates.
    pub widen: Linear,
    /// W₂.
    pub narrow: Linear,
    #[module(skip)]
    activation: FeedForwardActivation,
}

/// Widths of a [`MultiHead`].
struct Heads {
    width: usize,
    context: usize,
    heads: usize,
    head_width: usize,
}

impl Heads {
    fn cross(config: &PerceiverConfig) -> Self {
        Self {
            width: config.latent_width,
            context: config.input_width,
            heads: config.cross_heads,
            head_width: config.cross_head_width,
        }
    }

    fn own(config: &PerceiverConfig) -> Self {
        Self {
            width: config.latent_width,
            context: config.latent_width,
            heads: config.latent_heads,
            head_width: config.latent_head_width,
        }
    }

    fn inner(&self) -> usize {
        self.heads * self.head_width
    }

    fn posterior(&self) -> Posterior {
        Posterior::of(Model::new(EachQueryPicksOne, Uniform, Dot::scaled(self.head_width)))
    }
}

impl PerceiverBlock {
    pub(super) fn new(config: &PerceiverConfig, device: &Device) -> Self {
        let own = |_| SelfAttention {
            attention: MultiHead::new(&Heads::own(config), config, device),
            feed_forward: FeedForward::new(config, device),
        };
        Self {
            norm_inputs: Norm::new(config.input_width, config.norm_epsilon, device),
            cross: MultiHead::new(&Heads::cross(config), config, device),
            cross_feed_forward: FeedForward::new(config, device),
            selves: (0..config.self_per_cross).map(own).collect(),
        }
    }

    pub(super) fn load(
        loader: &Loader<'_>,
        name: &str,
        config: &PerceiverConfig,
    ) -> Result<Self, ModelError> {
        let own = |index: usize| {
            let name = format!("{name}.self_attns.{index}");
            Ok::<_, ModelError>(SelfAttention {
                attention: MultiHead::load(
                    loader,
                    &format!("{name}.0"),
                    &Heads::own(config),
                    config,
                )?,
                feed_forward: FeedForward::load(loader, &format!("{name}.1"), config)?,
            })
        };
        let cross = format!("{name}.cross_attn");
        Ok(Self {
            norm_inputs: Norm::load(
                loader,
                &format!("{cross}.norm_context"),
                config.input_width,
                config.norm_epsilon,
            )?,
            cross: MultiHead::load(loader, &cross, &Heads::cross(config), config)?,
            cross_feed_forward: FeedForward::load(loader, &format!("{name}.cross_ff"), config)?,
            selves: (0..config.self_per_cross).map(own).collect::<Result<_, _>>()?,
        })
    }

    /// Latents after one look at the inputs.
    ///
    /// # Shapes
    /// - latents: `[B, N, latent width]`
    /// - inputs: `[B, M, input width]`
    /// - output: as latents
    pub(super) fn forward(
        &self,
        latents: Tensor<3>,
        inputs: Tensor<3>,
    ) -> Result<Tensor<3>, Error> {
        let inputs = self.norm_inputs.forward(inputs)?;
        let mut latents = self.cross.forward(latents, Some(inputs))?;
        latents = self.cross_feed_forward.forward(latents)?;
        for own in &self.selves {
            latents = own.attention.forward(latents, None)?;
            latents = own.feed_forward.forward(latents)?;
        }
        Ok(latents)
    }
}

impl PerceiverBlock {
    /// The posterior of the look that latents take at the inputs.
    ///
    /// # Shapes
    /// As [`Self::forward`].
    pub(super) fn posterior(
        &self,
        latents: Tensor<3>,
        inputs: Tensor<3>,
    ) -> Result<LastPosterior, Error> {
        let inputs = self.norm_inputs.forward(inputs)?;
        let [q, k, v] = self.cross.nodes(latents, Some(inputs))?;
        let [.., width] = q.dims();
        let model = ModelSpec {
            structure: EachQueryPicksOne.into(),
            prior: Vec::new(),
            potential: Dot::scaled(width).into(),
            value: Value::Gather,
            query_offset: 0,
            inference: None,
        };
        Ok(LastPosterior { nodes: Nodes { q, k, v: Some(v) }, model })
    }
}

impl MultiHead {
    fn new(shape: &Heads, config: &PerceiverConfig, device: &Device) -> Self {
        let plain =
            |inputs, outputs| LinearConfig::new(inputs, outputs).with_bias(false).init(device);
        Self {
            norm: Norm::new(shape.width, config.norm_epsilon, device),
            to_q: plain(shape.width, shape.inner()),
            to_kv: plain(shape.context, 2 * shape.inner()),
            to_out: LinearConfig::new(shape.inner(), shape.width).init(device),
            heads: shape.heads,
            posterior: shape.posterior(),
        }
    }

    fn load(
        loader: &Loader<'_>,
        name: &str,
        shape: &Heads,
        config: &PerceiverConfig,
    ) -> Result<Self, ModelError> {
        let linear = |part: &str, inputs, outputs| {
            loader.linear(&format!("{name}.fn.{part}"), inputs, outputs)
        };
        Ok(Self {
            norm: Norm::load(loader, &format!("{name}.norm"), shape.width, config.norm_epsilon)?,
            to_q: linear("to_q", shape.width, shape.inner())?,
            to_kv: linear("to_kv", shape.context, 2 * shape.inner())?,
            to_out: linear("to_out", shape.inner(), shape.width)?,
            heads: shape.heads,
            posterior: shape.posterior(),
        })
    }

    /// `context` is normalised already; without it x attends to itself.
    fn forward(&self, x: Tensor<3>, context: Option<Tensor<3>>) -> Result<Tensor<3>, Error> {
        let [q, k, v] = self.nodes(x.clone(), context)?;
        Ok(x + self.to_out.forward(merge_heads(self.posterior.mean(q, k, v)?)))
    }

    /// Queries, keys and values.
    fn nodes(&self, x: Tensor<3>, context: Option<Tensor<3>>) -> Result<[Tensor<4>; 3], Error> {
        let normalised = self.norm.forward(x)?;
        let q = split_heads(self.to_q.forward(normalised.clone()), self.heads);
        let kv = self.to_kv.forward(context.unwrap_or(normalised));
        let [.., both] = kv.dims();
        // Read where they lie: two halves of the same rows.
        let [k, v] = [0, both / 2]
            .map(|first| split_heads(kv.clone().narrow(2, first, both / 2), self.heads));
        Ok([q, k, v])
    }
}

impl FeedForward {
    /// Numbers before and after the nonlinearity.
    fn widths(config: &PerceiverConfig) -> [usize; 2] {
        let hidden = config.widening * config.latent_width;
        match config.activation {
            FeedForwardActivation::Geglu => [2 * hidden, hidden],
            FeedForwardActivation::Gelu => [hidden, hidden],
        }
    }

    fn new(config: &PerceiverConfig, device: &Device) -> Self {
        let ([before, after], width) = (Self::widths(config), config.latent_width);
        Self {
            norm: Norm::new(width, config.norm_epsilon, device),
            widen: LinearConfig::new(width, before).init(device),
            narrow: LinearConfig::new(after, width).init(device),
            activation: config.activation,
        }
    }

    fn load(loader: &Loader<'_>, name: &str, config: &PerceiverConfig) -> Result<Self, ModelError> {
        let ([before, after], width) = (Self::widths(config), config.latent_width);
        Ok(Self {
            norm: Norm::load(loader, &format!("{name}.norm"), width, config.norm_epsilon)?,
            widen: loader.linear(&format!("{name}.fn.net.0"), width, before)?,
            narrow: loader.linear(&format!("{name}.fn.net.2"), after, width)?,
            activation: config.activation,
        })
    }

    fn forward(&self, x: Tensor<3>) -> Result<Tensor<3>, Error> {
        let wide = self.widen.forward(self.norm.forward(x.clone())?);
        let [.., width] = wide.dims();
        let wide = match self.activation {
            FeedForwardActivation::Gelu => activation::gelu(wide),
            FeedForwardActivation::Geglu => {
                let gates = wide.clone().narrow(2, width / 2, width / 2);
                wide.narrow(2, 0, width / 2) * activation::gelu(gates)
            }
        };
        Ok(x + self.narrow.forward(wide))
    }
}
