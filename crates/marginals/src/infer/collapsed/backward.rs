//! Gradients of a loss at a fixed point.

use crate::{Error, Real};

use super::adjoint::Adjoint;
use super::{Acceleration, Differentiation, FixedPoint, InputGradients, Solution, Update};

/// Gradients of a loss at a fixed point.
#[derive(Clone, Debug)]
pub struct SolutionGradient<T> {
    /// Of the start; zero unless the steps were unrolled.
    pub start: Vec<T>,
    /// Of everything the update depends on.
    pub inputs: InputGradients<T>,
    /// How the linear solve went, where there was one.
    pub adjoint: Option<AdjointReport<T>>,
}

/// How the linear solve of an implicit gradient went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdjointReport<T> {
    /// Products with Jᵀ.
    pub iterations: usize,
    /// max |u + Jᵀλ − λ|.
    pub residual: T,
    /// Whether it came within the tolerance. Where not, the gradient is only as good as the
    /// residual.
    pub converged: bool,
}

/// Steps the linear solve remembers: as many directions as it can put right at once.
const MEMORY: usize = 20;

impl FixedPoint {
    /// The gradients of a loss with ∂L/∂z = `upstream` at `solution`, which this engine found with
    /// this `update`.
    pub fn backward<T: Real, U: Update<T> + ?Sized>(
        &self,
        update: &U,
        solution: &Solution<T>,
        upstream: &[T],
    ) -> Result<SolutionGradient<T>, Error> {
        if upstream.len() != solution.z.len() {
            return Err(Error::shape(
                "upstream",
                format!("[{}], as the solution", solution.z.len()),
                &[upstream.len()],
                "Give the gradient of the loss in every number of z.",
            ));
        }
        let mut inputs = update.inputs();
        match self.differentiation {
            Differentiation::Unrolled => {
                let steps = solution.steps.iter().copied().max().unwrap_or(0);
                if solution.states.len() < steps {
                    return Err(Error::NotAnswerable {
                        question: "unrolled differentiation".to_owned(),
                        why: "the solution was found without keeping its steps".to_owned(),
                        instead: "Solve with the engine that differentiates.".to_owned(),
                    });
                }
                let mut u = upstream.to_vec();
                let width = update.width();
                for (t, z) in solution.states[..steps].iter().enumerate().rev() {
                    // Problems that had stopped by then pass theirs on as it is.
                    let moved = |index: usize| t < solution.steps[index / width];
                    let masked: Vec<T> = u
                        .iter()
                        .enumerate()
                        .map(|(index, &u)| if moved(index) { u } else { T::zero() })
                        .collect();
                    let pulled = update.backward(z, &masked, &mut inputs)?;
                    for (index, (u, pulled)) in u.iter_mut().zip(pulled).enumerate() {
                        if moved(index) {
                            *u = pulled;
                        }
                    }
                }
                Ok(SolutionGradient { start: u, inputs, adjoint: None })
            }
            Differentiation::Implicit { tolerance, max_iterations } => {
                let size = upstream.iter().fold(T::zero(), |a, u| a.max(u.abs()));
                let adjoint = Adjoint { update, z: &solution.z, upstream };
                let solver = FixedPoint {
                    tolerance: tolerance * size.f64(),
                    energy_tolerance: None,
                    max_steps: max_iterations,
                    acceleration: Acceleration::Anderson { memory: MEMORY },
                    differentiation: Differentiation::OneStep,
                };
                let solved = solver.solve(&adjoint, upstream)?;
                update.backward(&solution.z, &solved.z, &mut inputs)?;
                let residual = solved.residual.iter().fold(T::zero(), |a, r| a.max(*r));
                let report = AdjointReport {
                    iterations: solved.evaluations,
                    residual,
                    converged: solved.converged(),
                };
                let start = vec![T::zero(); upstream.len()];
                Ok(SolutionGradient { start, inputs, adjoint: Some(report) })
            }
            Differentiation::OneStep => {
                update.backward(&solution.z, upstream, &mut inputs)?;
                let start = vec![T::zero(); upstream.len()];
                Ok(SolutionGradient { start, inputs, adjoint: None })
            }
        }
    }
}
