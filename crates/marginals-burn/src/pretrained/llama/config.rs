//! Configuration of a Llama, from `config.json` or from GGUF metadata.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::rotary::Pairing;
use super::scaling::Scaling;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::{GgufFile, Value};
use crate::error::ModelError;
use crate::pretrained::attend::Visible;

/// Sizes and constants of a Llama.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Rows of the word embedding.
    pub vocabulary: usize,
    /// Width of the hidden state.
    pub width: usize,
    /// Layers.
    pub layers: usize,
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
    /// Added to the mean square in the normalisation.
    pub epsilon: f64,
    /// θ of the rotary embedding: pair i turns by position · θ^(−2i/width).
    pub rotary_base: f64,
    /// Scaling of its frequencies.
    pub scaling: Scaling,
    /// Which coordinates the rotary embedding pairs up.
    pub pairing: Pairing,
    /// Which keys a query may pick: those before it, unless the file says otherwise.
    pub visible: Visible,
}

/// Why a configuration makes no model.
pub(crate) enum Fault {
    /// It cannot be true.
    Damaged(String),
    /// It asks for what there is not.
    Unsupported(String),
}

#[derive(Deserialize)]
struct HuggingFace {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<Json>,
    rope_parameters: Option<Json>,
    hidden_act: Option<String>,
}

/// Settings of relatives of Llama that change what its heads see or how they score, with what they are
/// where they change nothing, beside null.
const OTHER_ATTENTION: &[(&str, Json)] = &[
    ("alibi", Json::Bool(false)),
    ("attention_chunk_size", Json::Null),
    ("attention_multiplier", Json::Null),
    ("attn_logit_softcapping", Json::Null),
    ("clip_qkv", Json::Null),
    ("no_rope_layers", Json::Null),
    ("qk_layernorm", Json::Bool(false)),
    ("query_pre_attn_scalar", Json::Null),
    ("use_qk_norm", Json::Bool(false)),
];

const SLIDING_WINDOW_GGUF: &str = "llama.attention.sliding_window";

/// Metadata keys of GGUF files that do so, with their values where they change nothing.
const OTHER_ATTENTION_GGUF: &[(&str, f64)] = &[
    ("llama.attention.clamp_kqv", 0.0),
    ("llama.attention.max_alibi_bias", 0.0),
    ("llama.attention.scale", 0.0),
    (SLIDING_WINDOW_GGUF, 0.0),
    ("llama.attn_logit_softcapping", 0.0),
    ("llama.rope.scale_linear", 1.0),
    ("llama.rope.scaling.factor", 1.0),
];

/// Why the settings of a `config.json` ask for another attention than a Llama's, if they do.
fn other_attention(settings: &Map<String, Json>, context: usize) -> Option<String> {
    let get = |key: &str| settings.get(key).filter(|value| !value.is_null());
    let other = |key: &str, value: &Json, usual: &str| {
        Some(format!("`{key}` is {value}, which changes its attention; {usual} is supported"))
    };
    for (key, usual) in OTHER_ATTENTION {
        if let Some(value) = get(key).filter(|value| *value != usual) {
            return other(key, value, &usual.to_string());
        }
    }
    if let Some(window) = get("sliding_window")
        && get("use_sliding_window") != Some(&Json::Bool(false))
        && window.as_u64().is_none_or(|window| (window as usize) < context)
    {
        return other("sliding_window", window, "null");
    }
    if let Some(kinds) = get("layer_types") {
        let full = |kind: &Json| kind.as_str() == Some("full_attention");
        if !kinds.as_array().is_some_and(|kinds| kinds.iter().all(full)) {
            return other("layer_types", kinds, "\"full_attention\" everywhere");
        }
    }
    turned_in_part(settings)
}

/// Whether a rotary embedding turns a part of the coordinates alone.
fn turned_in_part(settings: &Map<String, Json>) -> Option<String> {
    let factor = settings.get("partial_rotary_factor").filter(|value| !value.is_null())?;
    (factor.as_f64() != Some(1.0)).then(|| {
        format!(
            "`partial_rotary_factor` is {factor}; rotary embeddings over the whole head are \
             supported"
        )
    })
}

impl LlamaConfig {
    /// Reads a `config.json`.
    pub(crate) fn from_json(text: &str) -> Result<Self, Fault> {
        let damaged = |error: serde_json::Error| Fault::Damaged(error.to_string());
        let json: HuggingFace = serde_json::from_str(text).map_err(damaged)?;
        if let Some(activation) = json.hidden_act.filter(|name| name != "silu") {
            return Err(Fault::Unsupported(format!(
                "`hidden_act` is `{activation}`; `silu` is supported"
            )));
        }
        let settings: Map<String, Json> = serde_json::from_str(text).map_err(damaged)?;
        if let Some(reason) = other_attention(&settings, json.max_position_embeddings) {
            return Err(Fault::Unsupported(reason));
        }
        let heads = json.num_attention_heads;
        let head_width =
            json.head_dim.unwrap_or_else(|| json.hidden_size.checked_div(heads).unwrap_or(0));
        let context = json.max_position_embeddings;
        // Newer files keep the base and the scaling together.
        let mut rotary_base = json.rope_theta;
        let older = json.rope_scaling.filter(|settings| !settings.is_null());
        let scaling = match older.or(json.rope_parameters).filter(|settings| !settings.is_null()) {
            None => Scaling::None,
            Some(Json::Object(settings)) => {
                if let Some(reason) = turned_in_part(&settings) {
                    return Err(Fault::Unsupported(reason));
                }
                rotary_base = settings.get("rope_theta").and_then(Json::as_f64).or(rotary_base);
                Scaling::read(&settings, context, head_width / 2)
                    .map_err(Fault::Damaged)?
                    .map_err(Fault::Unsupported)?
            }
            Some(other) => {
                return Err(Fault::Damaged(format!("its rotary scaling is {other}")));
            }
        };
        LlamaConfig {
            vocabulary: json.vocab_size,
            width: json.hidden_size,
            layers: json.num_hidden_layers,
            heads,
            key_heads: json.num_key_value_heads.unwrap_or(heads),
            head_width,
            inner_width: json.intermediate_size,
            context: scaling.context(context),
            epsilon: json.rms_norm_eps,
            rotary_base: rotary_base.unwrap_or(10_000.0),
            scaling,
            pairing: Pairing::HalfSplit,
            visible: match settings.get("is_causal") {
                Some(Json::Bool(false)) => Visible::All,
                _ => Visible::Before,
            },
        }
        .checked()
        .map_err(Fault::Damaged)
    }

