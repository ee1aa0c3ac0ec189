//! Qwen 2, 2.5 and 3: Llama with biases of queries, keys and values, in Qwen 3 normalised queries and keys
//! in their place, and in some models a window in the upper layers.
//!
//! Yang et al., *Qwen2 Technical Report* (2024) and *Qwen3 Technical Report* (2025).

use super::super::names::Names;
use super::super::settings::Settings;
use super::Description;
use super::decoder::{DEFAULTS, Defaults, NAMES, set_windows};
use crate::error::ModelError;

const OWN: Defaults = Defaults { context: 32_768, ..DEFAULTS };

pub(super) fn read_2(settings: &Settings, family: &'static str) -> Result<Description, ModelError> {
    read(settings, family, &OWN, NAMES)
}

pub(super) fn read_3(settings: &Settings, family: &'static str) -> Result<Description, ModelError> {
    let names =
        Names { query_norm: Some("self_attn.q_norm"), key_norm: Some("self_attn.k_norm"), ..NAMES };
    read(settings, family, &Defaults { head_width: Some(128), ..OWN }, names)
}

fn read(
    settings: &Settings,
    family: &'static str,
    defaults: &Defaults,
    names: Names,
) -> Result<Description, ModelError> {
    let mut config = defaults.read(settings, family)?;
    let window = settings.size_unless_null("sliding_window", 4096)?;
    let window = match settings.flag_or("use_sliding_window", false)? {
        true => window,
        false => None,
    };
    let first = settings.index_or("max_window_layers", 28)?;
    set_windows(&mut config, settings, window, |layer| window.is_some() && layer >= first)?;
    Ok(Description { config, names })
}
