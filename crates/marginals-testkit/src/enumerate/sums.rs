//! Expectations of edges, of their lengths and of values, summed over states and factors.

use ndarray::{Array1, Array2};

use super::listed::Listed;
use super::state::State;
use crate::exact::{Exact, relative_to_largest};
use crate::{Arithmetic, Problem, ValueKind, distance};

/// Expectations per query.
pub(super) struct Sums {
    pub marginals: Array2<f64>,
    pub expected_distance: Array1<f64>,
    pub mean: Array2<f64>,
    pub variance: Array2<f64>,
}

impl Sums {
    pub fn over(problem: &Problem, factors: &[Listed]) -> Self {
        let (n, m, d) = (problem.queries(), problem.keys(), problem.value.ncols());
        let mut out = Self {
            marginals: Array2::zeros((n, m)),
            expected_distance: Array1::zeros(n),
            mean: Array2::zeros((n, d)),
            variance: Array2::zeros((n, d)),
        };
        for listed in factors {
            for (state, log_p) in listed.states.iter().zip(listed.posterior.log_p()) {
                for &[i, j] in &state.edges {
                    let steps = distance(i, j, problem.query_offset) as f64;
                    out.marginals[[i, j]] += log_p.exp();
                    out.expected_distance[i] += log_p.exp() * steps;
                }
            }
        }
        for i in 0..n {
            let scale = Scale::of(problem, factors, i);
            for c in 0..d {
                let value = |j: usize| problem.value[[j, c]];
                let (mut sum, mut spread) = (0.0, Spread::default());
                for listed in factors.iter().filter(|f| f.queries.contains(&i)) {
                    sum += scale.mean(listed, i, value);
                    spread.add(&scale, listed, i, value, value);
                }
                out.mean[[i, c]] = scale.by_edges(sum);
                let with = match spread.with == 0.0 {
                    true => 0.0,
                    false => spread.with * (-scale.log.value()).exp(),
                };
                out.variance[[i, c]] = match problem.value_kind {
                    ValueKind::Gather => spread.with + spread.without,
                    ValueKind::Average => scale.by_edges(scale.by_edges(with + spread.without)),
                };
            }
        }
        out
    }
}

/// Cov\[Σ φ s, v\] of every query.
pub(super) fn covariance(
    problem: &Problem,
    factors: &[Listed],
    second: &Array2<f64>,
) -> Array2<f64> {
    Array2::from_shape_fn((problem.queries(), problem.value.ncols()), |(i, c)| {
        let scale = Scale::of(problem, factors, i);
        let mut spread = Spread::default();
        for listed in factors.iter().filter(|f| f.queries.contains(&i)) {
            spread.add(&scale, listed, i, |j| second[[i, j]], |j| problem.value[[j, c]]);
        }
        scale.by_edges(spread.with + scale.factor() * spread.without)
    })
}

/// Probabilities of a query's edges are divided by e^log, so that an average over edges that are all
/// very unlikely does not underflow; log is 0 where values are gathered, or arithmetic is plain.
struct Scale {
    log: Exact<f64>,
    /// E[edges] e^−log; 1 where values are gathered.
    edges: f64,
}

impl Scale {
    fn of(problem: &Problem, factors: &[Listed], query: usize) -> Self {
        let mut scale = Self { log: Exact::of(0.0), edges: 1.0 };
        if problem.value_kind == ValueKind::Gather {
            return scale;
        }
        let of_query = || factors.iter().filter(|f| f.queries.contains(&query));
        if problem.arithmetic == Arithmetic::Exact {
            let with_edge = of_query().flat_map(|f| {
                let states = (0..f.states.len()).filter(|&s| f.states[s].has_edge_of(query));
                states.map(|s| f.posterior.exact_log_p(s))
            });
            if let Some((_, largest)) = relative_to_largest(&with_edge.collect::<Vec<_>>()) {
                scale.log = largest;
            }
        }
        scale.edges = of_query().map(|f| scale.mean(f, query, |_| 1.0)).sum();
        scale
    }

    /// e^log.
    fn factor(&self) -> f64 {
        self.log.value().exp()
    }

    fn by_edges(&self, x: f64) -> f64 {
        if self.edges > 0.0 { x / self.edges } else { 0.0 }
    }

    /// The states of a factor that have an edge of the query and can happen, each with its
    /// probability times e^−log.
    fn with_edge<'a>(
        &'a self,
        listed: &'a Listed,
        query: usize,
    ) -> impl Iterator<Item = (&'a State, f64)> {
        let states = listed.states.iter().enumerate();
        states.filter(move |(_, state)| state.has_edge_of(query)).filter_map(move |(s, state)| {
            let log_p = listed.posterior.exact_log_p(s);
            let p = if log_p.impossible() { 0.0 } else { log_p.minus(&self.log).exp() };
            (p != 0.0).then_some((state, p))
        })
    }

    /// E[Σ_j φ_ij f(j)] e^−log.
    fn mean(&self, listed: &Listed, query: usize, f: impl Fn(usize) -> f64) -> f64 {
        self.with_edge(listed, query).map(|(state, p)| p * state.gather(query, &f)).sum()
    }
}

/// The covariance of two gathered sums, factor by factor; factors are independent, so theirs add.
#[derive(Default)]
struct Spread {
    /// Of the states with an edge, times e^−log.
    with: f64,
    /// Of the states without, which lie from the means by the means, times e^−2log.
    without: f64,
}

impl Spread {
    fn add(
        &mut self,
        scale: &Scale,
        listed: &Listed,
        query: usize,
        s: impl Fn(usize) -> f64,
        v: impl Fn(usize) -> f64,
    ) {
        if scale.with_edge(listed, query).next().is_none() {
            return;
        }
        let (mean_s, mean_v) = (scale.mean(listed, query, &s), scale.mean(listed, query, &v));
        let (centre_s, centre_v) = (mean_s * scale.factor(), mean_v * scale.factor());
        for (state, p) in scale.with_edge(listed, query) {
            let (s, v) = (state.gather(query, &s), state.gather(query, &v));
            self.with += p * (s - centre_s) * (v - centre_v);
        }
        let none = |s: usize| f64::from(u8::from(!listed.states[s].has_edge_of(query)));
        self.without += listed.posterior.expect(none) * mean_s * mean_v;
    }
}
