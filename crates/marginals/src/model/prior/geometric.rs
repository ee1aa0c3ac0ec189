use serde::{Deserialize, Serialize};

use super::of_distance::{OfDistance, exponential_tail, prior_of_distance};
use crate::distance::AnyDistance;
use crate::model::part::{Number, Part, within};
use crate::{Accumulator, PerHead, Real, number};

/// log w_ij = |d| log(1 − ρ), d the distance: every step away from the query loses the share
/// ρ ∈ [0, 1) of the weight.
///
/// The geometric prior of Singh & Buckley (arXiv 2304.04556, expanding attention);
/// [`Alibi`](super::Alibi) is this with ρ = 1 − e^−slope. ρ = 0 is uniform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Geometric {
    /// Share of the weight that is lost per step.
    pub rho: PerHead,
    /// The distance d.
    #[serde(default, skip_serializing_if = "AnyDistance::is_index")]
    pub distance: AnyDistance,
}

impl Geometric {
    /// The same ρ for every head.
    pub fn new(rho: impl Into<PerHead>) -> Self {
        Self { rho: rho.into(), distance: AnyDistance::default() }
    }

    /// One ρ per head.
    pub fn per_head(rho: &[f64]) -> Self {
        Self::new(rho)
    }
}

impl Part for Geometric {
    const NAME: &'static str = "geometric";
    const MEANING: &'static str = "log w_ij = |d| log(1 − ρ), d the distance";
    const EXAMPLE: &'static str = "{ geometric = { rho = 0.1 } }";
    const NUMBERS: &'static [Number<Self>] = &[number!("geometric.rho", UnitInterval, rho)];
    within!(distance);
}

impl OfDistance for Geometric {
    fn distance(&self) -> &AnyDistance {
        &self.distance
    }
    fn log_weight(&self, head: usize, d: f64) -> f64 {
        // At d = 0 the weight is 1 whatever ρ is.
        if d == 0.0 { 0.0 } else { d.abs() * (-self.rho.of(head)).ln_1p() }
    }
    fn difference(&self, head: usize, d: f64, from: f64) -> Option<f64> {
        Some((d.abs() - from.abs()) * (-self.rho.of(head)).ln_1p())
    }
    fn slope(&self, head: usize, d: f64) -> f64 {
        let rate = -(-self.rho.of(head)).ln_1p();
        if d >= 0.0 { -rate } else { rate }
    }
    fn gradient<T: Real>(&self, head: usize, d: f64, g: f64, into: &mut [Accumulator<'_, T>]) {
        into[0].add(self.rho.index(head), -g * d.abs() / (1.0 - self.rho.of(head)));
    }
    fn upper_bound(&self, head: usize, near: f64, _far: f64) -> Option<f64> {
        Some(self.log_weight(head, near))
    }
    fn log_tail(&self, head: usize, near: f64, far: f64) -> Option<f64> {
        Some(exponential_tail(-(-self.rho.of(head)).ln_1p(), near, far))
    }
}

prior_of_distance!(Geometric);
