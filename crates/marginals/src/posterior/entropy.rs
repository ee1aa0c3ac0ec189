use crate::Real;
use ndarray::Array3;

use super::{Pass, Posterior, Question};
use crate::Error;
use crate::infer::exact::Request;

/// −E[log p(φ | x)] of every factor, in nats, [B, H, F].
///
/// How uncertain a choice is: e^entropy is the effective number of edges it is spread over. For
/// independent edges, the sum over a query's edges. 0 where nothing is possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entropy;

impl<'v, T: Real> Question<'v, T> for Entropy {
    type Answer = Array3<T>;
    fn request(
        &self,
        _posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        request.entropy = true;
        Ok(())
    }
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        pass.require(pass.request.entropy, "entropy")?;
        Ok(pass.by_factor(pass.summary.entropy.clone()))
    }
}
