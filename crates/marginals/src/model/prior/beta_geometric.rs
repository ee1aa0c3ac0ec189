use super::{Stationary, stationary::stationary_prior};
use crate::{Accumulator, Parameter, Real, model, special};

/// log w_ij = log B(α + 1, β + |d|) − log B(α, β), d the relative position: a geometric weight
/// ρ(1 − ρ)^|d| whose ρ ~ Beta(α, β) has been summed out.
///
/// Its tail is a power law, |d|^−(α+1), where the geometric's is exponential.
#[derive(Clone, Debug, PartialEq)]
pub struct BetaGeometric {
    alpha: Vec<f64>,
    beta: Vec<f64>,
}

impl BetaGeometric {
    /// The same α and β for every head.
    pub fn new(alpha: f64, beta: f64) -> Self {
        Self { alpha: vec![alpha], beta: vec![beta] }
    }

    /// One α and one β per head; either may have a single entry, shared.
    pub fn per_head(alpha: &[f64], beta: &[f64]) -> Self {
        Self { alpha: alpha.to_vec(), beta: beta.to_vec() }
    }
}

impl Stationary for BetaGeometric {
    fn log_weight(&self, head: usize, d: i64) -> f64 {
        let (alpha, beta) = (model::of_head(&self.alpha, head), model::of_head(&self.beta, head));
        special::ln_beta(alpha + 1.0, beta + d.unsigned_abs() as f64)
            - special::ln_beta(alpha, beta)
    }
    fn gradient<T: Real>(&self, head: usize, d: i64, g: f64, into: &mut [Accumulator<'_, T>]) {
        use special::digamma;
        let (a, b) =
            (model::head_index(self.alpha.len(), head), model::head_index(self.beta.len(), head));
        let (alpha, beta, d) = (self.alpha[a], self.beta[b], d.unsigned_abs() as f64);
        let (all, before) = (digamma(alpha + beta + 1.0 + d), digamma(alpha + beta));
        into[0].add(a, g * (digamma(alpha + 1.0) - digamma(alpha) - all + before));
        into[1].add(b, g * (digamma(beta + d) - digamma(beta) - all + before));
    }
}

stationary_prior!(
    BetaGeometric,
    "beta-geometric",
    |prior, shape| {
        for (name, values) in
            [("beta-geometric.alpha", &prior.alpha), ("beta-geometric.beta", &prior.beta)]
        {
            model::check_per_head(name, values, shape)?;
            model::check_positive(name, values)?;
        }
        Ok(())
    },
    |prior| vec![
        Parameter::new("beta-geometric.alpha", &[prior.alpha.len()]),
        Parameter::new("beta-geometric.beta", &[prior.beta.len()]),
    ]
);
