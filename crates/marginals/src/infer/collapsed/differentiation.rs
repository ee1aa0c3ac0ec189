//! Differentiation of a fixed point: the choices.

use crate::Error;

/// How the gradient of a loss at the fixed point reaches the inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Differentiation {
    /// Back through every step taken: the exact gradient of what was computed, the start included.
    /// Keeps one z per step.
    Unrolled,
    /// Through the equation z = g(z) alone: solves (I − Jᵀ) λ = ∂L/∂z, then λᵀ ∂g/∂input. Exact at
    /// the fixed point, whatever led there; the memory does not grow with the steps, and the start
    /// has no gradient. J is seen through products only.
    Implicit {
        /// The solve stops where max |u + Jᵀλ − λ| is at most this times max |u|.
        tolerance: f64,
        /// Or after so many products with Jᵀ.
        max_iterations: usize,
    },
    /// As if the last step alone depended on the inputs (λ = ∂L/∂z). One product, and **biased**:
    /// it leaves out J, so it is off by about the rate at which the steps converge.
    OneStep,
}

impl Default for Differentiation {
    fn default() -> Self {
        Self::Implicit { tolerance: 1e-8, max_iterations: 200 }
    }
}

impl Differentiation {
    pub(super) fn check(&self) -> Result<(), Error> {
        match *self {
            Self::Implicit { tolerance, .. } => {
                check_tolerance("differentiation.tolerance", tolerance)
            }
            _ => Ok(()),
        }
    }

    /// Whether the gradient is that of the fixed point (or of the steps taken) and not an estimate.
    pub fn is_exact(&self) -> bool {
        !matches!(self, Self::OneStep)
    }
}

/// Refuses what no residual can be compared with.
pub(super) fn check_tolerance(name: &str, tolerance: f64) -> Result<(), Error> {
    if tolerance.is_nan() || tolerance < 0.0 {
        return Err(Error::value(name, "a number of at least 0", tolerance));
    }
    Ok(())
}
