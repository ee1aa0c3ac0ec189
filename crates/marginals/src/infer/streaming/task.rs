//! State that the tasks of one forward pass share.

use super::rule::Wants;
use super::scorer::Scorer;
use crate::infer::Problem;
use crate::infer::statistic::{Linear, Request};
use crate::tensor::Stored;
use crate::{Real, Shape, Value};

/// State that every task of one forward pass shares.
pub(super) struct Task<'a, T: Real> {
    pub shape: &'a Shape,
    pub scorer: Scorer<'a, T>,
    pub request: &'a Request<'a, T>,
    pub wants: Wants,
    /// Whether log-weights are looked at apart from the scores.
    pub reads_weights: bool,
    /// Whether functions of edges are averaged.
    pub reads_edges: bool,
    /// Whether what queries gather is divided by their mass.
    pub averages: bool,
    pub q: &'a Stored<'a, T>,
}

impl<'a, T: Real> Task<'a, T> {
    /// State of a pass over `problem` for `request`.
    pub fn new(problem: &'a Problem<'_, T>, request: &'a Request<'_, T>) -> Self {
        Self {
            shape: &problem.shape,
            scorer: Scorer { prior: &*problem.prior, potential: problem.potential },
            request,
            wants: wants(request),
            reads_weights: request.wants_prior(),
            reads_edges: request.linear.iter().any(Linear::reads_edges),
            averages: problem.value == Value::Average,
            q: &problem.q,
        }
    }
}

/// Statistics of the factors that a request wants kept.
fn wants<T: Real>(request: &Request<'_, T>) -> Wants {
    Wants {
        log_probability: request.log_probability().is_some(),
        log_ratio: request.log_ratio().is_some(),
        prior: request.wants_prior(),
    }
}
