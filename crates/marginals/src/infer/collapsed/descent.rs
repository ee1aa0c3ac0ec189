//! Gradient steps.

use crate::Real;

use super::{Differentiable, Evaluation, InputGradients, Update};
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
        for (name, value) in [
            ("backtracking.shrink", backtracking.shrink),
            ("backtracking.sufficient", backtracking.sufficient),
        ] {
            if !(value > 0.0 && value < 1.0) {
                return Err(Error::value(name, "a number in (0, 1)", value));
            }
        }
        Ok(Self { backtracking: Some(backtracking), ..self })
    }

    /// The step of each problem at `z`, from F and ∇F there.
    fn steps<T: Real>(&self, z: &[T], at: &Evaluation<T>) -> Result<Vec<T>, Error>
    where
        M: Differentiable<T>,
    {
        let width = self.model.width().max(1);
        let mut steps = vec![T::of(self.step); self.model.problems()];
        let Some(backtracking) = self.backtracking else { return Ok(steps) };
        let slope: Vec<T> = at.next.chunks(width).map(|g| g.iter().map(|&g| g * g).sum()).collect();
        for attempt in 0..=backtracking.most {
            let reached = self.model.free_energy(&moved(z, &at.next, &steps, width))?;
            let mut short = false;
            for (p, step) in steps.iter_mut().enumerate() {
                let wanted = at.free_energy[p] - T::of(backtracking.sufficient) * *step * slope[p];
                // Also shortens where F there is NaN. Nothing to gain where the slope is 0.
                let enough = reached[p] <= wanted || *step == T::zero() || slope[p] == T::zero();
                if !enough {
                    short = true;
                    *step = match attempt == backtracking.most {
                        true => T::zero(),
                        false => *step * T::of(backtracking.shrink),
                    };
                }
            }
            if !short {
                break;
            }
        }
        Ok(steps)
    }
}

/// z − η ∇F, problem by problem.
fn moved<T: Real>(z: &[T], gradient: &[T], steps: &[T], width: usize) -> Vec<T> {
    let along = z.iter().zip(gradient).enumerate();
    along.map(|(index, (&z, &g))| z - steps[index / width] * g).collect()
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
