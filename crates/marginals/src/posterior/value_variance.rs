use ndarray::{Array4, ArrayView4};

use super::mean::divide_by_mass;
use super::{Pass, Posterior, Question};
use crate::infer::exact::Request;
use crate::model::structure::Factorisation;
use crate::{Element, Error, Real, Value};

/// E\[v²\] − E\[v\]² of every query and coordinate, [B, H, N, D_v]. Holds the values v [B, Hk, M, D_v],
/// or [B, H, M, D_v].
///
/// How far single draws scatter about the mean: the mean of S draws has variance this / S. Where a
/// query may have several edges, which are then independent, Σ_j p_ij (1 − p_ij) v_j². An average
/// divides by the mass squared. 0 for a query without mass. Cost: a second product with the
/// values. Where one edge has nearly all the mass the difference cancels, and its relative error
/// grows accordingly; it is never negative.
#[derive(Clone, Copy, Debug)]
pub struct ValueVariance<'v, E>(pub ArrayView4<'v, E>);

impl<'v, T: Real, E: Element<Real = T>> Question<'v, T> for ValueVariance<'v, E> {
    type Answer = Array4<T>;
    fn request(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        request.mean_is_shared |= request.mean;
        request.mean = true;
        request.second_moment = true;
        request.use_values(self.0, posterior.shape())
    }
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        pass.require(pass.request.mean && pass.request.second_moment, "value-variance")?;
        let mut variance = pass.by_query(pass.summary.second.clone());
        if matches!(pass.posterior.factorisation, Factorisation::PerQuery { .. }) {
            for (x, &mean) in variance.iter_mut().zip(&pass.summary.mean) {
                let spread = *x - mean * mean;
                *x = if spread < T::zero() { T::zero() } else { spread };
            }
        }
        if pass.posterior.value == Value::Average {
            // Twice: the square of a small mass is 0 long before the mass is.
            divide_by_mass(&mut variance, &pass.summary.mass);
            divide_by_mass(&mut variance, &pass.summary.mass);
        }
        Ok(variance)
    }
}
