use super::{Stationary, stationary::stationary_prior};
use crate::{Accumulator, Error, Parameter, Real, model};

/// log w_ij = |d| log(1 − ρ), d the relative position: every step away from the query loses the
/// share ρ ∈ [0, 1) of the weight.
///
/// The geometric prior of Singh & Buckley (arXiv 2304.04556, expanding attention);
/// [`Alibi`](super::Alibi) is this with ρ = 1 − e^−slope. ρ = 0 is uniform.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometric {
    rho: Vec<f64>,
}

impl Geometric {
    /// The same ρ for every head.
    pub fn new(rho: f64) -> Self {
        Self { rho: vec![rho] }
    }

    /// One ρ per head.
    pub fn per_head(rho: &[f64]) -> Self {
        Self { rho: rho.to_vec() }
    }
}

impl Stationary for Geometric {
    fn log_weight(&self, head: usize, d: i64) -> f64 {
        // At d = 0 the weight is 1 whatever ρ is.
        if d == 0 {
            0.0
        } else {
            d.unsigned_abs() as f64 * (-model::of_head(&self.rho, head)).ln_1p()
        }
    }
    fn gradient<T: Real>(&self, head: usize, d: i64, g: f64, into: &mut [Accumulator<'_, T>]) {
        let index = model::head_index(self.rho.len(), head);
        into[0].add(index, -g * d.unsigned_abs() as f64 / (1.0 - self.rho[index]));
    }
}

stationary_prior!(
    Geometric,
    "geometric",
    |prior, shape| {
        model::check_per_head("geometric.rho", &prior.rho, shape)?;
        match prior.rho.iter().find(|rho| !(0.0..1.0).contains(*rho)) {
            None => Ok(()),
            Some(rho) => Err(Error::value("geometric.rho", "a number in [0, 1)", rho)),
        }
    },
    |prior| vec![Parameter::new("geometric.rho", &[prior.rho.len()])]
);
