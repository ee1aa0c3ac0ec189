//! Phi-3 and 4: Llama with fused maps, a window in some models, and a rotary embedding scaled by LongRoPE
//! or turning a part of each head.
//!
//! Abdin et al., *Phi-3 Technical Report* (2024).

use super::super::names::{Inner, Names, Projections};
use super::super::settings::Settings;
use super::Description;
use super::decoder::{DEFAULTS, Defaults, NAMES, visible};
use crate::error::ModelError;

const OWN: Defaults = Defaults { context: 4096, epsilon: 1e-5, partial_rotary: true, ..DEFAULTS };

pub(super) fn read(settings: &Settings, family: &'static str) -> Result<Description, ModelError> {
    let mut config = OWN.read(settings, family)?;
    let visible = visible(settings, settings.optional_size("sliding_window")?)?;
    config.layers.iter_mut().for_each(|layer| layer.visible = visible);
    let names = Names {
        projections: Projections::Fused("self_attn.qkv_proj"),
        inner: Inner::GatedFused { both: "mlp.gate_up_proj", narrow: "mlp.down_proj" },
        ..NAMES
    };
    Ok(Description { config, names })
}
