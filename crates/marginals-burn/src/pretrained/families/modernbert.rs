//! ModernBERT: encoders with rotary positions, gated feed-forward parts, and a window in two layers of three.
//!
//! Warner et al., *Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder* (2024).

use super::super::activation::Activation;
use super::super::attend::Visible;
use super::super::config::{LayerConfig, Positions, TransformerConfig};
use super::super::names::{Inner, Names, Projections};
use super::super::norm::{Around, NormKind};
use super::super::rotary::{RotaryConfig, RotaryDefaults};
use super::super::settings::Settings;
use super::Description;
use super::decoder::{FULL, SLIDING, sliding};
use crate::checkpoint::loader::Layout;
use crate::error::ModelError;

const NAMES: Names = Names {
    base: "model.",
    words: "embeddings.tok_embeddings",
    positions: None,
    types: None,
    embedding_norm: Some("embeddings.norm"),
    layers: "layers",
    attention_norms: Around { before: Some("attn_norm"), ..Around::NONE },
    first_enters_as_is: true,
    projections: Projections::Fused("attn.Wqkv"),
    query_norm: None,
    key_norm: None,
    relative: None,
    attended: "attn.Wo",
    inner_norms: Around { before: Some("mlp_norm"), ..Around::NONE },
    inner: Inner::GatedFused { both: "mlp.Wi", narrow: "mlp.Wo" },
    final_norm: Some("final_norm"),
    head: None,
    layout: Layout::OutputsInputs,
    biased: false,
    harmless: &[],
};

pub(super) fn read(settings: &Settings, family: &'static str) -> Result<Description, ModelError> {
    let (width, heads) = (settings.size("hidden_size")?, settings.size("num_attention_heads")?);
    if !width.is_multiple_of(heads) {
        return Err(settings.damaged(format!(
            "`num_attention_heads` is {heads}, which does not divide `hidden_size`, {width}"
        )));
    }
    let head_width = width / heads;
    let context = settings.size_or("max_position_embeddings", 8192)?;
    let rotary = |kind: &str, base_key: &'static str, base: f64| {
        let defaults = RotaryDefaults { head_width, context, base, partial: false };
        RotaryConfig::read_own(settings, kind, base_key, &defaults)
    };
    let everywhere = rotary(FULL, "global_rope_theta", 160_000.0)?;
    let nearby = rotary(SLIDING, "local_rope_theta", 10_000.0)?;
    // The window is the number of keys to both sides together.
    let side = settings.size_or("local_attention", 128)? / 2;
    let layers = settings.layers("num_hidden_layers")?;
    let period = settings.size_or("global_attn_every_n_layers", 3)?;
    let layer = |sliding: bool| LayerConfig {
        visible: match sliding {
            true => Visible::Window { left: side, right: side },
            false => Visible::All,
        },
        scale: (head_width as f64).sqrt().recip(),
        rotary: Some(if sliding { nearby.clone() } else { everywhere.clone() }),
    };
    let sliding = sliding(settings, layers, |index| index % period != 0)?;
    // An encoder sees both ways, whether or not its file says so.
    settings.get("is_causal");
    let config = TransformerConfig {
        family,
        vocabulary: settings.size("vocab_size")?,
        width,
        heads,
        key_heads: heads,
        head_width,
        inner_width: settings.size("intermediate_size")?,
        context,
        positions: Positions::None,
        types: None,
        embedding_scale: 1.0,
        norm: match settings.flag_or("norm_bias", false)? {
            true => NormKind::Layer,
            false => NormKind::LayerWithoutBias,
        },
        epsilon: settings.number_or("norm_eps", 1e-5)?,
        activation: settings.activation("hidden_activation", Activation::Gelu)?,
        score_cap: None,
        relative: None,
        tied: false,
        logit_cap: None,
        layers: sliding.into_iter().map(layer).collect(),
    };
    Ok(Description { config, names: NAMES })
}
