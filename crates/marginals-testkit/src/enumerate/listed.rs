//! Every state of a factor, under prior and posterior.

use super::distribution::Distribution;
use super::state::{self, State};
use crate::exact::Exact;
use crate::{Problem, Structure};

/// The states of a factor with their probabilities.
pub(super) struct Listed {
    pub states: Vec<State>,
    pub posterior: Distribution,
    pub prior: Distribution,
    /// The queries that the states can have edges of.
    pub queries: std::ops::Range<usize>,
}

impl Listed {
    pub fn new(states: Vec<State>, queries: std::ops::Range<usize>) -> Self {
        let posterior = Distribution::normalise(states.iter().map(|s| s.log_posterior).collect());
        let prior = Distribution::normalise(states.iter().map(|s| s.log_prior).collect());
        Self { states, posterior, prior, queries }
    }

    pub fn all(problem: &Problem) -> Vec<Self> {
        let of_factor = |factor| {
            let queries = match problem.structure {
                Structure::EachKeyPicksOne => 0..problem.queries(),
                _ => factor..factor + 1,
            };
            Self::new(state::of_factor(problem, factor), queries)
        };
        (0..problem.factors()).map(of_factor).collect()
    }
}

/// log Σ_φ π(φ) ψ(φ).
pub(super) fn log_evidence(states: &[State], prior: &Distribution) -> f64 {
    if !prior.alive() {
        return f64::NEG_INFINITY;
    }
    let term = |(state, &log_pi): (&State, &f64)| match state.possible() {
        true => Exact::of(log_pi + state.log_posterior.minus(&state.log_prior)),
        false => Exact::of(f64::NEG_INFINITY),
    };
    Distribution::normalise(states.iter().zip(&prior.log_p).map(term).collect()).log_z()
}
