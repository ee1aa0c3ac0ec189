//! The BERT family: encoders with learned positions and post-layer normalisation.
//!
//! Devlin et al., *BERT: Pre-training of Deep Bidirectional Transformers* (2019); the tensor names
//! are those of Hugging Face's `BertModel`.

mod config;

use burn::module::Module;
use burn::nn::{Embedding, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Tensor};

use marginals::spec::Tensors;

pub use config::BertConfig;

use crate::checkpoint::loader::Loader;
use crate::checkpoint::{Asked, Checkpoint, Renamed};
use crate::error::ModelError;
use crate::pretrained::attend::{Attend, Layer};
use crate::pretrained::tokens::Tokens;
use crate::tensors::{indices, into_values, merge_heads, split_heads};

/// A BERT encoder, bidirectional unless its configuration makes a decoder of it.
#[derive(Module, Debug)]
pub struct Bert {
    words: Embedding,
    positions: Embedding,
    types: Embedding,
    normalise: LayerNorm,
    layers: Vec<BertLayer>,
    #[module(skip)]
    config: BertConfig,
}

#[derive(Module, Debug)]
struct BertLayer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    attended_normalise: LayerNorm,
    widen: Linear,
    narrow: Linear,
    narrow_normalise: LayerNorm,
}

/// Where a file keeps the encoder. What lies elsewhere (pooling, heads of tasks) comes after it.
const OWN: [&str; 2] = ["embeddings.", "encoder."];

/// Tensors within the encoder that are no weights: indices as some versions save them.
const HARMLESS: &[&str] = &["position_ids", "token_type_ids"];

/// The tensor that every BERT has.
const WORDS: &str = "embeddings.word_embeddings.weight";

/// Names of the part of a larger model that is the encoder.
const PARTS: [&str; 7] =
    ["auto_model", "backbone", "base_model", "bert", "encoder", "model", "text_encoder"];

/// The prefix under which a file keeps the encoder: files saved from a task model have one.
fn prefix(checkpoint: &dyn Checkpoint) -> Result<String, ModelError> {
    let refused = |reason| ModelError::Unsupported { path: checkpoint.path().to_owned(), reason };
    let mut found: Vec<String> = (checkpoint.names().iter())
        .filter_map(|name| name.strip_suffix(WORDS))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .map(str::to_owned)
        .collect();
    found.sort_unstable();
    let Some(prefix) = found.pop() else {
        return Err(refused(format!("it has no tensor `{WORDS}`, which every BERT has")));
    };
    if let Some(other) = found.first() {
        return Err(refused(format!(
            "it holds two encoders, `{other}{WORDS}` and `{prefix}{WORDS}`; one is read"
        )));
    }
    let part = prefix.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    match part.is_empty() || PARTS.contains(&part) {
        true => Ok(prefix),
        false => Err(refused(format!(
            "its words are `{prefix}{WORDS}`, and a BERT's have no prefix or one of {}; weights of \
             another family are not a BERT's",
            PARTS.join(", ")
        ))),
    }
}

