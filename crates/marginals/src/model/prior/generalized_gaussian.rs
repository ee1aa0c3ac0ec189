use serde::{Deserialize, Serialize};

use super::of_distance::{OfDistance, prior_of_distance, rounded_up};
use crate::distance::AnyDistance;
use crate::model::part::{Number, Part, within};
use crate::{Accumulator, PerHead, Real, number, special};

/// log w_ij = −(|d| / scale)^shape, d the distance.
///
/// shape = 1 is [`Laplace`](super::Laplace), shape = 2 a Gaussian with standard deviation
/// scale / √2, and a large shape a soft window of half-width `scale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GeneralizedGaussian {
    /// The distance at which the weight has fallen by a factor of e.
    pub scale: PerHead,
    /// How sharply it falls there.
    pub shape: PerHead,
    /// The distance d.
    #[serde(default, skip_serializing_if = "AnyDistance::is_index")]
    pub distance: AnyDistance,
}

impl GeneralizedGaussian {
    /// The same scale (in positions) and shape for every head.
    pub fn new(scale: impl Into<PerHead>, shape: impl Into<PerHead>) -> Self {
        Self { scale: scale.into(), shape: shape.into(), distance: AnyDistance::default() }
    }

    /// One scale and one shape per head; either may have a single entry, shared.
    pub fn per_head(scale: &[f64], shape: &[f64]) -> Self {
        Self::new(scale, shape)
    }
}

impl Part for GeneralizedGaussian {
    const NAME: &'static str = "generalized-gaussian";
    const MEANING: &'static str = "log w_ij = −(|d| / scale)^shape, d the distance";
    const EXAMPLE: &'static str = "{ generalized-gaussian = { scale = 8.0, shape = 2.0 } }";
    const NUMBERS: &'static [Number<Self>] = &[
        number!("generalized-gaussian.scale", Positive, scale),
        number!("generalized-gaussian.shape", Positive, shape),
    ];
    within!(distance);
}

impl OfDistance for GeneralizedGaussian {
    fn distance(&self) -> &AnyDistance {
        &self.distance
    }
    fn log_weight(&self, head: usize, d: f64) -> f64 {
        -(d.abs() / self.scale.of(head)).powf(self.shape.of(head))
    }
    fn difference(&self, head: usize, d: f64, from: f64) -> Option<f64> {
        // x^p − y^p = y^p (e^(p log(x/y)) − 1).
        let apart = (d.abs() - from.abs()) / from.abs();
        let rise = (self.shape.of(head) * apart.ln_1p()).exp_m1();
        Some(self.log_weight(head, from) * rise)
    }
    fn slope(&self, head: usize, d: f64) -> f64 {
        let (scale, shape) = (self.scale.of(head), self.shape.of(head));
        let rate = shape / scale * (d.abs() / scale).powf(shape - 1.0);
        if d >= 0.0 { -rate } else { rate }
    }
    fn gradient<T: Real>(&self, head: usize, d: f64, g: f64, into: &mut [Accumulator<'_, T>]) {
        if d == 0.0 {
            return; // The log-weight is 0 there whatever the parameters.
        }
        let (scale, shape) = (self.scale.of(head), self.shape.of(head));
        let ratio = d.abs() / scale;
        let power = ratio.powf(shape);
        into[0].add(self.scale.index(head), g * shape * power / scale);
        into[1].add(self.shape.index(head), -g * power * ratio.ln());
    }
    fn upper_bound(&self, head: usize, near: f64, _far: f64) -> Option<f64> {
        Some(self.log_weight(head, near))
    }
    fn log_tail(&self, head: usize, near: f64, far: f64) -> Option<f64> {
        let (scale, shape) = (self.scale.of(head), self.shape.of(head));
        let nearest = self.log_weight(head, near);
        // Falling weights sum to no more than the first and ∫ e^−(t/scale)^shape dt from there on,
        // which is scale/shape · Γ(a, x) with a = 1/shape, x = (near/scale)^shape. The integrand
        // t^(a−1) e^−t of Γ(a, x) falls at least as fast as an exponential that starts with it.
        let (a, x) = (shape.recip(), -nearest);
        let decay = if a > 1.0 { 1.0 - (a - 1.0) / x } else { 1.0 };
        let whole = special::ln_gamma(a);
        let beyond = match x > 0.0 && decay > 0.0 {
            true => whole.min((a - 1.0) * x.ln() - x - decay.ln()),
            false => whole,
        };
        let count = nearest + (far.abs() - near.abs() + 1.0).ln();
        Some(rounded_up(count.min(special::log_add(nearest, (scale / shape).ln() + beyond))))
    }
}

prior_of_distance!(GeneralizedGaussian);
