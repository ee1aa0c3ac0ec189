//! Which answers garbage in the nodes can reach.

use ndarray::Array2;

use super::{FurtherPrior, Inputs, Model};
use crate::Structure;

/// Answers of one batch entry and head that some node which is not finite takes part in. All others,
/// and their gradients, are those of the same problem with the garbage left out.
///
/// A node takes part in an edge that the prior allows, whatever the potential makes of it, and an edge
/// in all that its factor answers, also where a factor is a sum over independent edges. A loss of
/// untouched answers has finite gradients everywhere: a node that holds garbage has gradient 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Marginals, N × M.
    pub edges: Array2<bool>,
    /// Log-partition, log-evidence, entropy, KL, null probability, MAP, top-k, samples; F.
    pub factors: Vec<bool>,
    /// Query mass, expected distance, largest and smallest score; N.
    pub queries: Vec<bool>,
    /// Mean, variance, covariance; N.
    pub values: Vec<bool>,
    /// Column mass; M.
    pub keys: Vec<bool>,
}

impl Model {
    /// What garbage in q, k and v reaches.
    pub fn touched(&self, inputs: &Inputs, batch: usize, head: usize) -> Touched {
        let problem = self.problem(inputs, batch, head);
        let (n, m) = (problem.queries(), problem.keys());
        let key_head = inputs.key_head(head);
        let finite = |x: &ndarray::Array4<f64>, head: usize, node: usize| {
            x.slice(ndarray::s![batch, head, node, ..]).iter().all(|x| x.is_finite())
        };
        let sound = |i: usize, j: usize| {
            !problem.allowed(i, j) || (finite(&inputs.q, head, i) && finite(&inputs.k, key_head, j))
        };
        // A contextual distance also passes the keys between, of which it reads those allowed.
        let passes = self.further_priors.iter().any(FurtherPrior::reads_masks);
        let score = |i: usize, j: usize| {
            let last = if passes { m } else { j + 1 };
            problem.allowed(i, j) && !(j..last).all(|l| sound(i, l))
        };
        let scores = Array2::from_shape_fn((n, m), |(i, j)| score(i, j));
        let (row, column) =
            (|i: usize| (0..m).any(|j| scores[[i, j]]), |j: usize| (0..n).any(|i| scores[[i, j]]));
        let factors: Vec<bool> = match problem.structure {
            Structure::EachKeyPicksOne => (0..m).map(column).collect(),
            _ => (0..n).map(row).collect(),
        };
        let edge = |(i, j): (usize, usize)| match problem.structure {
            Structure::EachKeyPicksOne => problem.allowed(i, j) && factors[j],
            _ => problem.allowed(i, j) && factors[i],
        };
        let edges = Array2::from_shape_fn((n, m), edge);
        let queries: Vec<bool> = (0..n).map(|i| (0..m).any(|j| edges[[i, j]])).collect();
        let value = |i: usize| {
            let holds = |j: usize| problem.allowed(i, j) && !finite(&inputs.v, key_head, j);
            queries[i] || (0..m).any(holds)
        };
        Touched {
            values: (0..n).map(value).collect(),
            keys: (0..m).map(|j| (0..n).any(|i| edges[[i, j]])).collect(),
            edges,
            factors,
            queries,
        }
    }
}
