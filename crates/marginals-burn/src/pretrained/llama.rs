//! The Llama family: causal decoders with rotary positions, grouped queries and gated
//! feed-forward parts.
//!
//! Touvron et al., *LLaMA: Open and Efficient Foundation Language Models* (2023). Tensors are
//! found under the names of Hugging Face's `LlamaForCausalLM` or of GGUF.

mod config;
mod rotary;
mod scaling;

use burn::module::{Module, Param};
use burn::nn::{Embedding, Linear, RmsNorm};
use burn::tensor::{Device, Tensor, activation};

use marginals::spec::Tensors;

pub(crate) use config::Fault;
pub use config::LlamaConfig;
pub use rotary::Pairing;
use rotary::Rotary;
pub use scaling::Scaling;

use crate::checkpoint::loader::Loader;
use crate::checkpoint::{Asked, Checkpoint, Renamed};
use crate::error::ModelError;
use crate::pretrained::attend::{Attend, Layer};
use crate::pretrained::tokens::Tokens;
use crate::tensors::{indices, into_values, merge_heads, split_heads};

/// A Llama decoder with its language-model head.
#[derive(Module, Debug)]
pub struct Llama {
    words: Embedding,
    layers: Vec<LlamaLayer>,
    normalise: RmsNorm,
    /// `None` when the words' embedding is also the head.
    head: Option<Linear>,
    #[module(skip)]
    config: LlamaConfig,
}

#[derive(Module, Debug)]
struct LlamaLayer {
    attention_normalise: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    inner_normalise: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// The names of a layer's tensors, and of those outside the layers.
struct Names {
    words: &'static str,
    normalise: &'static str,
    head: &'static str,
    layers: &'static str,
    parts: [&'static str; 9],
}

const HUGGING_FACE: Names = Names {
    words: "model.embed_tokens.weight",
    normalise: "model.norm.weight",
    head: "lm_head",
    layers: "model.layers",
    parts: [
        "input_layernorm.weight",
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "post_attention_layernorm.weight",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ],
};

const GGUF: Names = Names {
    words: "token_embd.weight",
    normalise: "output_norm.weight",
    head: "output",
    layers: "blk",
    parts: [
        "attn_norm.weight",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_norm.weight",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
    ],
};

/// Tensors within the layers that are no weights: frequencies, as some versions save them.
const HARMLESS: &[&str] = &["rotary_emb.inv_freq"];

/// A tensor's name as a language model has it: the base class saves its tensors without `model.`.
fn canonical(name: &str) -> String {
    match ["embed_tokens.", "layers.", "norm."].iter().any(|own| name.starts_with(own)) {
        true => format!("model.{name}"),
        false => name.to_owned(),
    }
}

impl Llama {
    /// Loads the weights of `config` from `checkpoint`.
    ///
    /// # Errors
    /// [`ModelError`] when a tensor is missing, has another shape or cannot be read, and when a layer has one
    /// more (of a norm of queries and keys, say), or there are more layers than the configuration says.
    pub fn load(
        config: LlamaConfig,
        checkpoint: &dyn Checkpoint,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let checkpoint = &Renamed::new(checkpoint, canonical)?;
        let asked = Asked::new(checkpoint);
        let loader = Loader { checkpoint: &asked, device };
        let names = match config.pairing {
            Pairing::Interleaved => GGUF,
            Pairing::HalfSplit => HUGGING_FACE,
        };
        let width = config.width;
        let normalise = |name: &str| {
            let gamma = loader.vector(name, width)?;
            Ok::<_, ModelError>(RmsNorm { gamma, epsilon: config.epsilon })
        };
        let (query_width, key_width) =
            (config.heads * config.head_width, config.key_heads * config.head_width);
        let mut layers = Vec::new();
        for index in 0..config.layers {
            let [norm, query, key, value, attended, inner_norm, gate, up, down] =
                names.parts.map(|part| format!("{}.{index}.{part}", names.layers));
            layers.push(LlamaLayer {
                attention_normalise: normalise(&norm)?,
                query: loader.linear(&query, width, query_width)?,
                key: loader.linear(&key, width, key_width)?,
                value: loader.linear(&value, width, key_width)?,
                attended: loader.linear(&attended, query_width, width)?,
                inner_normalise: normalise(&inner_norm)?,
                gate: loader.linear(&gate, width, config.inner_width)?,
                up: loader.linear(&up, width, config.inner_width)?,
                down: loader.linear(&down, config.inner_width, width)?,
            });
        }
        let head = match checkpoint.shape(&format!("{}.weight", names.head)) {
            Some(_) => Some(loader.linear(names.head, width, config.vocabulary)?),
            None => None,
        };
        let llama = Llama {
            words: Embedding { weight: loader.matrix(names.words, [config.vocabulary, width])? },
            layers,
            normalise: normalise(names.normalise)?,
            head,
            config,
        };
        asked.refuse_rest("a Llama", &[&format!("{}.", names.layers)], HARMLESS)?;
        Ok(llama)
    }

