//! One layer of a network that moves while the others stand still.

use std::ops::Range;

use crate::infer::collapsed::{
    Curvature, Curved, Differentiable, Evaluation, InputGradients, Latent,
};
use crate::{Error, Real};

/// The free energy of a model as a function of one run of each problem's numbers, the others held.
pub(super) struct OneLayer<'m, M> {
    pub model: &'m M,
    /// The run, the same of every problem.
    pub span: Range<usize>,
}

impl<M> OneLayer<'_, M> {
    /// 0 for the numbers that are held.
    fn held<T: Real>(&self, mut of_z: Vec<T>) -> Vec<T>
    where
        M: Latent<T>,
    {
        for own in of_z.chunks_mut(self.model.width().max(1)) {
            own[..self.span.start].fill(T::zero());
            own[self.span.end..].fill(T::zero());
        }
        of_z
    }
}

impl<T: Real, M: Latent<T>> Latent<T> for OneLayer<'_, M> {
    fn problems(&self) -> usize {
        self.model.problems()
    }
    fn width(&self) -> usize {
        self.model.width()
    }
    fn inputs(&self) -> InputGradients<T> {
        self.model.inputs()
    }
    fn free_energy(&self, z: &[T]) -> Result<Vec<T>, Error> {
        self.model.free_energy(z)
    }
}

impl<T: Real, M: Differentiable<T>> Differentiable<T> for OneLayer<'_, M> {
    fn gradient(&self, z: &[T]) -> Result<Evaluation<T>, Error> {
        let at = self.model.gradient(z)?;
        Ok(Evaluation { next: self.held(at.next), ..at })
    }
    fn gradient_backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        let upstream = self.held(upstream.to_vec());
        Ok(self.held(self.model.gradient_backward(z, &upstream, inputs)?))
    }
}

impl<T: Real, M: Curved<T>> Curved<T> for OneLayer<'_, M> {
    fn curvature<'c>(&'c self, z: &[T]) -> Result<Curvature<'c, T>, Error> {
        let whole = self.model.curvature(z)?;
        Ok(Box::new(move |direction| {
            let direction = self.held(direction.to_vec());
            Ok(self.held(whole(&direction)?))
        }))
    }
}
