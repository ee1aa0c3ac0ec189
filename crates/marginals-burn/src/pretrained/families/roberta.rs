//! RoBERTa, XLM-RoBERTa and CamemBERT: BERT, its positions counted from after that of padding.
//!
//! Liu et al., *RoBERTa: A Robustly Optimized BERT Pretraining Approach* (2019).

use super::super::config::Positions;
use super::super::names::Names;
use super::super::settings::Settings;
use super::{Description, bert};
use crate::error::ModelError;

pub(super) fn read(settings: &Settings, family: &'static str) -> Result<Description, ModelError> {
    let mut config = bert::encoder(settings, family)?;
    let rows = config.context;
    let padding = settings.index_or("pad_token_id", 1)?;
    config.positions = Positions::AfterPadding { rows, padding };
    config.context = rows.saturating_sub(padding + 1);
    Ok(Description { config, names: Names { base: "roberta.", ..bert::NAMES } })
}
