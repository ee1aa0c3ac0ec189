//! GPT-2: decoders with learned positions and layer normalisation before each part.
//!
//! Radford et al., *Language Models are Unsupervised Multitask Learners* (2019).

use super::super::activation::Activation;
use super::super::attend::Visible;
use super::super::config::{LayerConfig, Positions, TransformerConfig};
use super::super::names::{Inner, Names, Projections};
use super::super::norm::{Around, NormKind};
use super::super::settings::Settings;
use super::Description;
use crate::checkpoint::loader::Layout;
use crate::error::ModelError;

const NAMES: Names = Names {
    base: "transformer.",
    words: "wte",
    positions: Some("wpe"),
    types: None,
    embedding_norm: None,
    layers: "h",
    attention_norms: Around { before: Some("ln_1"), ..Around::NONE },
    first_enters_as_is: false,
    projections: Projections::Fused("attn.c_attn"),
    query_norm: None,
    key_norm: None,
    relative: None,
    attended: "attn.c_proj",
    inner_norms: Around { before: Some("ln_2"), ..Around::NONE },
    inner: Inner::Plain { widen: "mlp.c_fc", narrow: "mlp.c_proj" },
    final_norm: Some("ln_f"),
    head: Some("lm_head"),
    layout: Layout::InputsOutputs,
    biased: true,
    // Its causal masks.
    harmless: &[".attn.bias", ".attn.masked_bias"],
};

pub(super) fn read(settings: &Settings, family: &'static str) -> Result<Description, ModelError> {
    settings.get("is_decoder");
    let (width, heads) = (settings.size("n_embd")?, settings.size("n_head")?);
    if !width.is_multiple_of(heads) {
        return Err(settings.damaged(format!("`n_head` is {heads}, which does not divide {width}")));
    }
    let head_width = width / heads;
    let rows = settings.size_or("n_positions", 1024)?;
    let scale = match settings.flag_or("scale_attn_weights", true)? {
        true => (head_width as f64).sqrt().recip(),
        false => 1.0,
    };
    let by_layer = settings.flag_or("scale_attn_by_inverse_layer_idx", false)?;
    let visible = match settings.flag_or("is_causal", true)? {
        true => Visible::Before,
        false => Visible::All,
    };
    let layer = |index: usize| LayerConfig {
        visible,
        scale: if by_layer { scale / (index + 1) as f64 } else { scale },
        rotary: None,
    };
    let config = TransformerConfig {
        family,
        vocabulary: settings.size("vocab_size")?,
        width,
        heads,
        key_heads: heads,
        head_width,
        inner_width: settings.size_or("n_inner", 4 * width)?,
        context: rows,
        positions: Positions::FromZero { rows },
        types: None,
        embedding_scale: 1.0,
        norm: NormKind::Layer,
        epsilon: settings.number_or("layer_norm_epsilon", 1e-5)?,
        activation: settings.activation("activation_function", Activation::GeluTanh)?,
        score_cap: None,
        relative: None,
        tied: settings.flag_or("tie_word_embeddings", true)?,
        logit_cap: None,
        layers: (0..settings.layers("n_layer")?).map(layer).collect(),
    };
    Ok(Description { config, names: NAMES })
}
