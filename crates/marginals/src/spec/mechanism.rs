//! Mechanisms with unknown nodes as data.

use std::path::PathBuf;

use crate::Real;
use serde::{Deserialize, Serialize};

use super::{AnyPotential, AnyPrior, PerHead, Sizes, Tensors};
use crate::Error;
use crate::infer::collapsed::{
    Acceleration, Backtracking, Descent, Differentiable, Differentiation, Exact, FixedPoint,
    Maximise, Update,
};
use crate::model::part::one_or_many;
use crate::potential::Dot;
use crate::prior::Product;
use crate::zoo::{k_means, mixture};

/// A mechanism of the [zoo](crate::zoo) that is more than one posterior, as data.
///
/// ```toml
/// mechanism = { hopfield = { beta = 8.0, steps = 3 } }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "mechanism", rename_all = "kebab-case", deny_unknown_fields)]
pub enum MechanismSpec {
    /// [`hopfield`](crate::zoo::hopfield), of the tensors `states` [B, H, N, D], `patterns`
    /// [B, Hk, M, D] and, to recall other values than the patterns, `values` [B, Hk, M, D_v].
    Hopfield(HopfieldSpec),
    /// [`mixture`](crate::zoo::mixture), of the tensors `points` [B, Hk, N, D] and, to start from,
    /// `means` [B, H, K, D], `variances` [B, H, K, 1 or D] and `weights` [B, H, K].
    Mixture(mixture::Settings),
    /// [`k_means`](crate::zoo::k_means), of the tensors `points` and, to start from, `means`.
    KMeans(k_means::Settings),
    /// [`expanding`](crate::zoo::expanding), of the tensors `q`, `k` and `v`, and `alpha` and
    /// `beta` [B, H, N] (any axis may be 1) where the file gives none.
    Expanding(ExpandingSpec),
    /// `marginals_burn::SlotAttention`, of the tensors `inputs` [B, M, D] and, to start from, `start`
    /// [B, N, S].
    Slots(SlotsSpec),
    /// `marginals_burn::BlockSlotAttention`, of the same.
    BlockSlots(BlockSlotsSpec),
    /// `marginals_burn::Perceiver`, of the tensor `inputs` [B, M, D].
    Perceiver(PerceiverSpec),
}

impl MechanismSpec {
    /// The file with weights, where the mechanism has any; `None` says they are in the input.
    pub fn weights_mut(&mut self) -> Option<&mut Option<PathBuf>> {
        match self {
            Self::Slots(spec) => Some(&mut spec.weights),
            Self::BlockSlots(spec) => Some(&mut spec.weights),
            Self::Perceiver(spec) => Some(&mut spec.weights),
            _ => None,
        }
    }

    /// The engine's settings, where the mechanism repeats an update.
    pub fn engine_mut(&mut self) -> Option<&mut EngineSpec> {
        match self {
            Self::Hopfield(spec) => Some(&mut spec.engine),
            Self::Expanding(spec) => match &mut spec.inference {
                ExpandingInference::MeanField(engine) => Some(engine),
                ExpandingInference::Exact => None,
            },
            _ => None,
        }
    }

    /// The update, where there is a choice of one.
    pub fn update_mut(&mut self) -> Option<&mut UpdateSpec> {
        match self {
            Self::Hopfield(spec) => Some(&mut spec.update),
            _ => None,
        }
    }
}

/// Settings of a Hopfield network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", from = "HopfieldSettings")]
pub struct HopfieldSpec {
    /// Inverse temperature, above 0.
    pub beta: PerHead,
    /// Priors over the patterns that a state may go to; none is uniform.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prior: Vec<AnyPrior>,
    /// How the states move.
    pub update: UpdateSpec,
    /// How often, and how the result is differentiated.
    #[serde(flatten)]
    pub engine: EngineSpec,
}

