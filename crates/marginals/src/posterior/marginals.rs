use crate::{Real, check_room};
use ndarray::Array4;

use super::{Pass, Posterior, Question};
use crate::Error;
use crate::infer::exact::Request;

/// p_ij = P(φ_ij = 1 | x), [B, H, N, M]: the whole matrix, for those who want it.
///
/// The one answer whose memory grows with N×M; more than there is memory for is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marginals;

impl<'v, T: Real> Question<'v, T> for Marginals {
    type Answer = Array4<T>;
    fn request(
        &self,
        posterior: &Posterior<'_, T>,
        _request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        let shape = posterior.shape();
        let edges = [shape.batch, shape.heads, shape.queries, shape.keys];
        check_room("marginals", &edges, size_of::<T>())
    }
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        let shape = pass.posterior.shape();
        let all = T::marginals(pass.posterior, &pass.summary);
        let dimensions = (shape.batch, shape.heads, shape.queries, shape.keys);
        Ok(Array4::from_shape_vec(dimensions, all).expect("one marginal per edge"))
    }
}
