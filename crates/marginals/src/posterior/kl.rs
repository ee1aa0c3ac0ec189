use crate::Real;
use ndarray::Array3;

use super::{Pass, Posterior, Question};
use crate::Error;
use crate::infer::exact::Request;

/// KL(posterior ‖ π) = log Z(log w) − E[log w] − entropy of every factor, in nats, [B, H, F].
///
/// How much was learned from the content, π being the normalised prior; never negative, and 0 where
/// nothing is possible. Equal to E[log ψ] − log-evidence, without its cancellation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kl;

impl<'v, T: Real> Question<'v, T> for Kl {
    type Answer = Array3<T>;
    fn request(
        &self,
        _posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        request.entropy = true;
        request.expected_log_weight = true;
        request.prior_log_partition = true;
        Ok(())
    }
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        pass.require(
            pass.request.entropy
                && pass.request.expected_log_weight
                && pass.request.prior_log_partition,
            "kl",
        )?;
        Ok(pass.by_factor(pass.summary.kl()))
    }
}
