//! A step that the caller brings.

use crate::Real;

use super::{Evaluation, InputGradients, Update};
use crate::Error;

/// A step that the caller brings (a GRU, an MLP, anything): nothing is known about F, and nothing
/// is promised.
///
/// `step` is z ↦ g(z); `backward` is given z and the upstream gradient u, returns (∂g/∂z)ᵀ u and
/// adds (∂g/∂input)ᵀ u to the input gradients.
#[derive(Clone, Debug)]
pub struct Learned<T, S, B> {
    problems: usize,
    width: usize,
    inputs: InputGradients<T>,
    step: S,
    backward: B,
}

impl<T, S, B> Learned<T, S, B>
where
    T: Real,
    S: Fn(&[T]) -> Result<Vec<T>, Error>,
    B: Fn(&[T], &[T], &mut InputGradients<T>) -> Result<Vec<T>, Error>,
{
    /// A step on `problems` runs of `width` numbers whose inputs have the (zero) gradients
    /// `inputs`.
    pub fn new(
        problems: usize,
        width: usize,
        inputs: InputGradients<T>,
        step: S,
        backward: B,
    ) -> Self {
        Self { problems, width, inputs, step, backward }
    }
}

impl<T, S, B> Update<T> for Learned<T, S, B>
where
    T: Real,
    S: Fn(&[T]) -> Result<Vec<T>, Error>,
    B: Fn(&[T], &[T], &mut InputGradients<T>) -> Result<Vec<T>, Error>,
{
    fn problems(&self) -> usize {
        self.problems
    }
    fn width(&self) -> usize {
        self.width
    }
    fn inputs(&self) -> InputGradients<T> {
        self.inputs.clone()
    }
    fn evaluate(&self, z: &[T]) -> Result<Evaluation<T>, Error> {
        Ok(Evaluation { free_energy: Vec::new(), next: (self.step)(z)? })
    }
    fn backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        (self.backward)(z, upstream, inputs)
    }
}
