//! Gemma 2 and 3: decoders that normalise before and after each part, scale words by the root of the width,
//! and give most layers a window; Gemma 2 caps its scores, Gemma 3 normalises queries and keys and has a
//! rotary embedding of its own in the layers with a window.
//!
//! Gemma Team, *Gemma 2: Improving Open Language Models at a Practical Size* (2024) and *Gemma 3 Technical
//! Report* (2025).

use super::super::activation::Activation;
use super::super::attend::Visible;
use super::super::config::TransformerConfig;
use super::super::names::Names;
use super::super::norm::{Around, NormKind};
use super::super::rotary::{RotaryConfig, RotaryDefaults};
use super::super::settings::Settings;
use super::Description;
use super::decoder::{DEFAULTS, Defaults, SLIDING, set_windows};
use crate::error::ModelError;

const OWN: Defaults = Defaults {
    key_heads: Some(4),
    head_width: Some(256),
    norm: NormKind::RmsAroundOne,
    activation: ("hidden_activation", Activation::GeluTanh),
    tied: true,
    ..DEFAULTS
};

const NAMES: Names = Names {
    attention_norms: Around {
        before: Some("input_layernorm"),
        branch: Some("post_attention_layernorm"),
        after: None,
    },
    inner_norms: Around {
        before: Some("pre_feedforward_layernorm"),
        branch: Some("post_feedforward_layernorm"),
        after: None,
    },
    ..super::decoder::NAMES
};

const WINDOW: usize = 4096;

pub(super) fn read_2(settings: &Settings, family: &'static str) -> Result<Description, ModelError> {
    let mut config = Defaults { context: 8192, ..OWN }.read(settings, family)?;
    scale(&mut config, settings)?;
    config.score_cap = settings.number_unless_null("attn_logit_softcapping", 50.0)?;
    config.logit_cap = settings.number_unless_null("final_logit_softcapping", 30.0)?;
    let window = settings.size_unless_null("sliding_window", WINDOW)?;
    set_windows(&mut config, settings, window, |layer| layer % 2 == 0)?;
    Ok(Description { config, names: NAMES })
}

pub(super) fn read_3(settings: &Settings, family: &'static str) -> Result<Description, ModelError> {
    let defaults = Defaults { context: 131_072, base: 1e6, ..OWN };
    let mut config = defaults.read(settings, family)?;
    scale(&mut config, settings)?;
    config.logit_cap = settings.optional_number("final_logit_softcapping")?;
    let window = settings.size_unless_null("sliding_window", WINDOW)?;
    let period = settings.size_or("sliding_window_pattern", 6)?;
    set_windows(&mut config, settings, window, |layer| (layer + 1) % period != 0)?;
    let local = RotaryConfig::read_own(
        settings,
        SLIDING,
        "rope_local_base_freq",
        &RotaryDefaults { base: 10_000.0, ..defaults.rotary(config.head_width, config.context) },
    )?;
    let both_ways = settings.flag_or("use_bidirectional_attention", false)?;
    for layer in &mut config.layers {
        let sliding = matches!(layer.visible, Visible::Window { .. });
        if sliding {
            layer.rotary = Some(local.clone());
        }
        if both_ways {
            layer.visible = match window.filter(|_| sliding) {
                Some(window) => Visible::Window { left: window / 2, right: window / 2 },
                None => Visible::All,
            };
        }
    }
    let names =
        Names { query_norm: Some("self_attn.q_norm"), key_norm: Some("self_attn.k_norm"), ..NAMES };
    Ok(Description { config, names })
}

/// Scales words and scores.
fn scale(config: &mut TransformerConfig, settings: &Settings) -> Result<(), ModelError> {
    config.embedding_scale = (config.width as f64).sqrt();
    let of_scores = settings.number_or("query_pre_attn_scalar", 256.0)?.sqrt().recip();
    config.layers.iter_mut().for_each(|layer| layer.scale = of_scores);
    Ok(())
}
