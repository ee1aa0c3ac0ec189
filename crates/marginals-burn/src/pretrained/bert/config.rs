//! `config.json` of a BERT.

use serde::Deserialize;

use crate::pretrained::activation::Activation;
use crate::pretrained::attend::Visible;

/// The parts of a Hugging Face `config.json` that decide what a BERT computes.
///
/// Older files leave out what was the only choice then; the defaults are those of transformers.
#[derive(Clone, Debug, Deserialize)]
pub struct BertConfig {
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// Width of the hidden state.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads per layer; they divide the width.
    pub num_attention_heads: usize,
    /// Width between the two linear maps of the feed-forward part.
    pub intermediate_size: usize,
    /// Non-linearity of the feed-forward part.
    #[serde(default = "gelu")]
    pub hidden_act: Activation,
    /// Positions with an embedding: the longest text.
    #[serde(default = "positions")]
    pub max_position_embeddings: usize,
    /// Sentence types with an embedding.
    #[serde(default = "types")]
    pub type_vocab_size: usize,
    /// Added to the variance in layer normalisation.
    #[serde(default = "epsilon")]
    pub layer_norm_eps: f64,
    /// Whether a position sees only those before it, and itself.
    #[serde(default)]
    pub is_decoder: bool,
    /// Whether its layers also attend to another text; not supported.
    #[serde(default)]
    pub add_cross_attention: bool,
    /// How positions enter; only learned, absolute ones are supported.
    #[serde(default)]
    pub position_embedding_type: PositionEmbedding,
}

/// How positions enter a BERT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum PositionEmbedding {
    /// One learned vector per position, added to the word's.
    #[default]
    #[serde(rename = "absolute")]
    Absolute,
}

fn gelu() -> Activation {
    Activation::Gelu
}

fn positions() -> usize {
    512
}

fn types() -> usize {
    2
}

fn epsilon() -> f64 {
    1e-12
}

impl BertConfig {
    /// Which keys a query may pick.
    pub fn visible(&self) -> Visible {
        match self.is_decoder {
            true => Visible::Before,
            false => Visible::All,
        }
    }

    /// Reason why the configuration asks for a model that is not supported, if it does.
    pub(crate) fn unsupported(&self) -> Option<String> {
        self.add_cross_attention
            .then(|| "`add_cross_attention` is true; a BERT of one text is read".to_owned())
    }

    /// Reason why the sizes are impossible, if they are.
    pub(crate) fn fault(&self) -> Option<String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Some(format!("`{name}` is 0"));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Some(format!(
                "`num_attention_heads` is {}, which does not divide `hidden_size`, {}",
                self.num_attention_heads, self.hidden_size
            ));
        }
        None
    }
}
