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
mod names;
mod numbers;
mod read;
mod reads;
mod text;

pub use build::{SpecModel, Tensors};
pub use file::ModelFile;
pub use mechanism::{
    BlockSlotsSpec, DifferentiationSpec, EngineSpec, ExpandingInference, ExpandingSpec,
    HopfieldSpec, MechanismSpec, PerceiverSpec, SlotsSpec, UpdateSpec,
};
pub use names::{PARTS, Part};
pub use numbers::{Domain, Numbers};
pub use read::{read, spell_out};
pub use reads::Reads;
pub use text::{json_value, toml_value, value_of};

use serde::{Deserialize, Serialize};

use crate::Error;

/// A model of attention as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelSpec {
    /// Which sets of edges are possible.
    pub structure: StructureSpec,
    /// Structural priors, multiplied; none is uniform.
    #[serde(default)]
    pub prior: Vec<PriorSpec>,
    /// How content makes edges likely.
    pub potential: PotentialSpec,
    /// What the edges are used for.
    #[serde(default)]
    pub value: ValueSpec,
    /// Query i sits at position i + this; key j at position j.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub query_offset: i64,
}

fn is_zero(offset: &i64) -> bool {
    *offset == 0
}

/// One number for every head, or one for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number, or a list of one number per head: `0.1` or `[0.1, 0.2]`")]
pub enum PerHead {
    /// The same for all.
    One(f64),
    /// One per head.
    Each(Vec<f64>),
}

impl PerHead {
    /// The numbers, one or one per head.
    pub fn values(&self) -> Vec<f64> {
        match self {
            Self::One(x) => vec![*x],
            Self::Each(list) => list.clone(),
        }
    }
}

/// A [structure](crate::structure) as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StructureSpec {
    /// [`EachQueryPicksOne`](crate::structure::EachQueryPicksOne).
    EachQueryPicksOne,
    /// [`EachQueryPicksAtMostOne`](crate::structure::EachQueryPicksAtMostOne).
    EachQueryPicksAtMostOne {
        /// Log-weight of having no edge.
        #[serde(default = "softmax_plus_one")]
        null: PerHead,
    },
    /// [`EachKeyPicksOne`](crate::structure::EachKeyPicksOne).
    EachKeyPicksOne,
    /// [`NearestAccepted`](crate::structure::NearestAccepted).
    NearestAccepted,
    /// [`Independent`](crate::structure::Independent).
    Independent,
    /// [`Walk`](crate::structure::Walk). Where the file gives no weights they are the tensor
    /// `walk.weights` or `walk.log-weights`, and without one the same for every number of hops.
    Walk {
        /// The most hops; as many as the weights say where it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hops: Option<usize>,
        /// Weights of 0, 1, … hops.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weights: Option<HopWeights>,
        /// The structure of one step.
        #[serde(default = "one_pick")]
        step: Box<StructureSpec>,
    },
}

fn one_pick() -> Box<StructureSpec> {
    Box::new(StructureSpec::EachQueryPicksOne)
}

/// Weights over the number of hops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a list of the weights of 0, 1, … hops, or one such list per head: `[0.2, 0.8]` or \
                 `[[0.2, 0.8], [0.5, 0.5]]`"
)]
pub enum HopWeights {
    /// The same for every head.
    One(Vec<f64>),
    /// A list per head.
    Each(Vec<Vec<f64>>),
}

fn softmax_plus_one() -> PerHead {
    PerHead::One(0.0)
}

