use serde::{Deserialize, Serialize};

use super::of_distance::{OfDistance, prior_of_distance, rounded_up};
use crate::distance::AnyDistance;
use crate::model::part::{Number, Part, within};
use crate::{Accumulator, PerHead, Real, number, special};

/// log w_ij = log B(α + 1, β + |d|) − log B(α, β), d the distance: a geometric weight ρ(1 − ρ)^|d|
/// whose ρ ~ Beta(α, β) has been summed out.
///
/// Its tail is a power law, |d|^−(α+1), where the geometric's is exponential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BetaGeometric {
    /// α of the Beta hyperprior.
    pub alpha: PerHead,
    /// β of the Beta hyperprior.
    pub beta: PerHead,
    /// The distance d.
    #[serde(default, skip_serializing_if = "AnyDistance::is_index")]
    pub distance: AnyDistance,
}

impl BetaGeometric {
    /// The same α and β for every head.
    pub fn new(alpha: impl Into<PerHead>, beta: impl Into<PerHead>) -> Self {
        Self { alpha: alpha.into(), beta: beta.into(), distance: AnyDistance::default() }
    }

    /// One α and one β per head; either may have a single entry, shared.
    pub fn per_head(alpha: &[f64], beta: &[f64]) -> Self {
        Self::new(alpha, beta)
    }
}

impl Part for BetaGeometric {
    const NAME: &'static str = "beta-geometric";
    const MEANING: &'static str = "log w_ij = log B(α + 1, β + |d|) − log B(α, β), d the distance";
    const EXAMPLE: &'static str = "{ beta-geometric = { alpha = 1.0, beta = 4.0 } }";
    const NUMBERS: &'static [Number<Self>] = &[
        number!("beta-geometric.alpha", Positive, alpha),
        number!("beta-geometric.beta", Positive, beta),
    ];
    within!(distance);
}

impl OfDistance for BetaGeometric {
    fn distance(&self) -> &AnyDistance {
        &self.distance
    }
    fn log_weight(&self, head: usize, d: f64) -> f64 {
        let (alpha, beta) = (self.alpha.of(head), self.beta.of(head));
        special::ln_beta(alpha + 1.0, beta + d.abs()) - special::ln_beta(alpha, beta)
    }
    fn slope(&self, head: usize, d: f64) -> f64 {
        let (alpha, beta) = (self.alpha.of(head), self.beta.of(head));
        // log B(a, b) has slope ψ₀(b) − ψ₀(a + b) in b.
        let rate = special::digamma_rise(beta + d.abs(), alpha + 1.0);
        if d >= 0.0 { -rate } else { rate }
    }
    fn gradient<T: Real>(&self, head: usize, d: f64, g: f64, into: &mut [Accumulator<'_, T>]) {
        use special::digamma;
        let (alpha, beta, d) = (self.alpha.of(head), self.beta.of(head), d.abs());
        let (all, before) = (digamma(alpha + beta + 1.0 + d), digamma(alpha + beta));
        let of_alpha = digamma(alpha + 1.0) - digamma(alpha) - all + before;
        let of_beta = digamma(beta + d) - digamma(beta) - all + before;
        into[0].add(self.alpha.index(head), g * of_alpha);
        into[1].add(self.beta.index(head), g * of_beta);
    }
    fn upper_bound(&self, head: usize, near: f64, _far: f64) -> Option<f64> {
        Some(self.log_weight(head, near))
    }
    fn log_tail(&self, head: usize, near: f64, far: f64) -> Option<f64> {
        let (alpha, beta) = (self.alpha.of(head), self.beta.of(head));
        // Σ_{d ≥ f} w(d) = E[(1 − ρ)^f] = B(α, β + f)/B(α, β): it telescopes.
        let beyond = |d: f64| special::ln_beta(alpha, beta + d) - special::ln_beta(alpha, beta);
        let (all, rest) = (beyond(near.abs()), beyond(far.abs() + 1.0));
        // Each is right to about 1e-14 of itself: that much is added back.
        let share = (-(rest - all).exp_m1()).max(0.0) + 1e-13 * (1.0 + all.abs());
        Some(rounded_up(all + share.min(1.0).ln()))
    }
}

prior_of_distance!(BetaGeometric);