/// Raw form of [`HopfieldSpec`]: a flattened table forgets under which key an error lies.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct HopfieldSettings {
    beta: PerHead,
    #[serde(default, deserialize_with = "one_or_many")]
    prior: Vec<AnyPrior>,
    #[serde(default)]
    update: UpdateSpec,
    #[serde(default = "usual_steps")]
    steps: usize,
    #[serde(default = "usual_tolerance")]
    tolerance: f64,
    #[serde(default)]
    energy_tolerance: Option<f64>,
    #[serde(default)]
    memory: usize,
    #[serde(default)]
    differentiation: DifferentiationSpec,
}

impl From<HopfieldSettings> for HopfieldSpec {
    fn from(settings: HopfieldSettings) -> Self {
        let engine = EngineSpec {
            steps: settings.steps,
            tolerance: settings.tolerance,
            energy_tolerance: settings.energy_tolerance,
            memory: settings.memory,
            differentiation: settings.differentiation,
        };
        Self { beta: settings.beta, prior: settings.prior, update: settings.update, engine }
    }
}

/// Settings of expanding attention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExpandingSpec {
    /// α of ρ ~ Beta(α, β); absent, it is the tensor `alpha`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<PerHead>,
    /// β, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta: Option<PerHead>,
    /// How content makes edges likely: a dot product with the usual scale, unless said otherwise.
    #[serde(default = "usual_potential")]
    pub potential: AnyPotential,
    /// How the posterior of ρ is found.
    #[serde(default)]
    pub inference: ExpandingInference,
    /// Largest posterior mass that a window may lose, in [0, 1); 0 reads every key.
    #[serde(default = "usual_loss")]
    pub lost: f64,
    /// Keys that a window starts with.
    #[serde(default = "usual_first_keys")]
    pub first_keys: usize,
    /// Query i sits at position i + this.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub query_offset: i64,
}

fn usual_potential() -> AnyPotential {
    Dot::default().into()
}

fn usual_loss() -> f64 {
    1e-6
}

fn usual_first_keys() -> usize {
    64
}

/// How expanding attention finds its posterior.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "inference", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ExpandingInference {
    /// ρ summed out.
    #[default]
    Exact,
    /// q(φ) q(ρ) by coordinate ascent.
    MeanField(EngineSpec),
}

/// Settings of slot attention; widths are those of the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SlotsSpec {
    /// Weights in safetensors, beside the model file; without it they are the tensors `weights.*`
    /// of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Slots, where the input gives none to start from.
    #[serde(default = "seven")]
    pub slots: usize,
    /// Refinements.
    #[serde(default = "three")]
    pub iterations: usize,
    /// Heads, each with a competition of its own; absent is one, where the weights combine no heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Numbers per head; absent is the width of the weights over the heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_width: Option<usize>,
    /// Added to the marginals before they are averaged with.
    #[serde(default = "usual_epsilon")]
    pub epsilon: f64,
    /// ε of the layer normalisations.
    #[serde(default = "usual_norm_epsilon")]
    pub norm_epsilon: f64,
    /// Seed of the start.
    #[serde(default)]
    pub seed: u64,
}

/// Settings of block-slot attention; widths and prototypes are those of the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BlockSlotsSpec {
    /// As of [`SlotsSpec`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Blocks per slot; absent, as many as the weights have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<usize>,
    /// Slots, where the input gives none to start from.
    #[serde(default = "four")]
    pub slots: usize,
    /// Refinements.
    #[serde(default = "three")]
    pub iterations: usize,
    /// Added to the marginals before they are averaged with.
    #[serde(default = "usual_epsilon")]
    pub epsilon: f64,
    /// ε of the layer normalisations.
    #[serde(default = "usual_norm_epsilon")]
    pub norm_epsilon: f64,
    /// Seed of the start.
    #[serde(default)]
    pub seed: u64,
}

/// Settings of a Perceiver; sizes are those of the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PerceiverSpec {
    /// As of [`SlotsSpec`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Layers, where more of them share the last weights than the file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Heads of the cross-attention; absent is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_heads: Option<usize>,
    /// Heads of the self-attention; absent, heads of 64 numbers, where those fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent_heads: Option<usize>,
    /// ε of the layer normalisations.
    #[serde(default = "usual_norm_epsilon")]
    pub norm_epsilon: f64,
}

