//! How far back a query must look, key by key.
//!
//! The engine reads keys in blocks of 64, so that on sequences of 50 every window is the whole
//! sequence. What the bound would have allowed is found here with the same certificate at every single
//! distance (Singh & Buckley, arXiv 2304.04556, expanding attention; [`marginals::infer::expanding`]):
//!
//! ```text
//! lost(w) ≤ U/(Z_w + U),   Z_w = Σ_{d<w} ψ_d w(d),   U = exp(|q| max_{d≥w} |k_d| / √D) Σ_{d≥w} w(d)
//! ```

use marginals::special::{digamma_rise, ln_beta};

/// Log-weights by distance, given α, β and what was found of ρ.
#[derive(Clone, Copy, Debug)]
pub enum Weights {
    /// ρ summed out: B(α + 1, β + d)/B(α, β).
    Exact,
    /// Under q(ρ) with this mean: e^{−λd}, λ = −E[log(1 − ρ)].
    MeanField {
        /// E\[ρ\].
        rho: f64,
    },
}

impl Weights {
    /// log w(d) for d in 0..`count`.
    pub fn logs(self, [alpha, beta]: [f64; 2], count: usize) -> Vec<f64> {
        let distances = (0..count).map(|d| d as f64);
        match self {
            Self::Exact => {
                let whole = ln_beta(alpha, beta);
                distances.map(|d| ln_beta(alpha + 1.0, beta + d) - whole).collect()
            }
            Self::MeanField { rho } => {
                // E[ρ] = (α + 1)/(α + 1 + β′).
                let after = (alpha + 1.0) * (1.0 - rho) / rho;
                let rate = digamma_rise(after, alpha + 1.0);
                distances.map(|d| -rate * d).collect()
            }
        }
    }
}

/// Scene of one query, by distance: nearest first.
#[derive(Clone, Debug)]
pub struct Scene {
    /// log ψ.
    pub scores: Vec<f64>,
    /// The largest log ψ that Cauchy and Schwarz allow each key: |q| |k| / √D.
    pub bounds: Vec<f64>,
    /// log w.
    pub log_weights: Vec<f64>,
}

impl Scene {
    /// The smallest window whose bound on the lost mass is at most `tolerance`.
    pub fn certified(&self, tolerance: f64) -> usize {
        let count = self.scores.len();
        let enough = |&window: &usize| {
            let seen = log_sum((0..window).map(|d| self.scores[d] + self.log_weights[d]));
            let greatest = self.bounds[window..].iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let unseen = greatest + log_sum(self.log_weights[window..].iter().copied());
            1.0 / (1.0 + (seen - unseen).exp()) <= tolerance
        };
        (1..count).find(enough).unwrap_or(count)
    }
}

fn log_sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    most + terms.map(|term| (term - most).exp()).sum::<f64>().ln()
}

/// The smallest window outside which no more than `tolerance` of the posterior lies: what no bound could
/// do better than. `probabilities` are by distance.
pub fn needed(probabilities: &[f64], tolerance: f64) -> usize {
    let mut beyond = 0.0;
    for (distance, probability) in probabilities.iter().enumerate().rev() {
        beyond += probability;
        if beyond > tolerance {
            return distance + 1;
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::super::random::{Purpose, Random};
    use super::*;

    fn scene(random: &mut Random, weights: Weights) -> Scene {
        let bounds: Vec<f64> = (0..30).map(|_| random.between(0.0, 4.0)).collect();
        let scores = bounds.iter().map(|bound| bound * random.between(-1.0, 1.0)).collect();
        Scene { scores, bounds, log_weights: weights.logs([2.0, 3.0], 30) }
    }

    /// No bound is kept that the posterior breaks, and none asks for less than is needed.
    #[test]
    fn certified_windows_lose_no_more_than_they_say() {
        let mut random = Random::new(5, Purpose::HeldOut, 0);
        let mut smaller = 0;
        for weights in [Weights::Exact, Weights::MeanField { rho: 0.3 }] {
            for _ in 0..200 {
                let scene = scene(&mut random, weights);
                let logs: Vec<f64> =
                    scene.scores.iter().zip(&scene.log_weights).map(|(s, w)| s + w).collect();
                let whole = log_sum(logs.iter().copied());
                let p: Vec<f64> = logs.iter().map(|log| (log - whole).exp()).collect();
                let window = scene.certified(0.05);
                assert!(p[window..].iter().sum::<f64>() <= 0.05);
                assert!(window >= needed(&p, 0.05));
                smaller += usize::from(window < 30);
            }
        }
        assert!(smaller > 100, "the bound is of use: {smaller}");
    }

    #[test]
    fn what_is_needed_is_the_least_that_is_enough() {
        let p = [0.5, 0.2, 0.2, 0.06, 0.04];
        assert_eq!(needed(&p, 0.0), 5);
        assert_eq!(needed(&p, 0.05), 4);
        assert_eq!(needed(&p, 0.11), 3);
        assert_eq!(needed(&p, 1.0), 1);
    }

    /// ∫ ρ (1 − ρ)^d Beta(ρ; 2, 3) dρ by the rectangle rule.
    #[test]
    fn weights_are_geometric_ones_averaged_over_rho() {
        let logs = Weights::Exact.logs([2.0, 3.0], 6);
        for (d, log) in logs.iter().enumerate() {
            let cells = 20_000;
            let at = |i: usize| (i as f64 + 0.5) / cells as f64;
            let density = |r: f64| 12.0 * r * (1.0 - r).powi(2);
            let sum: f64 =
                (0..cells).map(|i| at(i) * (1.0 - at(i)).powi(d as i32) * density(at(i))).sum();
            assert!((sum / cells as f64 - log.exp()).abs() < 1e-8, "{d}");
        }
        // E[log(1 − ρ)] under Beta(3, 7), whose mean is 0.3.
        let rate = -Weights::MeanField { rho: 0.3 }.logs([2.0, 3.0], 2)[1];
        let expected: f64 = (7..10).map(|n| 1.0 / f64::from(n)).sum();
        assert!((rate - expected).abs() < 1e-12, "{rate} {expected}");
    }
}