/// A tensor's name without the prefix, its norm's parts called as they are today.
fn canonical(name: &str, prefix: &str) -> String {
    let name = name.strip_prefix(prefix).unwrap_or(name);
    for (older, today) in
        [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")]
    {
        if let Some(norm) = name.strip_suffix(older) {
            return format!("{norm}{today}");
        }
    }
    name.to_owned()
}

impl Bert {
    /// Loads the weights of `config` from `checkpoint`.
    ///
    /// # Errors
    /// [`ModelError`] when a tensor is missing, has another shape or cannot be read, and when the file has
    /// one more of the encoder than the configuration says.
    pub fn load(
        config: BertConfig,
        checkpoint: &dyn Checkpoint,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let checkpoint = Renamed::new(checkpoint, str::to_owned)?;
        let prefix = prefix(&checkpoint)?;
        let checkpoint = Renamed::new(&checkpoint, |name| canonical(name, &prefix))?;
        let asked = Asked::new(&checkpoint);
        let loader = Loader { checkpoint: &asked, device };
        let width = config.hidden_size;
        let embedding = |name: &str, rows| {
            let name = format!("embeddings.{name}_embeddings.weight");
            Ok::<_, ModelError>(Embedding { weight: loader.matrix(&name, [rows, width])? })
        };
        let normalise = |name: &str| {
            let mut norm =
                LayerNormConfig::new(width).with_epsilon(config.layer_norm_eps).init(device);
            norm.gamma = loader.vector(&format!("{name}.LayerNorm.weight"), width)?;
            norm.beta = Some(loader.vector(&format!("{name}.LayerNorm.bias"), width)?);
            Ok::<_, ModelError>(norm)
        };
        let mut layers = Vec::new();
        for index in 0..config.num_hidden_layers {
            let linear = |name: &str, inputs, outputs| {
                loader.linear(&format!("encoder.layer.{index}.{name}"), inputs, outputs)
            };
            let layer_norm = |name: &str| normalise(&format!("encoder.layer.{index}.{name}"));
            layers.push(BertLayer {
                query: linear("attention.self.query", width, width)?,
                key: linear("attention.self.key", width, width)?,
                value: linear("attention.self.value", width, width)?,
                attended: linear("attention.output.dense", width, width)?,
                attended_normalise: layer_norm("attention.output")?,
                widen: linear("intermediate.dense", width, config.intermediate_size)?,
                narrow: linear("output.dense", config.intermediate_size, width)?,
                narrow_normalise: layer_norm("output")?,
            });
        }
        let bert = Bert {
            words: embedding("word", config.vocab_size)?,
            positions: embedding("position", config.max_position_embeddings)?,
            types: embedding("token_type", config.type_vocab_size)?,
            normalise: normalise("embeddings")?,
            layers,
            config,
        };
        asked.refuse_rest("a BERT", &OWN, HARMLESS)?;
        Ok(bert)
    }

    /// Configuration of the model.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// The last hidden state, `[N, hidden]`.
    ///
    /// # Errors
    /// [`ModelError::TextTooLong`], [`ModelError::TokenOutsideVocabulary`], or whatever `attend`
    /// reports.
    pub fn forward(
        &self,
        tokens: &Tokens,
        attend: &mut dyn Attend,
    ) -> Result<Tensor<2>, ModelError> {
        tokens.check(self.config.max_position_embeddings, self.config.vocab_size)?;
        if let Some(&id) =
            tokens.type_ids.iter().find(|&&id| id as usize >= self.config.type_vocab_size)
        {
            let vocabulary = self.config.type_vocab_size;
            return Err(ModelError::TokenOutsideVocabulary { id, vocabulary });
        }
        let device = self.words.weight.val().device();
        let nodes = tokens.len();
        let positions: Vec<u32> = (0u32..).take(nodes).collect();
        let embedded = self.words.forward(indices(&tokens.ids, &device))
            + self.positions.forward(indices(&positions, &device))
            + self.types.forward(indices(&tokens.type_ids, &device));
        let mut hidden: Tensor<2> =
            self.normalise.forward(embedded).reshape([nodes, self.config.hidden_size]);
        for (index, layer) in self.layers.iter().enumerate() {
            hidden = layer.forward(hidden, index, &self.config, attend)?;
        }
        Ok(hidden)
    }

    /// The sentence embedding: the mean of the last hidden state over all tokens, scaled to
    /// length 1 (Reimers & Gurevych, *Sentence-BERT*, 2019).
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn embed(&self, tokens: &Tokens, attend: &mut dyn Attend) -> Result<Vec<f32>, ModelError> {
        let mean = into_values(self.forward(tokens, attend)?.mean_dim(0));
        let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
        // The floor PyTorch's `normalize` uses: a zero vector stays zero.
        let length = length.max(1e-12);
        Ok(mean.into_iter().map(|x| x / length).collect())
    }
}

impl BertLayer {
    fn forward(
        &self,
        hidden: Tensor<2>,
        index: usize,
        config: &BertConfig,
        attend: &mut dyn Attend,
    ) -> Result<Tensor<2>, ModelError> {
        let device = hidden.device();
        let [nodes, width] = hidden.dims();
        let heads = config.num_attention_heads;
        let queries = into_values(self.query.forward(hidden.clone()));
        let keys = into_values(self.key.forward(hidden.clone()));
        let values = into_values(self.value.forward(hidden.clone()));
        let scale = ((width / heads) as f32).sqrt().recip();
        let context = attend
            .attend(&Layer {
                index,
                queries: split_heads(&queries, nodes, heads),
                keys: split_heads(&keys, nodes, heads),
                values: split_heads(&values, nodes, heads),
                model: &config.visible().model(scale),
                tensors: &Tensors::default(),
            })
            .map_err(|reason| ModelError::Attention { layer: index, reason })?;
        let attended = self.attended.forward(merge_heads(&context, &device));
        let hidden = self.attended_normalise.forward(hidden + attended);
        let wide = self.widen.forward(hidden.clone());
        let wide = config.hidden_act.forward(wide);
        Ok(self.narrow_normalise.forward(hidden + self.narrow.forward(wide)))
    }
}
