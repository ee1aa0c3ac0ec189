use crate::Real;
use ndarray::Array3;

use super::{Pass, Posterior, Question};
use crate::Error;
use crate::infer::exact::Request;

/// The probability of the most probable edge (see [`Map`](super::question::Map)) of every factor,
/// [B, H, F]; 0 where nothing is possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxProbability;

impl<'v, T: Real> Question<'v, T> for MaxProbability {
    type Answer = Array3<T>;
    fn request(
        &self,
        _posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        request.best = true;
        Ok(())
    }
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        pass.require(pass.request.best, "max-probability")?;
        Ok(pass.by_factor(pass.summary.best.iter().map(|c| c.score).collect()))
    }
}
