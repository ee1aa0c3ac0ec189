//! Sizes and constants of a transformer, whatever its family and the format of its file.

use super::activation::Activation;
use super::attend::Visible;
use super::norm::NormKind;
use super::relative::RelativeScores;
use super::rotary::RotaryConfig;

/// Sizes and constants of a transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformerConfig {
    /// Name of its family, as files write it.
    pub family: &'static str,
    /// Rows of the word embedding.
    pub vocabulary: usize,
    /// Width of the hidden state.
    pub width: usize,
    /// Query heads per layer.
    pub heads: usize,
    /// Key and value heads per layer; they divide the query heads.
    pub key_heads: usize,
    /// Width of one head.
    pub head_width: usize,
    /// Width inside the feed-forward part.
    pub inner_width: usize,
    /// Longest text.
    pub context: usize,
    /// Learned vectors of positions, added to those of words.
    pub positions: Positions,
    /// Rows of the embedding of sentence types, where there is one.
    pub types: Option<usize>,
    /// Factor of the words' vectors.
    pub embedding_scale: f64,
    /// Kind of every normalisation.
    pub norm: NormKind,
    /// Added to the variance or mean square in them.
    pub epsilon: f64,
    /// Non-linearity of the feed-forward part; where that is gated, of the gate.
    pub activation: Activation,
    /// Bound on the scores of attention, by a softcap.
    pub score_cap: Option<f64>,
    /// Learned scores of relative positions.
    pub relative: Option<RelativeScores>,
    /// Whether the words' embedding is also the head of the language model.
    pub tied: bool,
    /// Bound on the scores of the next token, by a softcap.
    pub logit_cap: Option<f64>,
    /// The layers, from the first.
    pub layers: Vec<LayerConfig>,
}

/// Settings in which the layers of one transformer differ.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerConfig {
    /// Which keys a query may pick.
    pub visible: Visible,
    /// Factor of the scores.
    pub scale: f64,
    /// Rotary embedding of queries and keys.
    pub rotary: Option<RotaryConfig>,
}

/// Learned vectors of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// There are none.
    None,
    /// One row for each position, from 0.
    FromZero {
        /// How many.
        rows: usize,
    },
    /// One row for each position, the first after that of `padding`, which is the row of tokens of that
    /// number (RoBERTa).
    AfterPadding {
        /// How many, those up to `padding` included.
        rows: usize,
        /// Number of the token that fills texts up.
        padding: usize,
    },
}

impl Positions {
    /// Rows of the embedding, where there is one.
    pub(crate) fn rows(self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::FromZero { rows } | Self::AfterPadding { rows, .. } => Some(rows),
        }
    }

    /// Rows of the positions of a text.
    pub(crate) fn of(self, ids: &[u32]) -> Vec<u32> {
        match self {
            Self::None | Self::FromZero { .. } => (0u32..).take(ids.len()).collect(),
            Self::AfterPadding { padding, .. } => {
                let padding = u32::try_from(padding).unwrap_or(u32::MAX);
                let mut last = padding;
                let mut next = |id: &u32| match *id == padding {
                    true => padding,
                    false => {
                        last += 1;
                        last
                    }
                };
                ids.iter().map(&mut next).collect()
            }
        }
    }
}

impl TransformerConfig {
    /// Reason why the sizes are impossible, if they are.
    pub(crate) fn fault(&self) -> Option<String> {
        let sizes = [
            ("vocabulary", self.vocabulary),
            ("width", self.width),
            ("number of layers", self.layers.len()),
            ("number of heads", self.heads),
            ("number of key heads", self.key_heads),
            ("width of a head", self.head_width),
            ("inner width", self.inner_width),
            ("context", self.context),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Some(format!("the {name} is 0"));
        }
        if !self.heads.is_multiple_of(self.key_heads) {
            return Some(format!(
                "{} key heads do not divide {} query heads",
                self.key_heads, self.heads
            ));
        }
        if self.heads.checked_mul(self.head_width).is_none_or(|width| width > usize::MAX / 4) {
            return Some("heads times their width overflows".to_owned());
        }
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            return Some(format!("the normalisation's epsilon is {}", self.epsilon));
        }
        let rotary = |layer: &LayerConfig| layer.rotary.as_ref()?.fault();
        self.layers.iter().find_map(rotary)
    }
}
