//! Second-order steps.

use crate::Real;

use super::descent::moved;
use super::{Backtracking, Differentiable, Evaluation, InputGradients, Update};
use crate::Error;

/// A model that knows a matrix A(z) in place of ∇²F: symmetric, without negative eigenvalues, and seen
/// through products only. Where F is bounded from above by the parabola of A at z, a full step never
/// raises F.
pub trait Curved<T: Real>: Differentiable<T> {
    /// A(z), as the function that multiplies a direction by it.
    fn curvature<'m>(&'m self, z: &[T]) -> Result<Curvature<'m, T>, Error>;
}

/// A matrix, seen through its products.
pub type Curvature<'m, T> = Box<dyn Fn(&[T]) -> Result<Vec<T>, Error> + 'm>;

/// z ← z − A(z)⁻¹ ∇F(z), the linear system solved by conjugate gradients (Hestenes & Stiefel 1952).
///
/// Cost: a product with A for each of at most 2·width iterations. Along what A does not see (to rounding) z
/// does not move.
///
/// Its derivatives are those at a fixed point, where ∇F = 0: J = I − A⁻¹ ∇²F, and that of the inputs
/// −A⁻¹ ∂∇F/∂input. Differentiate implicitly; unrolled or one-step gradients leave out how A moves.
#[derive(Debug)]
pub struct Newton<'a, M: ?Sized> {
    model: &'a M,
    backtracking: Option<Backtracking>,
}

// Not derived: it is a reference, whatever the model is.
impl<M: ?Sized> Clone for Newton<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: ?Sized> Copy for Newton<'_, M> {}

impl<'a, M: ?Sized> Newton<'a, M> {
    /// Full steps.
    pub fn new(model: &'a M) -> Self {
        Self { model, backtracking: None }
    }

    /// Steps that are shortened where F would not fall enough: F never rises.
    ///
    /// # Errors
    /// [`Error::Value`] where a setting is outside its range.
    pub fn with_backtracking(self, backtracking: Backtracking) -> Result<Self, Error> {
        backtracking.check()?;
        Ok(Self { backtracking: Some(backtracking), ..self })
    }
}

impl<T: Real, M: Curved<T> + ?Sized> Update<T> for Newton<'_, M> {
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
        let width = self.model.width();
        let step = solve(self.model, z, &at.next)?;
        let sizes = match &self.backtracking {
            None => vec![T::one(); self.model.problems()],
            Some(backtracking) => {
                let slopes = inner(&at.next, &step, width);
                backtracking.sizes(self.model, z, &at.free_energy, &step, &slopes, T::one())?
            }
        };
        Ok(Evaluation { next: moved(z, &step, &sizes, width.max(1)), ..at })
    }
    fn backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        pulled(self.model, z, upstream, inputs)
    }
}

/// Jᵀ `upstream` of a full step at a fixed point; adds its counterpart for the inputs.
pub(crate) fn pulled<T: Real, M: Curved<T> + ?Sized>(
    model: &M,
    z: &[T],
    upstream: &[T],
    inputs: &mut InputGradients<T>,
) -> Result<Vec<T>, Error> {
    let mut solved = solve(model, z, upstream)?;
    solved.iter_mut().for_each(|x| *x = -*x);
    let curved = model.gradient_backward(z, &solved, inputs)?;
    Ok(upstream.iter().zip(&curved).map(|(&u, &h)| u + h).collect())
}

/// A(z)⁻¹ `right`, problem by problem side by side.
///
/// A problem goes on until its residual is rounding, or what is left of it is a direction that A does not see:
/// rounding is all that a product with it would be divided by.
pub(crate) fn solve<T: Real, M: Curved<T> + ?Sized>(
    model: &M,
    z: &[T],
    right: &[T],
) -> Result<Vec<T>, Error> {
    let width = model.width();
    let mut solution = vec![T::zero(); right.len()];
    let mut rest = right.to_vec();
    let mut direction = rest.clone();
    let mut squares = inner(&rest, &rest, width);
    let rounding = T::of(width as f64) * T::epsilon();
    let enough: Vec<T> = squares.iter().map(|&s| s * rounding * rounding).collect();
    let mut active: Vec<bool> = squares.iter().map(|s| s.is_finite() && *s > T::zero()).collect();
    // The largest ⟨d, A d⟩/⟨d, d⟩ that was met: at least a share of A's largest eigenvalue.
    let mut largest = vec![T::zero(); squares.len()];
    if !active.contains(&true) {
        return Ok(solution);
    }
    let curvature = model.curvature(z)?;
    for _ in 0..2 * width {
        let curved = curvature(&direction)?;
        let along = inner(&direction, &curved, width);
        let lengths = inner(&direction, &direction, width);
        for p in 0..active.len() {
            let own = p * width..(p + 1) * width;
            let quotient = along[p] / lengths[p];
            let is_seen = quotient > rounding * largest[p] && quotient.is_finite();
            if !(active[p] && is_seen) {
                active[p] = false;
                direction[own].fill(T::zero());
                continue;
            }
            largest[p] = largest[p].max(quotient);
            let size = squares[p] / along[p];
            let mut square = T::zero();
            for index in own.clone() {
                solution[index] += size * direction[index];
                rest[index] -= size * curved[index];
                square += rest[index] * rest[index];
            }
            let ratio = square / squares[p];
            squares[p] = square;
            active[p] = square > enough[p] && square.is_finite();
            for index in own {
                direction[index] = match active[p] {
                    true => rest[index] + ratio * direction[index],
                    false => T::zero(),
                };
            }
        }
        if !active.contains(&true) {
            break;
        }
    }
    Ok(solution)
}

/// ⟨a, b⟩ of every problem.
fn inner<T: Real>(a: &[T], b: &[T], width: usize) -> Vec<T> {
    let of = |(a, b): (&[T], &[T])| a.iter().zip(b).map(|(&a, &b)| a * b).sum();
    a.chunks(width.max(1)).zip(b.chunks(width.max(1))).map(of).collect()
}
