//! The model as data: what model files, the command line and other languages share.
//!
//! ```toml
//! structure = "each-query-picks-one"
//! prior     = ["causal", { geometric = { rho = 0.1 } }]
//! potential = { dot = { scale = 0.125 } }
//! ```
//!
//! A part without required settings may be named alone. Numbers that may differ by head are a
//! number or a list. What does not fit in a file (biases, graphs, projections) is named by the
//! part and given as tensors when the model is [built](ModelSpec::build).

mod build;
mod file;
mod mechanism;
mod read;
mod reads;
mod text;

pub use build::SpecModel;
pub use file::ModelFile;
pub use mechanism::{
    BlockSlotsSpec, DifferentiationSpec, EngineSpec, ExpandingInference, ExpandingSpec,
    HopfieldSpec, MechanismSpec, PerceiverSpec, SlotsSpec, UpdateSpec,
};
pub use read::read;
pub use reads::Reads;
pub use text::{json_value, toml_value, value_of};

pub use crate::model::PerHead;
pub use crate::model::part::{Description, Domain, Numbers, Sizes, Weight};
pub use crate::model::tensors::Tensors;
pub use crate::potential::AnyPotential;
pub use crate::prior::AnyPrior;
pub use crate::structure::AnyStructure;

use serde::{Deserialize, Serialize};

use crate::distance::AnyDistance;
use crate::infer::AnyInference;
use crate::model::part::{List, one_or_many};
use crate::{Error, Value};

/// A model of attention as data: its parts, each of which is its own description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelSpec {
    /// Which sets of edges are possible.
    pub structure: AnyStructure,
    /// Structural priors, multiplied; none is uniform.
    #[serde(default, deserialize_with = "one_or_many")]
    pub prior: Vec<AnyPrior>,
    /// How content makes edges likely.
    pub potential: AnyPotential,
    /// Value: the quantity whose expectation is the output.
    #[serde(default)]
    pub value: Value,
    /// Query i sits at position i + this; key j at position j.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub query_offset: i64,
    /// The inference in place of the exact one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference: Option<AnyInference>,
}

fn is_zero(offset: &i64) -> bool {
    *offset == 0
}

/// Every part of the model language.
pub fn parts() -> impl Iterator<Item = &'static Description> {
    let lists = [
        AnyStructure::DESCRIPTIONS,
        AnyPrior::DESCRIPTIONS,
        AnyPotential::DESCRIPTIONS,
        AnyDistance::DESCRIPTIONS,
    ];
    lists.into_iter().flatten()
}

impl ModelSpec {
    /// Reads a model written in TOML.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        Self::from_value(toml_value(text)?)
    }

    /// Reads a model written in JSON.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        Self::from_value(json_value(text)?)
    }

    fn from_value(value: serde_json::Value) -> Result<Self, Error> {
        read(&value)
    }

    /// Writes the model as TOML.
    pub fn to_toml(&self) -> Result<String, Error> {
        to_toml(self)
    }

    /// Writes the model as JSON.
    pub fn to_json(&self) -> Result<String, Error> {
        to_json(self)
    }
}

fn to_toml(data: &impl Serialize) -> Result<String, Error> {
    value_of(data)?;
    toml::to_string(data).map_err(|e| Error::Spec { format: "TOML", message: e.to_string() })
}

fn to_json(data: &impl Serialize) -> Result<String, Error> {
    value_of(data)?;
    serde_json::to_string_pretty(data)
        .map_err(|e| Error::Spec { format: "JSON", message: e.to_string() })
}

#[cfg(test)]
mod tests;