fn three() -> usize {
    3
}

fn four() -> usize {
    4
}

fn seven() -> usize {
    7
}

fn usual_epsilon() -> f64 {
    1e-8
}

fn usual_norm_epsilon() -> f64 {
    1e-5
}

/// Update of the unknown nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename = "update", rename_all = "kebab-case", deny_unknown_fields)]
pub enum UpdateSpec {
    /// The mechanism's closed form: F never rises.
    #[default]
    Exact,
    /// Gradient steps of a fixed size.
    Descent {
        /// The size.
        step: f64,
    },
    /// Gradient steps, shortened where F would not fall enough.
    Backtracking {
        /// The largest size.
        step: f64,
    },
}

/// A [`FixedPoint`] as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EngineSpec {
    /// Steps at most.
    #[serde(default = "usual_steps")]
    pub steps: usize,
    /// A problem stops where no number moves by more than this; 0 takes all the steps, unless it
    /// stands still.
    #[serde(default = "usual_tolerance")]
    pub tolerance: f64,
    /// It also stops where F falls by no more than this in a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_tolerance: Option<f64>,
    /// Steps that Anderson acceleration remembers; 0 takes plain steps.
    #[serde(default)]
    pub memory: usize,
    /// How the result is differentiated.
    #[serde(default)]
    pub differentiation: DifferentiationSpec,
}

fn usual_steps() -> usize {
    FixedPoint::default().max_steps
}

fn usual_tolerance() -> f64 {
    FixedPoint::default().tolerance
}

impl Default for EngineSpec {
    /// As [`FixedPoint::default`].
    fn default() -> Self {
        Self {
            steps: usual_steps(),
            tolerance: usual_tolerance(),
            energy_tolerance: None,
            memory: 0,
            differentiation: DifferentiationSpec::default(),
        }
    }
}

/// A [`Differentiation`] as data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "differentiation", rename_all = "kebab-case")]
pub enum DifferentiationSpec {
    /// Through the equation of the fixed point.
    #[default]
    Implicit,
    /// Back through every step.
    Unrolled,
    /// Through the last step alone; biased.
    OneStep,
}

impl HopfieldSpec {
    /// The prior of the network, for `heads` heads of states.
    pub fn build_prior<'a, T: Real>(
        &self,
        heads: usize,
        tensors: &'a Tensors<'_, T>,
    ) -> Result<Product<'a, T>, Error> {
        let sizes = Sizes { heads, key_heads: heads, width: 0 };
        AnyPrior::product(&self.prior, sizes, tensors)
    }
}

impl EngineSpec {
    /// The engine.
    pub fn build(&self) -> FixedPoint {
        FixedPoint {
            tolerance: self.tolerance,
            energy_tolerance: self.energy_tolerance,
            max_steps: self.steps,
            acceleration: match self.memory {
                0 => Acceleration::None,
                memory => Acceleration::Anderson { memory },
            },
            differentiation: match self.differentiation {
                DifferentiationSpec::Implicit => Differentiation::default(),
                DifferentiationSpec::Unrolled => Differentiation::Unrolled,
                DifferentiationSpec::OneStep => Differentiation::OneStep,
            },
        }
    }
}

impl UpdateSpec {
    /// The update of a model.
    pub fn build<'a, T: Real, M: Maximise<T> + Differentiable<T>>(
        &self,
        model: &'a M,
    ) -> Result<Box<dyn Update<T> + 'a>, Error> {
        Ok(match *self {
            Self::Exact => Box::new(Exact(model)),
            Self::Descent { step } => Box::new(Descent::new(model, step)?),
            Self::Backtracking { step } => {
                let descent = Descent::new(model, step)?;
                Box::new(descent.with_backtracking(Backtracking::default())?)
            }
        })
    }
}
