//! Gradient steps.

use crate::Real;

use super::{Differentiable, Evaluation, InputGradients, Latent, Update};
use crate::Error;

/// z ← z − η ∇F(z).
#[derive(Debug)]
pub struct Descent<'a, M: ?Sized> {
    model: &'a M,
    step: f64,
    backtracking: Option<Backtracking>,
}

// Not derived: it is a reference, whatever the model is.
impl<M: ?Sized> Clone for Descent<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: ?Sized> Copy for Descent<'_, M> {}

/// Shortening of steps that do not bring F down enough (Armijo): the step η of a problem is
/// multiplied by `shrink` until F(z − η∇F) ≤ F(z) − `sufficient` · η‖∇F‖². Each shortening costs
/// one evaluation of F.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backtracking {
    /// Factor of each shortening, in (0, 1).
    pub shrink: f64,
    /// Share of the fall that a straight line would give, in (0, 1).
    pub sufficient: f64,
    /// How often a step is shortened before the problem stays where it is.
    pub most: usize,
}

impl Default for Backtracking {
    fn default() -> Self {
        Self { shrink: 0.5, sufficient: 1e-4, most: 40 }
    }
}

impl<'a, M: ?Sized> Descent<'a, M> {
    /// Steps of size `step`, never shortened: F may rise.
    pub fn new(model: &'a M, step: f64) -> Result<Self, Error> {
        if !(step.is_finite() && step > 0.0) {
            return Err(Error::value("step", "a positive, finite number", step));
        }
        Ok(Self { model, step, backtracking: None })
    }

    /// The same, shortened where F would not fall enough: F never rises.
    pub fn with_backtracking(self, backtracking: Backtracking) -> Result<Self, Error> {
        backtracking.check()?;
        Ok(Self { backtracking: Some(backtracking), ..self })
    }

    /// The step of each problem at `z`, from F and ∇F there.
    fn steps<T: Real>(&self, z: &[T], at: &Evaluation<T>) -> Result<Vec<T>, Error>
    where
        M: Differentiable<T>,
    {
        let first = T::of(self.step);
        let Some(backtracking) = self.backtracking else {
            return Ok(vec![first; self.model.problems()]);
        };
        let of_problem = |g: &[T]| g.iter().map(|&g| g * g).sum();
        let slopes: Vec<T> = at.next.chunks(self.model.width().max(1)).map(of_problem).collect();
        backtracking.sizes(self.model, z, &at.free_energy, &at.next, &slopes, first)
    }
}

impl Backtracking {
    /// Refuses settings outside their range.
    pub(super) fn check(&self) -> Result<(), Error> {
        for (name, value) in
            [("backtracking.shrink", self.shrink), ("backtracking.sufficient", self.sufficient)]
        {
            if !(value > 0.0 && value < 1.0) {
                return Err(Error::value(name, "a number in (0, 1)", value));
            }
        }
        Ok(())
    }

    /// Size η of each problem's step z − η `step`, from `first` down, with F(z) in `energy` and the inner
    /// products of ∇F and the step in `slopes`.
    pub(super) fn sizes<T: Real, M: Latent<T> + ?Sized>(
        &self,
        model: &M,
        z: &[T],
        energy: &[T],
        step: &[T],
        slopes: &[T],
        first: T,
    ) -> Result<Vec<T>, Error> {
        let width = model.width().max(1);
        let mut sizes = vec![first; model.problems()];
        for attempt in 0..=self.most {
            let reached = model.free_energy(&moved(z, step, &sizes, width))?;
            let mut short = false;
            for ((size, (&reached, &energy)), &slope) in
                sizes.iter_mut().zip(reached.iter().zip(energy)).zip(slopes)
            {
                let wanted = energy - T::of(self.sufficient) * *size * slope;
                // Also shortens where F there is NaN. Nothing to gain where the slope is 0.
                let enough = reached <= wanted || *size == T::zero() || slope == T::zero();
                if !enough {
                    short = true;
                    *size = match attempt == self.most {
                        true => T::zero(),
                        false => *size * T::of(self.shrink),
                    };
                }
            }
            if !short {
                break;
            }
        }
        Ok(sizes)
    }
}

/// z − η times a direction, problem by problem; a step of size 0 stays, whatever its direction holds.
pub(super) fn moved<T: Real>(z: &[T], gradient: &[T], steps: &[T], width: usize) -> Vec<T> {
    let along = z.iter().zip(gradient).enumerate();
    let one = |(index, (&z, &g)): (usize, (&T, &T))| {
        let step = steps[index / width];
        if step == T::zero() { z } else { z - step * g }
    };
    along.map(one).collect()
}

impl<T: Real, M: Differentiable<T> + ?Sized> Update<T> for Descent<'_, M> {
    fn problems(&self) -> usize {
        self.model.problems()
    }
    fn width(&self) -> usize {
        self.model.width()
    }
    fn inputs(&self) -> InputGradients<T> {
        self.model.inputs()
    }
    fn evaluate(&self, z: &[T]) -> Result<Evaluation<T>, Error> {
        let at = self.model.gradient(z)?;
        let steps = self.steps(z, &at)?;
        let next = moved(z, &at.next, &steps, self.model.width().max(1));
        Ok(Evaluation { next, ..at })
    }
    /// Steps are taken as constants: where one was shortened, the choice itself has no derivative.
    fn backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        let width = self.model.width().max(1);
        let steps = match self.backtracking {
            Some(_) => self.steps(z, &self.model.gradient(z)?)?,
            None => vec![T::of(self.step); self.model.problems()],
        };
        let pulled: Vec<T> =
            upstream.iter().enumerate().map(|(index, &u)| -steps[index / width] * u).collect();
        let curved = self.model.gradient_backward(z, &pulled, inputs)?;
        Ok(upstream.iter().zip(&curved).map(|(&u, &h)| u + h).collect())
    }
}