/// A [prior](crate::prior) as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PriorSpec {
    /// [`Uniform`](crate::prior::Uniform).
    Uniform,
    /// [`Causal`](crate::prior::Causal).
    Causal,
    /// [`Window`](crate::prior::Window).
    Window {
        /// How far back a query sees.
        left: usize,
        /// How far ahead.
        right: usize,
    },
    /// [`Segments`](crate::prior::Segments), of the tensors `segments.q` and `segments.k`.
    Segments,
    /// [`Adjacency`](crate::prior::Adjacency), of the tensors `adjacency.indptr`,
    /// `adjacency.indices` and, if present, `adjacency.log-weights`.
    Adjacency,
    /// [`Bias`](crate::prior::Bias), of the tensor `bias`.
    Bias,
    /// [`Geometric`](crate::prior::Geometric).
    Geometric {
        /// Share of the weight lost per step, in [0, 1).
        rho: PerHead,
    },
    /// [`Alibi`](crate::prior::Alibi).
    Alibi(AlibiSpec),
    /// [`Laplace`](crate::prior::Laplace).
    Laplace {
        /// Scale, in positions.
        scale: PerHead,
    },
    /// [`GeneralizedGaussian`](crate::prior::GeneralizedGaussian).
    GeneralizedGaussian {
        /// Scale, in positions.
        scale: PerHead,
        /// Exponent.
        shape: PerHead,
    },
    /// [`RelativeBuckets`](crate::prior::RelativeBuckets), of the tensor `relative-bias`.
    #[serde(rename_all = "kebab-case")]
    RelativeBuckets {
        /// Number of buckets: rows of the tensor.
        buckets: usize,
        /// Distance from which all share a bucket.
        max_distance: usize,
        /// Whether keys behind and ahead have buckets of their own.
        bidirectional: bool,
    },
    /// [`KeyBias`](crate::prior::KeyBias), of the tensor `key-bias`.
    KeyBias,
    /// [`BetaGeometric`](crate::prior::BetaGeometric).
    BetaGeometric {
        /// α of the Beta hyperprior.
        alpha: PerHead,
        /// β of the Beta hyperprior.
        beta: PerHead,
    },
}

/// Slopes of [`Alibi`](crate::prior::Alibi).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AlibiSpec {
    /// Those of the paper.
    Standard,
    /// Given, one per head.
    Slopes(Vec<f64>),
}

/// A [potential](crate::potential) as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PotentialSpec {
    /// [`Dot`](crate::potential::Dot).
    Dot {
        /// Scale; absent is 1/√D.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scale: Option<PerHead>,
        /// Bound on |log ψ|, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        softcap: Option<f64>,
    },
    /// [`Cosine`](crate::potential::Cosine).
    Cosine {
        /// Scale.
        scale: PerHead,
    },
    /// [`Gaussian`](crate::potential::Gaussian).
    Gaussian {
        /// Precision.
        precision: PrecisionSpec,
    },
    /// [`Additive`](crate::potential::Additive), of the tensors `additive.a`, for GAT
    /// `additive.a-key`, and, if present, `additive.query` and `additive.key`.
    Additive {
        /// Which form.
        kind: AdditiveKindSpec,
        /// Slope of LeakyReLU, for the GAT forms.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slope: Option<f64>,
    },
    /// [`Rotary`](crate::potential::Rotary) before another potential.
    Rotary {
        /// Base of the frequencies.
        #[serde(default = "usual_base")]
        base: f64,
        /// Which coordinates turn together.
        #[serde(default)]
        pairs: RotaryPairsSpec,
        /// What sees the turned nodes.
        potential: Box<PotentialSpec>,
    },
}

fn usual_base() -> f64 {
    10_000.0
}

/// Precision of [`Gaussian`](crate::potential::Gaussian).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a number, or a diagonal: one row for all heads or one row per head, of a number per \
                 coordinate: `2.0` or `[[1.0, 2.0, 3.0]]`"
)]
pub enum PrecisionSpec {
    /// A scalar for every head.
    Scalar(f64),
    /// [H or 1, D or 1].
    Matrix(Vec<Vec<f64>>),
}

/// Form of [`Additive`](crate::potential::Additive).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdditiveKindSpec {
    /// LeakyReLU(a_q·W_q q + a_k·W_k k).
    Gat,
    /// a·LeakyReLU(W_q q + W_k k).
    Gatv2,
    /// a·tanh(W_q q + W_k k).
    Bahdanau,
}

/// Pairs of [`Rotary`](crate::potential::Rotary).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotaryPairsSpec {
    /// c and c + D/2.
    #[default]
    Halves,
    /// 2c and 2c + 1.
    Neighbours,
}

/// A [value](crate::Value) as data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueSpec {
    /// Σ_j φ_ij v_j.
    #[default]
    Gather,
    /// That over the expected number of edges.
    Average,
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

    fn from_value(mut value: serde_json::Value) -> Result<Self, Error> {
        spell_out(&mut value)?;
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
