//! The linear system behind implicit gradients.

use crate::Real;

use super::{Evaluation, InputGradients, Update};
use crate::Error;

/// λ ← u + Jᵀ λ, whose fixed point solves (I − Jᵀ) λ = u, with J the Jacobian of an update at z.
/// Matrix-free: J is seen through the update's backward alone.
pub(super) struct Adjoint<'a, T, U: ?Sized> {
    pub update: &'a U,
    pub z: &'a [T],
    pub upstream: &'a [T],
}

impl<T: Real, U: Update<T> + ?Sized> Update<T> for Adjoint<'_, T, U> {
    fn problems(&self) -> usize {
        self.update.problems()
    }
    fn width(&self) -> usize {
        self.update.width()
    }
    fn inputs(&self) -> InputGradients<T> {
        InputGradients::default()
    }
    fn evaluate(&self, lambda: &[T]) -> Result<Evaluation<T>, Error> {
        // Inputs are added once λ is known, not along the way.
        let pulled = self.update.backward(self.z, lambda, &mut InputGradients::unwanted())?;
        let next = self.upstream.iter().zip(&pulled).map(|(&u, &p)| u + p).collect();
        Ok(Evaluation { free_energy: Vec::new(), next })
    }
    fn backward(
        &self,
        _z: &[T],
        _upstream: &[T],
        _inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        Err(Error::NotAnswerable {
            question: "gradient of an implicit gradient".to_owned(),
            why: "the linear solve is not differentiated again".to_owned(),
            instead: "Differentiate the unrolled iteration.".to_owned(),
        })
    }
}
