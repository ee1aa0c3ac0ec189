use crate::Real;
use ndarray::Array3;

use super::{Pass, Posterior, Question};
use crate::Error;
use crate::infer::exact::Request;

/// log Z(θ) − log Z(log w) = log Σ_φ π(φ) ψ(φ) of every factor, in nats, [B, H, F].
///
/// How well the content fits, averaged over the normalised prior π. −∞ where nothing is possible.
/// Cost: one more exponential per edge of blocks whose log-weights are not all 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEvidence;

impl<'v, T: Real> Question<'v, T> for LogEvidence {
    type Answer = Array3<T>;
    fn request(
        &self,
        _posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        request.prior_log_partition = true;
        Ok(())
    }
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        pass.require(pass.request.prior_log_partition, "log-evidence")?;
        Ok(pass.by_factor(pass.summary.log_evidence()))
    }
}
