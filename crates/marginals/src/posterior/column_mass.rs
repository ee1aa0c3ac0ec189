use crate::Real;
use ndarray::Array3;

use super::{Pass, Posterior, Question};
use crate::Error;
use crate::infer::exact::Request;

/// Σ_i p_ij of every key, [B, H, M]: how much attention it receives.
///
/// Needs every normaliser before it can start, so it costs one more pass over the scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnMass;

impl<'v, T: Real> Question<'v, T> for ColumnMass {
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
        let mass = T::column_mass(pass.posterior, &pass.summary);
        let dimensions = (shape.batch, shape.heads, shape.keys);
        Ok(Array3::from_shape_vec(dimensions, mass).expect("one mass per key"))
    }
}