    /// Configuration of the model.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The last hidden state after its normalisation, `[N, width]`.
    ///
    /// # Errors
    /// [`ModelError::TextTooLong`], [`ModelError::TokenOutsideVocabulary`], or whatever `attend`
    /// reports.
    pub fn forward(
        &self,
        tokens: &Tokens,
        attend: &mut dyn Attend,
    ) -> Result<Tensor<2>, ModelError> {
        let config = &self.config;
        tokens.check(config.context, config.vocabulary)?;
        let device = self.words.weight.val().device();
        let nodes = tokens.len();
        let pairs = config.head_width / 2;
        let frequencies = config.scaling.frequencies(config.rotary_base, pairs, nodes);
        let rotary = Rotary::new(nodes, frequencies, config.pairing);
        let mut hidden: Tensor<2> =
            self.words.forward(indices(&tokens.ids, &device)).reshape([nodes, config.width]);
        for (index, layer) in self.layers.iter().enumerate() {
            hidden = layer.forward(hidden, index, config, &rotary, attend)?;
        }
        Ok(self.normalise.forward(hidden))
    }

    /// log P(next token | the text up to and including `position`), one entry per vocabulary item,
    /// in nats. `hidden` is what [`Self::forward`] returned.
    ///
    /// # Panics
    /// If `position` lies outside `hidden`.
    pub fn next_token_log_probabilities(&self, hidden: &Tensor<2>, position: usize) -> Vec<f64> {
        let last = hidden.clone().narrow(0, position, 1);
        let scores = match &self.head {
            Some(head) => head.forward(last),
            None => {
                let head = Linear {
                    weight: Param::from_tensor(self.words.weight.val().transpose()),
                    bias: None,
                };
                head.forward(last)
            }
        };
        let scores: Vec<f64> = into_values(scores).into_iter().map(f64::from).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
        let log_partition = largest + sum.ln();
        scores.into_iter().map(|score| score - log_partition).collect()
    }
}

impl LlamaLayer {
    fn forward(
        &self,
        hidden: Tensor<2>,
        index: usize,
        config: &LlamaConfig,
        rotary: &Rotary,
        attend: &mut dyn Attend,
    ) -> Result<Tensor<2>, ModelError> {
        let device = hidden.device();
        let [nodes, _] = hidden.dims();
        let normal = self.attention_normalise.forward(hidden.clone());
        let mut queries = into_values(self.query.forward(normal.clone()));
        let mut keys = into_values(self.key.forward(normal.clone()));
        let values = into_values(self.value.forward(normal));
        rotary.turn(&mut queries, nodes);
        rotary.turn(&mut keys, nodes);
        let scale = (config.head_width as f32).sqrt().recip();
        let context = attend
            .attend(&Layer {
                index,
                queries: split_heads(&queries, nodes, config.heads),
                keys: split_heads(&keys, nodes, config.key_heads),
                values: split_heads(&values, nodes, config.key_heads),
                model: &config.visible.model(scale),
                tensors: &Tensors::default(),
            })
            .map_err(|reason| ModelError::Attention { layer: index, reason })?;
        let hidden = hidden + self.attended.forward(merge_heads(&context, &device));
        let normal = self.inner_normalise.forward(hidden.clone());
        let gate = activation::silu(self.gate.forward(normal.clone()));
        Ok(hidden + self.down.forward(gate * self.up.forward(normal)))
    }
}
