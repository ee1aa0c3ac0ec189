//! Means, variances and covariances of values from the marginals.

use ndarray::{Array2, ArrayView1, NdFloat};

use super::functions::{log_sum_exp, logistic};
use crate::exact::{Exact, relative_to_largest};
use crate::{Answers, Arithmetic, Problem, Structure, ValueKind};

/// E\[v\] and Var\[v\].
pub(super) fn moments<T: NdFloat>(
    problem: &Problem<T>,
    log_marginals: &Array2<Exact<T>>,
    out: &mut Answers<T>,
) {
    let average = problem.value_kind == ValueKind::Average;
    if average && problem.arithmetic == Arithmetic::Exact {
        for i in 0..problem.queries() {
            let Some(row) = Row::of(problem, log_marginals, out, i) else { continue };
            for c in 0..problem.value.ncols() {
                let v = problem.value.column(c);
                out.mean[[i, c]] = row.mean(v);
                out.value_variance[[i, c]] = row.average_variance(v);
            }
        }
        return;
    }
    out.mean = product(problem, &out.marginals, |v| v);
    if problem.one_edge() {
        // Σ p (v − E v)², and the deviation of "no edge" where that has probability.
        for i in 0..problem.queries() {
            let no_edge = null_probability(problem, out, i);
            for c in 0..problem.value.ncols() {
                let mean = out.mean[[i, c]];
                let mut variance = no_edge * mean * mean;
                for j in (0..problem.keys()).filter(|&j| problem.possible(i, j)) {
                    let deviation = problem.value[[j, c]] - mean;
                    variance += out.marginals[[i, j]] * deviation * deviation;
                }
                out.value_variance[[i, c]] = variance;
            }
        }
    } else {
        // A query's edges are independent: Σ p (1 − p) v².
        let spread = Array2::from_shape_fn(out.marginals.dim(), |(i, j)| {
            let p = out.marginals[[i, j]];
            if p == T::zero() { p } else { p * complement(problem, &out.marginals, i, j) }
        });
        out.value_variance = product(problem, &spread, |v| v * v);
    }
    if average {
        for i in 0..problem.queries() {
            let edges = out.marginals.row(i).sum();
            // Divided twice: the square of a small number of edges is 0 long before the number is.
            let divide = |x: T| if edges > T::zero() { x / edges } else { T::zero() };
            out.mean.row_mut(i).mapv_inplace(divide);
            out.value_variance.row_mut(i).mapv_inplace(|x| divide(divide(x)));
        }
    }
}

/// Cov\[s, v\], the values gathered or averaged.
pub(super) fn covariance<T: NdFloat>(
    problem: &Problem<T>,
    log_marginals: &Array2<Exact<T>>,
    out: &Answers<T>,
    second: &Array2<T>,
) -> Array2<T> {
    let mut covariance = Array2::zeros((problem.queries(), problem.value.ncols()));
    for i in 0..problem.queries() {
        let Some(row) = Row::of(problem, log_marginals, out, i) else { continue };
        let edges = match problem.value_kind {
            ValueKind::Gather => row.log_edges.exp(),
            ValueKind::Average => T::one(),
        };
        for c in 0..problem.value.ncols() {
            covariance[[i, c]] = edges * row.covariance(second.row(i), problem.value.column(c));
        }
    }
    covariance
}

/// Σ_j weight_ij f(v_j) over possible edges; impossible ones contribute nothing, whatever v_j holds.
fn product<T: NdFloat>(problem: &Problem<T>, weight: &Array2<T>, f: impl Fn(T) -> T) -> Array2<T> {
    let finite = problem.value.mapv(|v| if v.is_finite() { f(v) } else { T::zero() });
    let mut out = weight.dot(&finite);
    for ((j, c), &v) in problem.value.indexed_iter().filter(|x| !x.1.is_finite()) {
        for i in (0..problem.queries()).filter(|&i| problem.possible(i, j)) {
            out[[i, c]] += weight[[i, j]] * f(v);
        }
    }
    out
}

