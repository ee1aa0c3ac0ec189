//! The adjoint of the dual's solution.
//!
//! At the solution every full key j has its mass, c_j(θ, x) = b_j (and where both sides have room, Σ c is the
//! total). A loss that depends on the biases with gradient g then moves with the scores as
//!
//! ```text
//! −w · ∂c/∂θ,     A w = g,     A = ∂c/∂x = diag(c) − Σ_i [i is full] P_i P_iᵀ / a_i,
//! ```
//!
//! symmetric and positive semidefinite: conjugate gradients solve it, each step a pass over the scores. Nothing
//! of the iteration that found the solution is kept or differentiated.

use super::sweep::Sweep;
use crate::{Error, Real};

/// Steps of conjugate gradients at most.
const STEPS: usize = 1000;
/// Steps without progress after which rounding is all that is left.
const IDLE: usize = 12;
/// Relative residual above which it has failed.
const FAILED: f64 = 1e-3;

/// Conditions that the solution of one head satisfies.
pub(super) struct Conditions {
    /// Keys whose mass is all they have.
    pub is_full: Vec<bool>,
    /// Keys that have any.
    pub is_present: Vec<bool>,
    /// Whether the total is a condition of its own.
    pub is_partial: bool,
    /// Whether all nodes have all their mass: what is the same for all keys then moves no plan.
    pub is_balanced: bool,
    /// Masses of the keys.
    pub columns: Vec<f64>,
}

impl Conditions {
    /// The biases' directions of an unknown: a full key's own, and all together where the total is one.
    fn expand(&self, unknown: &[f64]) -> Vec<f64> {
        let (own, all) = unknown.split_at(self.columns.len());
        let key = |key: usize| match self.is_present[key] {
            true => all[0] + if self.is_full[key] { own[key] } else { 0.0 },
            false => 0.0,
        };
        (0..own.len()).map(key).collect()
    }

    /// The transpose.
    fn restrict(&self, by_key: &[f64]) -> Vec<f64> {
        let own = by_key.iter().zip(&self.is_full);
        let mut all: Vec<f64> = own.map(|(&x, &full)| if full { x } else { 0.0 }).collect();
        let present = by_key.iter().zip(&self.is_present).filter(|(_, present)| **present);
        all.push(if self.is_partial { present.map(|(x, _)| x).sum() } else { 0.0 });
        all
    }

    /// The residual over the diagonal of the matrix.
    fn precondition(&self, residual: &[f64]) -> Vec<f64> {
        let whole: f64 = self.columns.iter().sum();
        let diagonal = self.columns.iter().copied().chain([whole]);
        residual.iter().zip(diagonal).map(|(r, d)| if d > 0.0 { r / d } else { 0.0 }).collect()
    }
}

/// Conjugate gradients of one head.
struct State {
    unknown: Vec<f64>,
    residual: Vec<f64>,
    direction: Vec<f64>,
    product: f64,
    size: f64,
    best: (f64, Vec<f64>),
    idle: usize,
}

/// w of every head, as a number of every key, from the gradients in the biases.
///
/// # Errors
/// [`Error::Value`] where conjugate gradients get nowhere.
pub(super) fn solve<T: Real>(
    sweep: &Sweep<'_, '_, T>,
    biases: &[Vec<f64>],
    conditions: &[Conditions],
    gradients: Vec<Vec<f64>>,
) -> Result<Vec<Vec<f64>>, Error> {
    let mut states: Vec<State> = (conditions.iter().zip(gradients))
        .map(|(own, gradient)| {
            let mut residual = own.restrict(&gradient);
            if own.is_balanced {
                // The gradient in what moves no plan is 0 but for rounding.
                let (sum, whole) = (residual.iter().sum::<f64>(), own.columns.iter().sum::<f64>());
                let share = if whole > 0.0 { sum / whole } else { 0.0 };
                let each = residual.iter_mut().zip(&own.columns);
                each.for_each(|(r, c)| *r -= share * c);
            }
            let direction = own.precondition(&residual);
            let (product, unknown) = (dot(&residual, &direction), vec![0.0; residual.len()]);
            let size = dot(&residual, &residual).sqrt();
            let best = (size, unknown.clone());
            State { unknown, residual, direction, product, size, best, idle: 0 }
        })
        .collect();
    // Products in the computing type have its rounding.
    let tolerance = 16.0 * T::epsilon().f64();
    for _ in 0..STEPS {
        let is_open = |state: &State| {
            state.best.0 > tolerance * state.size && state.idle < IDLE && state.product > 0.0
        };
        let active: Vec<usize> = (0..states.len()).filter(|&head| is_open(&states[head])).collect();
        if active.is_empty() {
            break;
        }
        let directions: Vec<Vec<f64>> = (states.iter().zip(conditions))
            .map(|(state, own)| own.expand(&state.direction))
            .collect();
        let products = sweep.products(&active, (biases, &directions), &|head, query, sum, mean| {
            let row = sweep.masses(head).row(query, sum);
            if row.is_full { row.mass * mean } else { 0.0 }
        });
        for (&head, (_, back)) in active.iter().zip(products) {
            let (state, own) = (&mut states[head], &conditions[head]);
            let each = own.columns.iter().zip(&directions[head]).zip(back);
            let moved: Vec<f64> = each.map(|((c, d), back)| c * d - back).collect();
            state.step(&own.restrict(&moved), own);
        }
    }
    let finish = |(state, own): (State, &Conditions)| match state.best.0 <= FAILED * state.size {
        true => Ok(own.expand(&state.best.1)),
        false => Err(Error::value(
            "entropic",
            "a dual solved near enough to its optimum to be differentiated there: allow it more steps, a \
             smaller tolerance, or scores that are less far apart",
            format!(
                "solved so that its adjoint has a relative residual of {:.1e}",
                state.best.0 / state.size
            ),
        )),
    };
    states.into_iter().zip(conditions).map(finish).collect()
}

impl State {
    fn step(&mut self, moved: &[f64], own: &Conditions) {
        let curvature = dot(&self.direction, moved);
        if curvature.is_nan() || curvature <= 0.0 {
            self.idle = IDLE;
            return;
        }
        let length = self.product / curvature;
        add(&mut self.unknown, length, &self.direction);
        add(&mut self.residual, -length, moved);
        let size = dot(&self.residual, &self.residual).sqrt();
        self.idle = if size < 0.9 * self.best.0 { 0 } else { self.idle + 1 };
        if size < self.best.0 {
            self.best = (size, self.unknown.clone());
        }
        let ahead = own.precondition(&self.residual);
        let product = dot(&self.residual, &ahead);
        let share = product / self.product;
        let old = std::mem::replace(&mut self.direction, ahead);
        add(&mut self.direction, share, &old);
        self.product = product;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(into: &mut [f64], times: f64, other: &[f64]) {
    into.iter_mut().zip(other).for_each(|(x, y)| *x += times * y);
}
