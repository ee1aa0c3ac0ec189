//! Mechanisms with unknown nodes as data.

use marginals_kernels::Real;
use serde::{Deserialize, Serialize};

use super::build::build_prior;
use super::{PerHead, PotentialSpec, PriorSpec, Tensors};
use crate::Error;
use crate::infer::collapsed::{
    Acceleration, Backtracking, Descent, Differentiable, Differentiation, Exact, FixedPoint,
    Maximise, Update,
};
use crate::prior::Product;
use crate::zoo::{k_means, mixture};

/// A mechanism of the [zoo](crate::zoo) that is more than one posterior, as data.
///
/// ```toml
/// mechanism = { hopfield = { beta = 8.0, steps = 3 } }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
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
}

impl MechanismSpec {
    /// The engine's settings, where the mechanism repeats an update.
    pub fn engine_mut(&mut self) -> Option<&mut EngineSpec> {
        match self {
            Self::Hopfield(spec) => Some(&mut spec.engine),
            Self::Expanding(spec) => match &mut spec.inference {
                ExpandingInference::MeanField(engine) => Some(engine),
                ExpandingInference::Exact => None,
            },
            Self::Mixture(_) | Self::KMeans(_) => None,
        }
    }

    /// The update, where there is a choice of one.
    pub fn update_mut(&mut self) -> Option<&mut UpdateSpec> {
        match self {
            Self::Hopfield(spec) => Some(&mut spec.update),
            Self::Expanding(_) | Self::Mixture(_) | Self::KMeans(_) => None,
        }
    }
}

/// Settings of a Hopfield network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HopfieldSpec {
    /// Inverse temperature, above 0.
    pub beta: PerHead,
    /// What is known beforehand of which state goes to which pattern; none is uniform.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prior: Vec<PriorSpec>,
    /// How the states move.
    #[serde(default)]
    pub update: UpdateSpec,
    /// How often, and how the result is differentiated.
    #[serde(flatten)]
    pub engine: EngineSpec,
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
    pub potential: PotentialSpec,
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

fn usual_potential() -> PotentialSpec {
    PotentialSpec::Dot { scale: None, softcap: None }
}

fn usual_loss() -> f64 {
    1e-6
}

fn usual_first_keys() -> usize {
    64
}

/// How expanding attention finds its posterior.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ExpandingInference {
    /// ρ summed out.
    #[default]
    Exact,
    /// q(φ) q(ρ) by coordinate ascent.
    MeanField(EngineSpec),
}

/// What moves the unknown nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
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
#[serde(rename_all = "kebab-case")]
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
        tensors: &'a Tensors<T>,
    ) -> Result<Product<'a, T>, Error> {
        build_prior(&self.prior, heads, tensors)
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
