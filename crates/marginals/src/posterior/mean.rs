use ndarray::{Array4, ArrayView4};

use super::{Pass, Posterior, Question};
use crate::infer::exact::Request;
use crate::{Element, Error, Real, Value};

/// E\[v\] of every query, [B, H, N, D_v]: what attention outputs. Holds the values v [B, Hk, M, D_v],
/// or [B, H, M, D_v] where query heads that share keys average values of their own.
///
/// Σ_j p_ij v_j for [`Value::Gather`]; that over Σ_j p_ij for [`Value::Average`]. 0 for a query
/// without mass. Cost: one product of the posterior and the values.
#[derive(Clone, Copy, Debug)]
pub struct Mean<'v, E>(pub ArrayView4<'v, E>);

impl<'v, T: Real, E: Element<Real = T>> Question<'v, T> for Mean<'v, E> {
    type Answer = Array4<T>;
    fn request(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        request.mean_is_shared |= request.mean;
        request.mean = true;
        request.use_values(self.0, posterior.shape())
    }
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        pass.require(pass.request.mean, "mean")?;
        Ok(average(pass.summary.mean.clone(), pass))
    }
    fn take(&self, pass: &mut Pass<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        pass.require(pass.request.mean, "mean")?;
        if pass.request.mean_is_shared {
            return self.answer(pass);
        }
        Ok(average(std::mem::take(&mut pass.summary.mean), pass))
    }
}

fn average<T: Real>(gathered: Vec<T>, pass: &Pass<'_, '_, '_, T>) -> Array4<T> {
    let mut mean = pass.by_query(gathered);
    if pass.posterior.value == Value::Average {
        divide_by_mass(&mut mean, &pass.summary.mass);
    }
    mean
}

/// Divides every row by its mass; rows without mass are 0.
pub(super) fn divide_by_mass<T: Real>(rows: &mut Array4<T>, mass: &[T]) {
    for (mut row, &m) in rows.rows_mut().into_iter().zip(mass) {
        row.mapv_inplace(|x| if m == T::zero() { m } else { x / m });
    }
}
