//! A language model over bytes whose attention is any model.

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor, activation};
use marginals::Error;
use marginals::prior::{AnyPrior, PriorPart};
use marginals::spec::{Sizes, Weight};
use marginals::structure::StructurePart;
use serde::{Deserialize, Serialize};

use super::attention::AttentionConfig;
use super::transformer_block::{TransformerBlock, TransformerBlockConfig};
use crate::modules::norm::Norm;
use crate::ops::Answers;
use crate::sizes::{at_least_one, refuse_empty};

/// Bytes there are.
pub(crate) const VOCABULARY: usize = 256;

/// Width that no model of bytes has.
const WIDEST: usize = 1 << 20;

/// Weights that no model of bytes has: 8 GB.
const MOST_WEIGHTS: f64 = (1u64 << 31) as f64;

/// How a byte knows where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// By the model's prior and potential alone.
    None,
    /// By a learned vector for each position, added to the byte's.
    Learned,
}

/// Configuration of [`ByteLm`].
#[derive(Config, Debug)]
pub struct ByteLmConfig {
    /// Layers.
    pub layers: usize,
    /// A layer, its attention's model causal.
    pub block: TransformerBlockConfig,
    /// Longest text trained on; with learned positions, the longest there can be.
    pub context: usize,
    /// How a byte knows where it stands.
    #[config(default = "Positions::None")]
    pub positions: Positions,
}

/// A decoder over bytes:
///
/// ```text
/// x_i = E[byte i] (+ P[i]),   x ← block(x) for each layer,   log p(byte i + 1) = log_softmax(E LayerNorm(x_i))
/// ```
///
/// The embedding E is also the head.
#[derive(Module, Debug)]
pub struct ByteLm {
    /// E, `[256, width]`.
    pub bytes: Embedding,
    /// P, `[context, width]`, where positions are learned.
    pub positions: Option<Param<Tensor<2>>>,
    /// The layers.
    pub blocks: Vec<TransformerBlock>,
    /// LayerNorm before the head.
    pub norm: Norm,
    context: usize,
}

impl ByteLmConfig {
    /// A module with fresh weights.
    ///
    /// # Errors
    /// [`Error`], naming the setting that makes no module.
    pub fn init(&self, device: &Device) -> Result<ByteLm, Error> {
        at_least_one("layers", self.layers)?;
        at_least_one("context", self.context)?;
        let width = self.block.attention.width;
        // Of this size the first predictions are nearly uniform.
        let normal = Initializer::Normal { mean: 0.0, std: 0.02 };
        let mut blocks = Vec::with_capacity(self.layers);
        for _ in 0..self.layers {
            let mut block = self.block.init(device)?;
            // What the residual stream adds up keeps its size whatever the depth
            // (Radford et al. 2019, §2.3).
            let shrink = 1.0 / (2.0 * self.layers as f64).sqrt();
            for linear in [&mut block.attention.projections.output, &mut block.narrow] {
                let weight = linear.weight.val() * shrink;
                linear.weight = Param::from_tensor(weight.detach());
            }
            blocks.push(block);
        }
        Ok(ByteLm {
            bytes: EmbeddingConfig::new(VOCABULARY, width)
                .with_initializer(normal.clone())
                .init(device),
            positions: match self.positions {
                Positions::None => None,
                Positions::Learned => Some(normal.init([self.context, width], device)),
            },
            blocks,
            norm: Norm::new(width, self.block.norm_epsilon, device),
            context: self.context,
        })
    }

    /// Refuses sizes that no memory holds: a file may ask for anything. `prefix` is what stands before
    /// the settings' names where they are read.
    pub(crate) fn check_sizes(&self, prefix: &str) -> Result<(), Error> {
        let block = &self.block;
        let AttentionConfig { width, heads, head_width, .. } = block.attention;
        let head_width = head_width.unwrap_or(width / heads.max(1));
        let inner = block.inner_width.unwrap_or(width.saturating_mul(4));
        for (name, size, most) in [
            ("layers", self.layers, 1 << 10),
            ("width", width, WIDEST),
            ("heads", heads, WIDEST),
            ("head-width", head_width, WIDEST),
            ("inner-width", inner, 4 * WIDEST),
            ("context", self.context, 1 << 24),
        ] {
            if size > most {
                return Err(Error::value(
                    format!("{prefix}{name}"),
                    format!("at most {most}"),
                    size,
                ));
            }
        }
        let sizes = Sizes { heads, key_heads: heads, width: head_width };
        let of_weight =
            |weight: &Weight| weight.shape.iter().map(|&size| size as f64).product::<f64>();
        let named: f64 = block.attention.model.weights(&sizes).iter().map(of_weight).sum();
        let [width, heads, head_width, inner] =
            [width, heads, head_width, inner].map(|size| size as f64);
        let attention = 4.0 * heads * width * head_width + named;
        let layers = self.layers as f64 * (attention + 2.0 * width * inner);
        let learned = matches!(self.positions, Positions::Learned);
        let positions = if learned { self.context as f64 } else { 0.0 };
        let weights = layers + width * (VOCABULARY as f64 + positions);
        if weights > MOST_WEIGHTS {
            return Err(Error::value(
                format!("{prefix}layers"),
                format!("sizes of at most {MOST_WEIGHTS:.0} weights"),
                format!("{} of about {weights:.0} in all", self.layers),
            ));
        }
        Ok(())
    }

