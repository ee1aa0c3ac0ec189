//! The closed-form step.

use crate::Real;

use super::{Evaluation, InputGradients, Maximise, Update};
use crate::Error;

/// The model's own closed-form step (EM, CCCP): F never rises.
#[derive(Debug)]
pub struct Exact<'a, M: ?Sized>(pub &'a M);

// Not derived: it is a reference, whatever the model is.
impl<M: ?Sized> Clone for Exact<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: ?Sized> Copy for Exact<'_, M> {}

impl<T: Real, M: Maximise<T> + ?Sized> Update<T> for Exact<'_, M> {
    fn problems(&self) -> usize {
        self.0.problems()
    }
    fn width(&self) -> usize {
        self.0.width()
    }
    fn inputs(&self) -> InputGradients<T> {
        self.0.inputs()
    }
    fn evaluate(&self, z: &[T]) -> Result<Evaluation<T>, Error> {
        self.0.maximise(z)
    }
    fn backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        self.0.maximise_backward(z, upstream, inputs)
    }
}
