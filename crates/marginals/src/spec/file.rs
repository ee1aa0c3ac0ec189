//! Model files: one posterior, or a mechanism with unknown nodes.

use serde::{Deserialize, Serialize};

use super::{MechanismSpec, ModelSpec};
use crate::Error;

/// Content of a model file.
///
/// ```
/// use marginals::spec::ModelFile;
/// let file = ModelFile::from_toml("mechanism = { hopfield = { beta = 8.0, steps = 3 } }")?;
/// assert!(matches!(file, ModelFile::Mechanism { .. }));
/// let file = ModelFile::from_toml("structure = \"independent\"\npotential = \"dot\"")?;
/// assert!(matches!(file, ModelFile::Posterior(_)));
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ModelFile {
    /// A mechanism.
    Mechanism {
        /// Which.
        mechanism: MechanismSpec,
    },
    /// Structure, prior, potential and value.
    Posterior(ModelSpec),
}

impl ModelFile {
    /// Reads a file written in TOML.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        Self::from_value(super::toml_value(text)?)
    }

    /// Reads a file written in JSON.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        Self::from_value(super::json_value(text)?)
    }

    fn from_value(value: serde_json::Value) -> Result<Self, Error> {
        /// Read whole, so that an error has the path from the top.
        #[derive(Deserialize)]
        struct Whole {
            mechanism: MechanismSpec,
        }
        let Some(file) = value.as_object().filter(|file| file.contains_key("mechanism")) else {
            return Ok(Self::Posterior(ModelSpec::from_value(value)?));
        };
        if let Some(other) = file.keys().find(|key| *key != "mechanism") {
            return Err(Error::value(
                other.as_str(),
                "nothing: a mechanism has its parts among its own settings",
                "a section beside `mechanism`",
            ));
        }
        let Whole { mechanism } = super::read(&value)?;
        Ok(Self::Mechanism { mechanism })
    }

    /// Writes the file as TOML.
    pub fn to_toml(&self) -> Result<String, Error> {
        super::to_toml(self)
    }

    /// Writes the file as JSON.
    pub fn to_json(&self) -> Result<String, Error> {
        super::to_json(self)
    }
}
