//! The states of a factor, or of all of them.

use super::distribution::Distribution;
use crate::exact::Exact;
use crate::{Law, NullEdge, Problem, Structure};

/// One φ (or its restriction to a factor) with the logs of its weight under prior and posterior.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub edges: Vec<[usize; 2]>,
    pub log_prior: Exact<f64>,
    pub log_posterior: Exact<f64>,
}

impl State {
    /// The product of the weights of its edges.
    pub fn of(problem: &Problem, edges: Vec<[usize; 2]>) -> Self {
        let (mut log_prior, mut log_posterior) = (Exact::of(0.0), Exact::of(0.0));
        for &[i, j] in &edges {
            log_prior.multiply(&problem.exact_prior(i, j));
            log_posterior.multiply(&problem.exact_theta(i, j));
        }
        Self { edges, log_prior, log_posterior }
    }

    /// No edge, with the weight of the null edge of a query.
    pub fn null(problem: &Problem, query: usize) -> Self {
        let (log_prior, log_posterior) = match problem.null[query] {
            NullEdge::Weighted { log_weight, log_potential } => {
                let prior = Exact::of(log_weight);
                let mut posterior = prior;
                if !prior.impossible() {
                    posterior.add(log_potential);
                }
                (prior, posterior)
            }
            NullEdge::Gated { gate } => {
                let keys = 0..problem.keys();
                let edges: Vec<Self> = keys.map(|j| Self::of(problem, vec![[query, j]])).collect();
                let share = |of: fn(&Self) -> Exact<f64>| {
                    Distribution::normalise(edges.iter().map(of).collect())
                        .exact_log_z()
                        .plus(-gate)
                };
                (share(|s| s.log_prior), share(|s| s.log_posterior))
            }
        };
        Self { edges: Vec::new(), log_prior, log_posterior }
    }

    pub fn possible(&self) -> bool {
        !self.log_prior.impossible() && !self.log_posterior.impossible()
    }

    /// Σ_j φ_ij f(j) for one query.
    pub fn gather(&self, query: usize, f: impl Fn(usize) -> f64) -> f64 {
        self.edges.iter().filter(|e| e[0] == query).map(|e| f(e[1])).sum()
    }

    pub fn has_edge_of(&self, query: usize) -> bool {
        self.edges.iter().any(|e| e[0] == query)
    }
}

/// The states of one factor: of query `factor`, or of key `factor` where keys pick.
pub(super) fn of_factor(problem: &Problem, factor: usize) -> Vec<State> {
    let (n, m) = (problem.queries(), problem.keys());
    let edge = |i, j| State::of(problem, vec![[i, j]]);
    match problem.structure {
        _ if problem.law == Law::NearestAccepted => accepted(problem, &[factor]),
        Structure::EachQueryPicksOne => (0..m).map(|j| edge(factor, j)).collect(),
        Structure::EachQueryPicksAtMostOne => {
            let null = State::null(problem, factor);
            std::iter::once(null).chain((0..m).map(|j| edge(factor, j))).collect()
        }
        Structure::EachKeyPicksOne => (0..n).map(|i| edge(i, factor)).collect(),
        Structure::Independent => {
            assert!(m <= 16, "enumerating 2^{m} edge sets of one query");
            (0..1u32 << m)
                .map(|set| {
                    let edges = (0..m).filter(|j| set >> j & 1 == 1).map(|j| [factor, j]);
                    State::of(problem, edges.collect())
                })
                .collect()
        }
    }
}

/// Every set of edges that accept, among those of the given queries that the prior allows: the product
/// of σ(θ) over those that do and of 1 − σ(θ) over those that do not. Each set leads to the φ that has
/// the edge of the largest accepting key of every query; the weights of the sets that lead to the
/// same φ are added.
pub(super) fn accepted(problem: &Problem, queries: &[usize]) -> Vec<State> {
    let edges: Vec<[usize; 2]> = queries
        .iter()
        .flat_map(|&i| (0..problem.keys()).map(move |j| [i, j]))
        .filter(|e| problem.allowed(e[0], e[1]))
        .collect();
    assert!(edges.len() <= 16, "enumerating 2^{} sets of edges that accept", edges.len());
    let coin = |x: Exact<f64>| [x.log_complement(), x.log_logistic()];
    let coins: Vec<[[Exact<f64>; 2]; 2]> = edges
        .iter()
        .map(|&[i, j]| [coin(problem.exact_prior(i, j)), coin(problem.exact_theta(i, j))])
        .collect();
    let mut found: Vec<Found> = Vec::new();
    for set in 0..1u32 << edges.len() {
        let accepts = |e: usize| set >> e & 1 == 1;
        let weight = |of: usize| {
            let mut sum = Exact::of(0.0);
            (0..edges.len()).for_each(|e| sum.multiply(&coins[e][of][usize::from(accepts(e))]));
            sum
        };
        let mut picks: Vec<[usize; 2]> = Vec::new();
        for e in (0..edges.len()).filter(|&e| accepts(e)) {
            match picks.last_mut() {
                // Keys of a query come in order: the last is the nearest.
                Some(last) if last[0] == edges[e][0] => *last = edges[e],
                _ => picks.push(edges[e]),
            }
        }
        let at = found.iter().position(|f| f.0 == picks).unwrap_or_else(|| {
            found.push((picks, [Vec::new(), Vec::new()]));
            found.len() - 1
        });
        (0..2).for_each(|of| found[at].1[of].push(weight(of)));
    }
    let total = |weights: Vec<Exact<f64>>| Distribution::normalise(weights).exact_log_z();
    let state = |(edges, [prior, posterior]): Found| State {
        edges,
        log_prior: total(prior),
        log_posterior: total(posterior),
    };
    found.into_iter().map(state).collect()
}

/// A φ, and the log-weights under prior and posterior of the sets that lead to it.
type Found = (Vec<[usize; 2]>, [Vec<Exact<f64>>; 2]);