    /// Reads the `llama.*` metadata of a GGUF file.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] when a size is missing or impossible, [`ModelError::Unsupported`]
    /// for scaled or partial rotary embeddings.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, ModelError> {
        let size = |key: &str| {
            file.size(key)?.ok_or_else(|| file.damaged(format!("the metadata `{key}` is missing")))
        };
        let scaling = file.text("llama.rope.scaling.type").unwrap_or("none");
        if scaling != "none" || file.shape("rope_freqs.weight").is_some() {
            return Err(file.unsupported(
                "its rotary embedding is scaled; unscaled rotary embeddings are supported".into(),
            ));
        }
        let context = size("llama.context_length")?;
        for (key, usual) in OTHER_ATTENTION_GGUF {
            let found = match file.metadata(key) {
                Some(Value::Float(number)) => *number,
                Some(Value::Unsigned(number)) => *number as f64,
                Some(Value::Signed(number)) => *number as f64,
                Some(Value::Bool(truth)) => f64::from(u8::from(*truth)),
                _ => continue,
            };
            let beyond = *key == SLIDING_WINDOW_GGUF && found >= context as f64;
            if found != *usual && !beyond {
                return Err(file.unsupported(format!(
                    "`{key}` is {found}, which changes its attention; {usual} is supported"
                )));
            }
        }
        let heads = size("llama.attention.head_count")?;
        let width = size("llama.embedding_length")?;
        let head_width = match file.size("llama.attention.key_length")? {
            Some(width) => width,
            None => width.checked_div(heads).unwrap_or(0),
        };
        let rotary_width = file.size("llama.rope.dimension_count")?.unwrap_or(head_width);
        if rotary_width != head_width {
            return Err(file.unsupported(format!(
                "it turns {rotary_width} of each head's {head_width} coordinates; rotary \
                 embeddings over the whole head are supported"
            )));
        }
        let vocabulary =
            file.shape("token_embd.weight")
                .and_then(|shape| shape.first().copied())
                .ok_or_else(|| file.damaged("the tensor `token_embd.weight` is missing".into()))?;
        LlamaConfig {
            vocabulary,
            width,
            layers: size("llama.block_count")?,
            heads,
            key_heads: file.size("llama.attention.head_count_kv")?.unwrap_or(heads),
            head_width,
            inner_width: size("llama.feed_forward_length")?,
            context,
            epsilon: file
                .number("llama.attention.layer_norm_rms_epsilon")
                .ok_or_else(|| file.damaged("the normalisation's epsilon is missing".into()))?,
            rotary_base: file.number("llama.rope.freq_base").unwrap_or(10_000.0),
            scaling: Scaling::None,
            // The converter permutes the rows of the projections so that pairs lie side by side.
            pairing: Pairing::Interleaved,
            visible: match file.metadata("llama.attention.causal") {
                Some(Value::Bool(false)) => Visible::All,
                _ => Visible::Before,
            },
        }
        .checked()
        .map_err(|reason| file.damaged(reason))
    }

    fn checked(self) -> Result<Self, String> {
        let sizes = [
            ("vocabulary", self.vocabulary),
            ("width", self.width),
            ("number of layers", self.layers),
            ("number of heads", self.heads),
            ("number of key heads", self.key_heads),
            ("width of a head", self.head_width),
            ("inner width", self.inner_width),
            ("context", self.context),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(format!("the {name} is 0"));
        }
        if !self.heads.is_multiple_of(self.key_heads) {
            return Err(format!(
                "{} key heads do not divide {} query heads",
                self.key_heads, self.heads
            ));
        }
        if !self.head_width.is_multiple_of(2) {
            return Err(format!(
                "heads are {} wide, and a rotary embedding needs pairs of coordinates",
                self.head_width
            ));
        }
        if self.heads.checked_mul(self.head_width).is_none() {
            return Err("heads times their width overflows".into());
        }
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            return Err(format!("the normalisation's epsilon is {}", self.epsilon));
        }
        if !(self.rotary_base > 0.0 && self.rotary_base.is_finite()) {
            return Err(format!("the base of the rotary embedding is {}", self.rotary_base));
        }
        Ok(self)
    }
}
