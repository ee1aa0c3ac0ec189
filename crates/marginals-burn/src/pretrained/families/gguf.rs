//! Llama from the metadata of a GGUF file.

use super::super::activation::Activation;
use super::super::attend::Visible;
use super::super::config::{LayerConfig, Positions, TransformerConfig};
use super::super::names::{Inner, Names, Projections};
use super::super::norm::{Around, NormKind};
use super::super::rotary::{Pairing, RotaryConfig, Scaling};
use super::{Description, decoder};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::{GgufFile, Value};
use crate::error::ModelError;
use crate::sizes::MOST_REPEATED;

const NAMES: Names = Names {
    base: "",
    words: "token_embd",
    layers: "blk",
    attention_norms: Around { before: Some("attn_norm"), ..Around::NONE },
    projections: Projections::Apart(["attn_q", "attn_k", "attn_v"]),
    attended: "attn_output",
    inner_norms: Around { before: Some("ffn_norm"), ..Around::NONE },
    inner: Inner::Gated { gate: "ffn_gate", widen: "ffn_up", narrow: "ffn_down" },
    final_norm: Some("output_norm"),
    head: Some("output"),
    ..decoder::NAMES
};

const SLIDING_WINDOW: &str = "llama.attention.sliding_window";

/// Metadata keys that change what heads see or how they score, with their values where they change nothing.
const OTHER_ATTENTION: &[(&str, f64)] = &[
    ("llama.attention.clamp_kqv", 0.0),
    ("llama.attention.max_alibi_bias", 0.0),
    ("llama.attention.scale", 0.0),
    (SLIDING_WINDOW, 0.0),
    ("llama.attn_logit_softcapping", 0.0),
    ("llama.rope.scale_linear", 1.0),
    ("llama.rope.scaling.factor", 1.0),
];

/// Reads the `llama.*` metadata of a GGUF file.
///
/// # Errors
/// [`ModelError::Damaged`] when a size is missing or impossible, [`ModelError::Unsupported`]
/// for scaled or partial rotary embeddings.
pub fn read(file: &GgufFile) -> Result<Description, ModelError> {
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
    for (key, usual) in OTHER_ATTENTION {
        let found = match file.metadata(key) {
            Some(Value::Float(number)) => *number,
            Some(Value::Unsigned(number)) => *number as f64,
            Some(Value::Signed(number)) => *number as f64,
            Some(Value::Bool(truth)) => f64::from(u8::from(*truth)),
            _ => continue,
        };
        let beyond = *key == SLIDING_WINDOW && found >= context as f64;
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
    let vocabulary = file
        .shape("token_embd.weight")
        .and_then(|shape| shape.first().copied())
        .ok_or_else(|| file.damaged("the tensor `token_embd.weight` is missing".into()))?;
    let layers = size("llama.block_count")?;
    if layers > MOST_REPEATED {
        return Err(file.damaged(format!("it has {layers} layers, more than any model")));
    }
    let layer = LayerConfig {
        visible: match file.metadata("llama.attention.causal") {
            Some(Value::Bool(false)) => Visible::All,
            _ => Visible::Before,
        },
        scale: (head_width as f64).sqrt().recip(),
        rotary: Some(RotaryConfig {
            width: head_width,
            base: file.number("llama.rope.freq_base").unwrap_or(10_000.0),
            scaling: Scaling::None,
            // The converter permutes the rows of the projections so that pairs lie side by side.
            pairing: Pairing::Interleaved,
        }),
    };
    let config = TransformerConfig {
        family: "llama",
        vocabulary,
        width,
        heads,
        key_heads: file.size("llama.attention.head_count_kv")?.unwrap_or(heads),
        head_width,
        inner_width: size("llama.feed_forward_length")?,
        context,
        positions: Positions::None,
        types: None,
        embedding_scale: 1.0,
        norm: NormKind::Rms,
        epsilon: file
            .number("llama.attention.layer_norm_rms_epsilon")
            .ok_or_else(|| file.damaged("the normalisation's epsilon is missing".into()))?,
        activation: Activation::Silu,
        score_cap: None,
        relative: None,
        tied: file.shape("output.weight").is_none(),
        logit_cap: None,
        layers: vec![layer; layers],
    };
    match config.fault() {
        Some(fault) => Err(file.damaged(fault)),
        None => Ok(Description { config, names: NAMES }),
    }
}
