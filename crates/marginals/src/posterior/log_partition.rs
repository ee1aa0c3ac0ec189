use crate::Real;
use ndarray::Array3;

use super::{Pass, Posterior, Question};
use crate::Error;
use crate::infer::exact::Request;

/// log Z(θ) of every factor, in nats, [B, H, F].
///
/// log Z_i = log Σ_j e^θ_ij where queries choose (plus e^null with a null edge), over i where keys
/// choose, and Σ_j log(1 + e^θ_ij) for independent edges. Where nothing is possible: −∞. Its gradient
/// is the matrix of marginals, ∂ log Z/∂θ_ij = p_ij.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPartition;

impl<'v, T: Real> Question<'v, T> for LogPartition {
    type Answer = Array3<T>;
    fn request(
        &self,
        _posterior: &Posterior<'_, T>,
        _request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        Ok(())
    }
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        Ok(pass.by_factor(pass.summary.log_partition.clone()))
    }
}
