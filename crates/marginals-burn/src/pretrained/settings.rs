//! Settings of a model, read from its `config.json` by name.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::activation::Activation;
use crate::error::ModelError;
use crate::sizes::{MOST_REPEATED, WIDEST};

/// The content of a `config.json`, which knows the names that it was asked for.
///
/// A setting that is `null` is one that is not there.
#[derive(Debug)]
pub struct Settings {
    path: PathBuf,
    all: Map<String, Json>,
    asked: RefCell<HashSet<String>>,
}

/// Settings that make another model of the one whose weights these are, with their values where they
/// change nothing, beside null. A family that honours one of them asks for it.
const OTHER_MODELS: &[(&str, Json)] = &[
    ("add_cross_attention", Json::Bool(false)),
    ("alibi", Json::Bool(false)),
    ("attention_chunk_size", Json::Null),
    ("attention_multiplier", Json::Null),
    ("attn_logit_softcapping", Json::Null),
    ("clip_qkv", Json::Null),
    ("cross_attention_hidden_size", Json::Null),
    ("dual_chunk_attention_config", Json::Null),
    ("embedding_multiplier", Json::Null),
    ("final_logit_softcapping", Json::Null),
    ("is_causal", Json::Bool(true)),
    ("is_decoder", Json::Bool(false)),
    ("is_encoder_decoder", Json::Bool(false)),
    ("logit_scale", Json::Null),
    ("logits_scaling", Json::Null),
    ("no_rope_layers", Json::Null),
    ("parallel_attn", Json::Bool(false)),
    ("qk_layernorm", Json::Bool(false)),
    ("query_pre_attn_scalar", Json::Null),
    ("residual_multiplier", Json::Null),
    ("rope_parameters", Json::Null),
    ("rope_scaling", Json::Null),
    ("use_bidirectional_attention", Json::Bool(false)),
    ("use_parallel_residual", Json::Bool(false)),
    ("use_qk_norm", Json::Bool(false)),
];

impl Settings {
    /// Reads the text of a `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// [`ModelError::Damaged`], where it is not a JSON object.
    pub fn new(path: &Path, text: &str) -> Result<Self, ModelError> {
        match serde_json::from_str(text) {
            Ok(all) => Ok(Self::of(path, all)),
            Err(error) => {
                let (path, reason) = (path.to_path_buf(), error.to_string());
                Err(ModelError::Damaged { path, reason })
            }
        }
    }

    /// Settings that are read; `path` is for messages.
    pub fn of(path: &Path, all: Map<String, Json>) -> Self {
        Self { path: path.to_path_buf(), all, asked: RefCell::default() }
    }

