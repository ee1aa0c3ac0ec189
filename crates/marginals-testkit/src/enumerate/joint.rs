//! Answers about whole edge sets.

use ndarray::{Array1, Array2};

use super::listed::{self, Listed};
use super::state::{self, State};
use super::sums::Sums;
use crate::{Law, Posed, Problem, Structure};

/// Answers about whole edge sets: what the factors' answers must add up to.
#[derive(Clone, Debug)]
pub struct Joint {
    /// log Σ_{φ∈Φ} w(φ) ψ(φ).
    pub log_partition: f64,
    /// log Σ_{φ∈Φ} π(φ) ψ(φ).
    pub log_evidence: f64,
    /// −Σ p log p.
    pub entropy: f64,
    /// Σ p log(p/π).
    pub kl: f64,
    /// P(φ_ij = 1), N × M.
    pub marginals: Array2<f64>,
    /// E\[v\], N × d_v.
    pub mean: Array2<f64>,
    /// Var\[v\], N × d_v.
    pub value_variance: Array2<f64>,
    /// E\[Σ_j φ_ij |i + offset − j|\], N.
    pub expected_distance: Array1<f64>,
    /// P(no edge at all).
    pub null_probability: f64,
    /// A most probable φ, as its edges (query, key) in order.
    pub best: Vec<[usize; 2]>,
}

/// Every answer about whole edge sets, by testing each of the 2^(N·M) for membership in Φ.
///
/// A query (or key) whose edges are all impossible contributes the empty choice, so that the rest
/// of Φ still has a posterior; its weight is 1 under prior and posterior alike.
///
/// # Panics
/// If N·M is above 16.
pub fn joint(of: &impl Posed<Number = f64>) -> Joint {
    let problem = of.problem();
    problem.check();
    let (n, m) = (problem.queries(), problem.keys());
    assert!(n * m <= 16, "enumerating 2^{} edge sets", n * m);
    let states = match problem.law {
        Law::ExponentialFamily => edge_sets(&problem),
        Law::NearestAccepted => state::accepted(&problem, &(0..n).collect::<Vec<_>>()),
    };
    let listed = [Listed::new(states, 0..n)];
    let sums = Sums::over(&problem, &listed);
    let [Listed { states, posterior: p, prior: pi, .. }] = &listed;
    let best = (0..states.len()).max_by(|&a, &b| p.log_p()[a].total_cmp(&p.log_p()[b]));
    Joint {
        log_partition: p.log_z(),
        log_evidence: listed::log_evidence(states, pi),
        entropy: p.entropy(),
        kl: p.kl(pi),
        marginals: sums.marginals,
        mean: sums.mean,
        value_variance: sums.variance,
        expected_distance: sums.expected_distance,
        null_probability: p.expect(|s| f64::from(u8::from(states[s].edges.is_empty()))),
        best: best.map_or_else(Vec::new, |b| states[b].edges.clone()),
    }
}

fn edge_sets(problem: &Problem) -> Vec<State> {
    let (n, m) = (problem.queries(), problem.keys());
    let alive_query: Vec<bool> = (0..n).map(|i| (0..m).any(|j| problem.possible(i, j))).collect();
    let alive_key: Vec<bool> = (0..m).map(|j| (0..n).any(|i| problem.possible(i, j))).collect();
    let at_most_one = problem.structure == Structure::EachQueryPicksAtMostOne;
    let null: Vec<State> = match at_most_one {
        true => (0..n).map(|i| State::null(problem, i)).collect(),
        false => Vec::new(),
    };
    let mut states = Vec::new();
    for set in 0..1u32 << (n * m) {
        let edges: Vec<[usize; 2]> =
            (0..n * m).filter(|e| set >> e & 1 == 1).map(|e| [e / m, e % m]).collect();
        let of_query = |i: usize| edges.iter().filter(|e| e[0] == i).count();
        let of_key = |j: usize| edges.iter().filter(|e| e[1] == j).count();
        let possible = match problem.structure {
            Structure::EachQueryPicksOne => {
                (0..n).all(|i| of_query(i) == usize::from(alive_query[i]))
            }
            Structure::EachQueryPicksAtMostOne => (0..n).all(|i| of_query(i) <= 1),
            Structure::EachKeyPicksOne => (0..m).all(|j| of_key(j) == usize::from(alive_key[j])),
            Structure::Independent => true,
        };
        if !possible {
            continue;
        }
        let unserved: Vec<usize> = (0..n).filter(|&i| of_query(i) == 0).collect();
        let mut state = State::of(problem, edges);
        for i in unserved.into_iter().filter(|_| at_most_one) {
            state.log_prior.multiply(&null[i].log_prior);
            state.log_posterior.multiply(&null[i].log_posterior);
        }
        states.push(state);
    }
    states
}
