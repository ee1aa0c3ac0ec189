use serde::{Deserialize, Serialize};

use super::of_distance::{OfDistance, exponential_tail, prior_of_distance};
use crate::distance::AnyDistance;
use crate::model::part::{Number, Part, within};
use crate::{Accumulator, PerHead, Real, number};

/// log w_ij = −|d| / scale, d the distance: a Laplace distribution of the distance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Laplace {
    /// The distance at which the weight has fallen by a factor of e.
    pub scale: PerHead,
    /// The distance d.
    #[serde(default, skip_serializing_if = "AnyDistance::is_index")]
    pub distance: AnyDistance,
}

impl Laplace {
    /// The same scale, in positions, for every head.
    pub fn new(scale: impl Into<PerHead>) -> Self {
        Self { scale: scale.into(), distance: AnyDistance::default() }
    }

    /// One scale per head.
    pub fn per_head(scale: &[f64]) -> Self {
        Self::new(scale)
    }
}

impl Part for Laplace {
    const NAME: &'static str = "laplace";
    const MEANING: &'static str = "log w_ij = −|d| / scale, d the distance";
    const EXAMPLE: &'static str = "{ laplace = { scale = 8.0 } }";
    const NUMBERS: &'static [Number<Self>] = &[number!("laplace.scale", Positive, scale)];
    within!(distance);
}

impl OfDistance for Laplace {
    fn distance(&self) -> &AnyDistance {
        &self.distance
    }
    fn log_weight(&self, head: usize, d: f64) -> f64 {
        -d.abs() / self.scale.of(head)
    }
    fn difference(&self, head: usize, d: f64, from: f64) -> Option<f64> {
        Some((from.abs() - d.abs()) / self.scale.of(head))
    }
    fn slope(&self, head: usize, d: f64) -> f64 {
        let rate = 1.0 / self.scale.of(head);
        if d >= 0.0 { -rate } else { rate }
    }
    fn gradient<T: Real>(&self, head: usize, d: f64, g: f64, into: &mut [Accumulator<'_, T>]) {
        into[0].add(self.scale.index(head), g * d.abs() / self.scale.of(head).powi(2));
    }
    fn upper_bound(&self, head: usize, near: f64, _far: f64) -> Option<f64> {
        Some(self.log_weight(head, near))
    }
    fn log_tail(&self, head: usize, near: f64, far: f64) -> Option<f64> {
        Some(exponential_tail(1.0 / self.scale.of(head), near, far))
    }
}

prior_of_distance!(Laplace);