    /// The value of a setting.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.all.get(key).filter(|value| !value.is_null())
    }

    /// That a setting cannot be true.
    pub fn damaged(&self, reason: String) -> ModelError {
        ModelError::Damaged { path: self.path.clone(), reason }
    }

    /// That a setting asks for what there is not.
    pub fn unsupported(&self, reason: String) -> ModelError {
        ModelError::Unsupported { path: self.path.clone(), reason }
    }

    fn read<'s, R>(
        &'s self,
        key: &str,
        kind: &str,
        read: impl Fn(&'s Json) -> Option<R>,
    ) -> Result<Option<R>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let unlike = || self.damaged(format!("`{key}` is {value}, and {kind} is expected"));
        read(value).ok_or_else(unlike).map(Some)
    }

    /// A size, where there is one.
    ///
    /// # Errors
    /// [`ModelError::Damaged`], where it is 0, or more than any model has.
    pub fn optional_size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let size = |value: &Json| usize::try_from(value.as_u64()?).ok();
        match self.read(key, "a whole number", size)? {
            Some(0) => Err(self.damaged(format!("`{key}` is 0"))),
            Some(size) if size > WIDEST => {
                Err(self.damaged(format!("`{key}` is {size}, more than any model has")))
            }
            size => Ok(size),
        }
    }

    /// A size, or its default.
    ///
    /// # Errors
    /// As [`Self::optional_size`].
    pub fn size_or(&self, key: &str, default: usize) -> Result<usize, ModelError> {
        Ok(self.optional_size(key)?.unwrap_or(default))
    }

    /// A size that there must be.
    ///
    /// # Errors
    /// As [`Self::optional_size`], and where it is missing.
    pub fn size(&self, key: &str) -> Result<usize, ModelError> {
        let missing = || self.damaged(format!("`{key}` is missing"));
        self.optional_size(key)?.ok_or_else(missing)
    }

    /// A number of layers.
    ///
    /// # Errors
    /// As [`Self::size`].
    pub fn layers(&self, key: &str) -> Result<usize, ModelError> {
        match self.size(key)? {
            layers if layers <= MOST_REPEATED => Ok(layers),
            layers => Err(self.damaged(format!("`{key}` is {layers}, more than any model has"))),
        }
    }

    /// A number above 0, where there is one.
    ///
    /// # Errors
    /// [`ModelError::Damaged`], where it is none.
    pub fn optional_number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let positive = |value: &Json| value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        self.read(key, "a number above 0", positive)
    }

    /// A number above 0, or its default.
    ///
    /// # Errors
    /// As [`Self::optional_number`].
    pub fn number_or(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    /// A number above 0 or its default, unless null switches it off.
    ///
    /// # Errors
    /// As [`Self::optional_number`].
    pub fn number_unless_null(&self, key: &str, default: f64) -> Result<Option<f64>, ModelError> {
        Ok(self.optional_number(key)?.or((!self.all.contains_key(key)).then_some(default)))
    }

    /// A size or its default, unless null switches it off.
    ///
    /// # Errors
    /// As [`Self::optional_size`].
    pub fn size_unless_null(&self, key: &str, default: usize) -> Result<Option<usize>, ModelError> {
        Ok(self.optional_size(key)?.or((!self.all.contains_key(key)).then_some(default)))
    }

    /// A whole number that may be 0, or its default.
    ///
    /// # Errors
    /// [`ModelError::Damaged`], where it is none.
    pub fn index_or(&self, key: &str, default: usize) -> Result<usize, ModelError> {
        let index = |value: &Json| usize::try_from(value.as_u64()?).ok();
        Ok(self.read(key, "a whole number", index)?.unwrap_or(default))
    }

    /// True or false, or its default.
    ///
    /// # Errors
    /// [`ModelError::Damaged`], where it is neither.
    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        Ok(self.read(key, "true or false", Json::as_bool)?.unwrap_or(default))
    }

    /// A text, where there is one.
    ///
    /// # Errors
    /// [`ModelError::Damaged`], where it is none.
    pub fn text(&self, key: &str) -> Result<Option<&str>, ModelError> {
        self.read(key, "a text", Json::as_str)
    }

    /// A list of texts, where there is one.
    ///
    /// # Errors
    /// [`ModelError::Damaged`], where it is none.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, ModelError> {
        let texts = |value| Json::as_array(value)?.iter().map(Json::as_str).collect();
        self.read(key, "a list of texts", texts)
    }

    /// An activation, or its default.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`], where there is none of its name.
    pub fn activation(&self, key: &str, default: Activation) -> Result<Activation, ModelError> {
        let Some(name) = self.get(key) else { return Ok(default) };
        serde_json::from_value(name.clone()).map_err(|error| {
            self.unsupported(format!("`{key}` is {name}, an activation that is not read ({error})"))
        })
    }

    /// Refuses weights that are quantised, as a setting says.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`], naming the method.
    pub fn refuse_quantised(&self) -> Result<(), ModelError> {
        let found = ["quantization_config", "compression_config"]
            .into_iter()
            .find_map(|key| Some((key, self.get(key)?)));
        let Some((key, settings)) = found else { return Ok(()) };
        let method = settings.get("quant_method").and_then(Json::as_str).unwrap_or("its tool");
        Err(self.unsupported(format!(
            "its weights are quantised by {method} (`{key}`); weights that are not, or a GGUF file, are \
             read"
        )))
    }

    /// Refuses settings that nobody asked for and that would make another model. `context` is the longest
    /// text.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`], naming the setting.
    pub fn refuse_rest(&self, context: usize) -> Result<(), ModelError> {
        let asked = self.asked.borrow().clone();
        let rest = |key: &str| match asked.contains(key) {
            true => None,
            false => self.get(key),
        };
        let other = |key: &str, value: &Json, usual: &str| {
            Err(self.unsupported(format!(
                "`{key}` is {value}, which makes another model of it; {usual} is supported"
            )))
        };
        for (key, usual) in OTHER_MODELS {
            if let Some(value) = rest(key).filter(|value| *value != usual) {
                return other(key, value, &usual.to_string());
            }
        }
        if let Some(kind) = rest("position_embedding_type").filter(|kind| **kind != "absolute") {
            return other("position_embedding_type", kind, "\"absolute\"");
        }
        if let Some(window) = rest("sliding_window")
            && self.get("use_sliding_window") != Some(&Json::Bool(false))
            && window.as_u64().is_none_or(|window| (window as usize) < context)
        {
            return other("sliding_window", window, "null");
        }
        if let Some(kinds) = rest("layer_types") {
            let full = |kind: &Json| kind.as_str() == Some("full_attention");
            if !kinds.as_array().is_some_and(|kinds| kinds.iter().all(full)) {
                return other("layer_types", kinds, "\"full_attention\" everywhere");
            }
        }
        Ok(())
    }
}
