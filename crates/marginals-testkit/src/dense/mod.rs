//! The textbook formulas on the full N×M matrix, for sizes beyond enumeration.
//!
//! Written for reading: softmax with the maximum subtracted, softplus, the closed forms of
//! exponential families (entropy = log Z − E\[θ\], KL = E\[log ψ\] − evidence) and the chain rule
//! for keys that are visited one after the other, none of which [`crate::enumerate`] uses. Generic
//! over the number type: in f32 it is the plain arithmetic that a streaming pass is compared with.
//! O(N·M) memory, O(N·M·(d_v + log M)) time.

mod factor;
mod functions;
mod values;

use ndarray::{Array1, Array2, NdFloat};

use crate::answers::ranked;
use crate::exact::Exact;
use crate::{Answers, Posed, Problem, Structure, distance};
use factor::Factor;
use functions::{coin_entropy, logistic, softplus};

/// Every answer of one head.
pub fn answer<P: Posed>(of: &P) -> Answers<P::Number> {
    let problem = of.problem();
    let (mut out, log_marginals) = solve(&problem);
    values::moments(&problem, &log_marginals, &mut out);
    out
}

/// Cov\[Σ_j φ_ij s_ij, v\] of every query, N × d_v: E\[s v\] − E\[s\] E\[v\] for a second score s,
/// N × M. Scores are summed over edges, whether values are gathered or averaged; scores of
/// impossible edges are not read.
pub fn covariance<P: Posed>(of: &P, second: &Array2<P::Number>) -> Array2<P::Number> {
    let problem = of.problem();
    let (out, log_marginals) = solve(&problem);
    values::covariance(&problem, &log_marginals, &out, second)
}

/// Everything but the moments of values, and log P(φ_ij = 1).
fn solve<T: NdFloat>(problem: &Problem<T>) -> (Answers<T>, Array2<Exact<T>>) {
    problem.check();
    let mut out = Answers::degenerate(problem);
    let impossible = Exact::of(T::neg_infinity());
    let mut log_marginals = Array2::from_elem(out.marginals.dim(), impossible);
    match problem.structure {
        Structure::Independent => independent(problem, &mut out, &mut log_marginals),
        _ => {
            for index in 0..problem.factors() {
                if let Some(factor) = Factor::of(problem, index) {
                    factor.record(problem, index, &mut out, &mut log_marginals);
                }
            }
        }
    }
    for ((i, j), &p) in out.marginals.indexed_iter() {
        let steps = T::from(distance(i, j, problem.query_offset)).expect("a distance is a number");
        out.column_mass[j] += p;
        out.expected_distance[i] += p * steps;
    }
    for i in 0..problem.queries() {
        let scores: Vec<_> = (0..problem.keys()).map(|j| problem.exact_theta(i, j)).collect();
        out.note_scores(i, &scores);
    }
    (out, log_marginals)
}

/// Logistic edges, each on its own.
fn independent<T: NdFloat>(
    problem: &Problem<T>,
    out: &mut Answers<T>,
    log_marginals: &mut Array2<Exact<T>>,
) {
    for i in 0..problem.queries() {
        let (mut partition, mut prior_partition) = (T::zero(), T::zero());
        let mut choices = Vec::new();
        let scores: Vec<_> = (0..problem.keys()).map(|j| problem.exact_theta(i, j)).collect();
        for j in 0..problem.keys() {
            prior_partition += softplus(problem.prior(i, j));
            let theta = problem.theta(i, j);
            if theta == T::neg_infinity() {
                continue;
            }
            let p = logistic(theta);
            out.marginals[[i, j]] = p;
            log_marginals[[i, j]] = scores[j].log_logistic();
            partition += softplus(theta);
            out.entropy[i] += coin_entropy(theta);
            out.kl[i] += p * problem.log_potential[[i, j]];
            choices.push((j as i64, scores[j], p));
        }
        out.log_partition[i] = partition;
        out.log_evidence[i] = partition - prior_partition;
        out.kl[i] -= out.log_evidence[i];
        out.null_probability[i] = (-partition).exp();
        out.ranking[i] = ranked(choices, T::zero());
    }
}

/// −E_p[log p′(φ)] per factor, from the closed form of the structure; +∞ where p allows what p′
/// excludes, 0 where p is degenerate.
pub fn cross_entropy<P: Posed>(p: &P, other: &P) -> Array1<P::Number> {
    let (p, other) = (p.problem(), other.problem());
    (0..p.factors()).map(|factor| factor_cross_entropy(&*p, &*other, factor)).collect()
}

fn factor_cross_entropy<T: NdFloat>(p: &Problem<T>, other: &Problem<T>, factor: usize) -> T {
    if p.structure == Structure::Independent {
        return coins_cross_entropy(p, other, factor);
    }
    match (Factor::of(p, factor), Factor::of(other, factor)) {
        (None, _) => T::zero(),
        (Some(_), None) => T::infinity(),
        (Some(p), Some(other)) => p.cross_entropy(&other),
    }
}

/// Σ_j log(1 + e^θ′) − p θ′, the closed form of independent edges.
fn coins_cross_entropy<T: NdFloat>(p: &Problem<T>, other: &Problem<T>, query: usize) -> T {
    let mut sum = T::zero();
    for j in 0..p.keys() {
        let (own, theta) = (logistic(p.theta(query, j)), other.theta(query, j));
        sum += softplus(theta);
        if own > T::zero() {
            sum -= own * theta;
        }
    }
    sum
}
