//! Llama: decoders with rotary positions, grouped queries and gated feed-forward parts.
//!
//! Touvron et al., *LLaMA: Open and Efficient Foundation Language Models* (2023).

use super::super::settings::Settings;
use super::Description;
use super::decoder::{DEFAULTS, NAMES};
use crate::error::ModelError;

pub(super) fn read(settings: &Settings, family: &'static str) -> Result<Description, ModelError> {
    Ok(Description { config: DEFAULTS.read(settings, family)?, names: NAMES })
}
