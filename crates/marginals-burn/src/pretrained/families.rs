//! Families of published transformers: each a file that turns the settings of a `config.json` into a
//! [`TransformerConfig`] and says what its tensors are called.

mod bert;
mod decoder;
mod distilbert;
mod gemma;
mod gpt2;
mod llama;
mod mistral;
mod modernbert;
mod phi3;
mod qwen;
mod roberta;

use super::config::TransformerConfig;
use super::names::Names;
use super::settings::Settings;
use crate::error::ModelError;

/// Everything that is known of a model before its weights are read.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub config: TransformerConfig,
    pub names: Names,
}

type Read = fn(&Settings, &'static str) -> Result<Description, ModelError>;

/// The families by their `model_type`.
const FAMILIES: &[(&str, Read)] = &[
    ("bert", bert::read),
    ("camembert", roberta::read),
    ("distilbert", distilbert::read),
    ("gemma2", gemma::read_2),
    ("gemma3_text", gemma::read_3),
    ("gpt2", gpt2::read),
    ("llama", llama::read),
    ("mistral", mistral::read),
    ("modernbert", modernbert::read),
    ("phi3", phi3::read),
    ("qwen2", qwen::read_2),
    ("qwen3", qwen::read_3),
    ("roberta", roberta::read),
    ("xlm-roberta", roberta::read),
];

/// The names of all families.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(name, _)| *name)
}

/// Reads the settings of a model of a family; `None` where there is no such family.
pub(super) fn read(
    settings: &Settings,
    model_type: &str,
) -> Result<Option<Description>, ModelError> {
    if model_type == "gemma3" {
        return Err(settings.unsupported(
            "its `model_type` is `gemma3`, a model of texts and images; `gemma3_text`, which its \
             part for texts is alone, is read"
                .to_owned(),
        ));
    }
    let Some((name, read)) = FAMILIES.iter().find(|(name, _)| *name == model_type) else {
        return Ok(None);
    };
    settings.refuse_quantised()?;
    let description = read(settings, name)?;
    if let Some(fault) = description.config.fault() {
        return Err(settings.damaged(fault));
    }
    settings.refuse_rest(description.config.context)?;
    Ok(Some(description))
}
