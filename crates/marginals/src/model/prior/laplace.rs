use super::{Stationary, stationary::stationary_prior};
use crate::{Accumulator, Parameter, Real, model};

/// log w_ij = −|d| / scale, d the relative position: a Laplace distribution of the distance.
#[derive(Clone, Debug, PartialEq)]
pub struct Laplace {
    scale: Vec<f64>,
}

impl Laplace {
    /// The same scale, in positions, for every head.
    pub fn new(scale: f64) -> Self {
        Self { scale: vec![scale] }
    }

    /// One scale per head.
    pub fn per_head(scale: &[f64]) -> Self {
        Self { scale: scale.to_vec() }
    }
}

impl Stationary for Laplace {
    fn log_weight(&self, head: usize, d: i64) -> f64 {
        -(d.unsigned_abs() as f64) / model::of_head(&self.scale, head)
    }
    fn gradient<T: Real>(&self, head: usize, d: i64, g: f64, into: &mut [Accumulator<'_, T>]) {
        let index = model::head_index(self.scale.len(), head);
        into[0].add(index, g * d.unsigned_abs() as f64 / self.scale[index].powi(2));
    }
}

stationary_prior!(
    Laplace,
    "laplace",
    |prior, shape| {
        model::check_per_head("laplace.scale", &prior.scale, shape)?;
        model::check_positive("laplace.scale", &prior.scale)
    },
    |prior| vec![Parameter::new("laplace.scale", &[prior.scale.len()])]
);