/// P(query i has no edge), where its edges exclude each other.
fn null_probability<T: NdFloat>(problem: &Problem<T>, out: &Answers<T>, query: usize) -> T {
    match problem.structure {
        Structure::EachQueryPicksAtMostOne => out.null_probability[query],
        _ => T::zero(),
    }
}

/// 1 − p of an edge; exactly, a likely edge's is what the other choices have.
fn complement<T: NdFloat>(problem: &Problem<T>, p: &Array2<T>, query: usize, key: usize) -> T {
    let own = p[[query, key]];
    match problem.structure {
        Structure::Independent => logistic(-problem.theta(query, key)),
        Structure::EachKeyPicksOne
            if problem.arithmetic == Arithmetic::Exact && own + own > T::one() =>
        {
            let others = (0..problem.queries()).filter(|&i| i != query);
            others.fold(T::zero(), |sum, i| sum + p[[i, key]])
        }
        _ => T::one() - own,
    }
}

/// The possible edges of a query, by shares of their expected number, so that numbers of edges that
/// underflow still have averages.
struct Row<T> {
    /// (key, share, probability of the edge's absence).
    edges: Vec<(usize, T, T)>,
    /// log Σ_j p_ij.
    log_edges: T,
    no_edge: T,
    one_edge: bool,
}

impl<T: NdFloat> Row<T> {
    /// `None` without a possible edge.
    fn of(
        problem: &Problem<T>,
        log_marginals: &Array2<Exact<T>>,
        out: &Answers<T>,
        query: usize,
    ) -> Option<Self> {
        let (log_p, largest) = relative_to_largest(&log_marginals.row(query).to_vec())?;
        let log_sum = log_sum_exp(&log_p);
        let edges = (0..problem.keys()).filter(|&j| log_p[j] != T::neg_infinity()).map(|j| {
            let absent = complement(problem, &out.marginals, query, j);
            (j, (log_p[j] - log_sum).exp(), absent)
        });
        Some(Self {
            edges: edges.collect(),
            log_edges: largest.plus(log_sum).value(),
            no_edge: null_probability(problem, out, query),
            one_edge: problem.one_edge(),
        })
    }

    /// Σ share v.
    fn mean(&self, v: ArrayView1<'_, T>) -> T {
        self.edges.iter().fold(T::zero(), |sum, &(j, share, _)| sum + share * v[j])
    }

    /// The covariance of the sums of s and v, by the expected number of edges: once of what is with
    /// an edge, and once of "no edge", which differs from the means by the means.
    fn parts(&self, s: ArrayView1<'_, T>, v: ArrayView1<'_, T>) -> (T, T) {
        let (mean_s, mean_v) = (self.mean(s), self.mean(v));
        if !self.one_edge {
            let sum = |sum, &(j, share, absent): &(usize, T, T)| sum + share * absent * s[j] * v[j];
            return (self.edges.iter().fold(T::zero(), sum), T::zero());
        }
        let number = self.log_edges.exp();
        let (centre_s, centre_v) = (number * mean_s, number * mean_v);
        let with = self.edges.iter().fold(T::zero(), |sum, &(j, share, _)| {
            sum + share * (s[j] - centre_s) * (v[j] - centre_v)
        });
        (with, self.no_edge * mean_s * mean_v)
    }

    /// Cov\[s, v\] / E\[edges\].
    fn covariance(&self, s: ArrayView1<'_, T>, v: ArrayView1<'_, T>) -> T {
        let (with, without) = self.parts(s, v);
        with + self.log_edges.exp() * without
    }

    /// Var\[v\] / E\[edges\]².
    fn average_variance(&self, v: ArrayView1<'_, T>) -> T {
        let (with, without) = self.parts(v, v);
        let with = if with == T::zero() { with } else { with * (-self.log_edges).exp() };
        with + without
    }
}
