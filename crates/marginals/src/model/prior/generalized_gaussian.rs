use super::{Stationary, stationary::stationary_prior};
use crate::{Accumulator, Parameter, Real, model};

/// log w_ij = −(|d| / scale)^shape, d the relative position.
///
/// shape = 1 is [`Laplace`](super::Laplace), shape = 2 a Gaussian with standard deviation
/// scale / √2, and a large shape a soft window of half-width `scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneralizedGaussian {
    scale: Vec<f64>,
    shape: Vec<f64>,
}

impl GeneralizedGaussian {
    /// The same scale (in positions) and shape for every head.
    pub fn new(scale: f64, shape: f64) -> Self {
        Self { scale: vec![scale], shape: vec![shape] }
    }

    /// One scale and one shape per head; either may have a single entry, shared.
    pub fn per_head(scale: &[f64], shape: &[f64]) -> Self {
        Self { scale: scale.to_vec(), shape: shape.to_vec() }
    }
}

impl Stationary for GeneralizedGaussian {
    fn log_weight(&self, head: usize, d: i64) -> f64 {
        let ratio = d.unsigned_abs() as f64 / model::of_head(&self.scale, head);
        -ratio.powf(model::of_head(&self.shape, head))
    }
    fn gradient<T: Real>(&self, head: usize, d: i64, g: f64, into: &mut [Accumulator<'_, T>]) {
        if d == 0 {
            return; // The log-weight is 0 there whatever the parameters.
        }
        let (scale, shape) =
            (model::head_index(self.scale.len(), head), model::head_index(self.shape.len(), head));
        let ratio = d.unsigned_abs() as f64 / self.scale[scale];
        let power = ratio.powf(self.shape[shape]);
        into[0].add(scale, g * self.shape[shape] * power / self.scale[scale]);
        into[1].add(shape, -g * power * ratio.ln());
    }
}

stationary_prior!(
    GeneralizedGaussian,
    "generalized-gaussian",
    |prior, shape| {
        for (name, values) in [
            ("generalized-gaussian.scale", &prior.scale),
            ("generalized-gaussian.shape", &prior.shape),
        ] {
            model::check_per_head(name, values, shape)?;
            model::check_positive(name, values)?;
        }
        Ok(())
    },
    |prior| vec![
        Parameter::new("generalized-gaussian.scale", &[prior.scale.len()]),
        Parameter::new("generalized-gaussian.shape", &[prior.shape.len()]),
    ]
);
