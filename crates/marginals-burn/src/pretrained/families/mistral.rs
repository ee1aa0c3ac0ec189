//! Mistral: Llama with a window in every layer.
//!
//! Jiang et al., *Mistral 7B* (2023).

use super::super::settings::Settings;
use super::Description;
use super::decoder::{DEFAULTS, Defaults, NAMES, visible};
use crate::error::ModelError;

const OWN: Defaults = Defaults { context: 131_072, key_heads: Some(8), ..DEFAULTS };

/// Window of a file that says nothing of it; newer models say null, and have none.
const WINDOW: usize = 4096;

pub(super) fn read(settings: &Settings, family: &'static str) -> Result<Description, ModelError> {
    let mut config = OWN.read(settings, family)?;
    let visible = visible(settings, settings.size_unless_null("sliding_window", WINDOW)?)?;
    config.layers.iter_mut().for_each(|layer| layer.visible = visible);
    Ok(Description { config, names: NAMES })
}
