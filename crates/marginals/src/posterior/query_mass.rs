use crate::Real;
use ndarray::Array3;

use super::{Pass, Posterior, Question};
use crate::Error;
use crate::infer::exact::Request;

/// Σ_j p_ij of every query, [B, H, N]: how many keys it holds.
///
/// 1 where each query picks one key (0 where no key may serve it), 1 less the null edge's
/// probability where it picks at most one; where keys choose it is the soft count of a mixture's
/// component, what [`Value::Average`](crate::Value::Average) divides by. Free: every pass sums it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryMass;

impl<'v, T: Real> Question<'v, T> for QueryMass {
    type Answer = Array3<T>;
    fn request(
        &self,
        _posterior: &Posterior<'_, T>,
        _request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        Ok(())
    }
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        let shape = pass.posterior.shape();
        let dimensions = (shape.batch, shape.heads, shape.queries);
        Ok(Array3::from_shape_vec(dimensions, pass.summary.mass.clone()).expect("one per query"))
    }
}