    /// Refuses a model that lets bytes see those after them: it would learn to copy.
    ///
    /// # Errors
    /// [`Error::Value`].
    pub fn causal(&self) -> Result<(), Error> {
        let model = &self.block.attention.model;
        let behind = |prior: &AnyPrior| !prior.sees_ahead();
        let by_query = !model.structure.couples_queries();
        match by_query && model.query_offset <= 0 && model.prior.iter().any(behind) {
            true => Ok(()),
            false => Err(Error::value(
                "model.attention",
                "a structure in which queries pick and a prior with `causal`, or a window with \
                 right = 0",
                "one that lets bytes see those after them",
            )),
        }
    }
}

impl ByteLm {
    /// Scores of the byte after each.
    ///
    /// # Shapes
    /// - bytes: `[B, N]`, numbers below 256
    /// - output: `[B, N, 256]`, log-probabilities up to a constant of the row
    ///
    /// # Errors
    /// [`Error`], where the text is longer than the learned positions, or as
    /// [`TransformerBlock::forward`].
    pub fn forward(&self, bytes: Tensor<2, Int>) -> Result<Tensor<3>, Error> {
        self.ask(bytes, &[]).map(|(scores, _)| scores)
    }

    /// The same, and what the posterior of every layer knows.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn ask(
        &self,
        bytes: Tensor<2, Int>,
        questions: &[&str],
    ) -> Result<(Tensor<3>, Vec<Answers>), Error> {
        let mut x = self.embed(bytes)?;
        let mut answers = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (next, found) = block.ask(x, questions)?;
            x = next;
            answers.push(found);
        }
        Ok((self.scores(x)?, answers))
    }

    /// The nodes before the first layer.
    pub(crate) fn embed(&self, bytes: Tensor<2, Int>) -> Result<Tensor<3>, Error> {
        let [_, length] = bytes.dims();
        refuse_empty("bytes", &bytes.dims(), "[B, N]")?;
        let x = self.bytes.forward(bytes);
        let Some(positions) = &self.positions else { return Ok(x) };
        if length > self.context {
            return Err(Error::shape(
                "bytes",
                format!("at most {} bytes, one for each learned position", self.context),
                &[length],
                "Cut the text, or use a model whose positions are in its prior.",
            ));
        }
        Ok(x + positions.val().narrow(0, 0, length).unsqueeze_dim(0))
    }

    /// The head.
    pub(crate) fn scores(&self, x: Tensor<3>) -> Result<Tensor<3>, Error> {
        let head = self.bytes.weight.val().transpose().unsqueeze_dim(0);
        Ok(self.norm.forward(x)?.matmul(head))
    }

    /// −log p of each target in nats, averaged: what training lowers. Over log 2 it is bits per byte.
    ///
    /// # Shapes
    /// - bytes, targets: `[B, N]`; the target of a byte is the one after it
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn loss(&self, bytes: Tensor<2, Int>, targets: Tensor<2, Int>) -> Result<Tensor<1>, Error> {
        if bytes.dims() != targets.dims() {
            let expected = format!("{:?}, one for each byte", bytes.dims());
            let advice = "The target of a byte is the one after it.";
            return Err(Error::shape("targets", expected, &targets.dims(), advice));
        }
        Ok(cross_entropy(self.forward(bytes)?, targets).mean())
    }

    /// The longest text trained on.
    pub fn context(&self) -> usize {
        self.context
    }
}

/// −log p of each target in nats, `[B · N]`.
pub(crate) fn cross_entropy(scores: Tensor<3>, targets: Tensor<2, Int>) -> Tensor<1> {
    let [batch, length, width] = scores.dims();
    let log_p = activation::log_softmax(scores.reshape([batch * length, width]), 1);
    let own = log_p.gather(1, targets.reshape([batch * length, 1]));
    -own.reshape([batch * length])
}
