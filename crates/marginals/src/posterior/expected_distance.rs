use crate::Real;
use ndarray::Array3;

use super::{Pass, Posterior, Question};
use crate::Error;
use crate::infer::exact::Request;

/// E[Σ_j φ_ij |i − j|] of every query, [B, H, N], in positions: how far it looks.
///
/// Positions are those of the model's query offset. Having no edge counts as distance 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpectedDistance;

impl<'v, T: Real> Question<'v, T> for ExpectedDistance {
    type Answer = Array3<T>;
    fn request(
        &self,
        _posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        request.distance = true;
        Ok(())
    }
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        pass.require(pass.request.distance, "expected-distance")?;
        let shape = pass.posterior.shape();
        let dimensions = (shape.batch, shape.heads, shape.queries);
        Ok(Array3::from_shape_vec(dimensions, pass.summary.distance.clone())
            .expect("one distance per query"))
    }
}
