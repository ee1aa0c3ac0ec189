//! One posterior as plain matrices, and everything that can be asked of it.

use ndarray::{Array1, Array2, NdFloat};

/// Which edge sets φ ⊆ {1..N} × {1..M} are possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Structure {
    /// Σ_j φ_ij = 1. Factors over queries.
    EachQueryPicksOne,
    /// Σ_j φ_ij ≤ 1, the empty choice having a log-weight of its own. Factors over queries.
    EachQueryPicksAtMostOne,
    /// Σ_i φ_ij = 1. Factors over keys.
    EachKeyPicksOne,
    /// Every edge set. Factors over edges; answers are summed per query.
    Independent,
}

impl Structure {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::EachQueryPicksOne,
        Self::EachQueryPicksAtMostOne,
        Self::EachKeyPicksOne,
        Self::Independent,
    ];

    /// How many per-factor answers (log-partition, entropy, MAP, …) there are.
    pub fn factors(self, queries: usize, keys: usize) -> usize {
        if self == Self::EachKeyPicksOne { keys } else { queries }
    }
}

/// What the edges of a query are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// v(x, φ)_i = Σ_j φ_ij v_j.
    Gather,
    /// Gather divided by the expected number of edges E[Σ_j φ_ij], a constant of the posterior.
    Average,
}

/// The posterior of one batch entry and head: p(φ) ∝ exp Σ_ij φ_ij (log w_ij + log ψ_ij), φ ∈ Φ.
#[derive(Clone, Debug)]
pub struct Head<T = f64> {
    /// Φ.
    pub structure: Structure,
    /// What [`Answers::mean`] and [`Answers::value_variance`] are of.
    pub value_kind: ValueKind,
    /// log w, N × M; −∞ is an impossible edge.
    pub log_weight: Array2<T>,
    /// log ψ, N × M; −∞ is an impossible edge.
    pub log_potential: Array2<T>,
    /// The log-weight of the empty choice under [`Structure::EachQueryPicksAtMostOne`]; belongs to
    /// the prior, its log-potential is 0. Not read by the other structures.
    pub null_log_weight: T,
    /// v, M × d_v.
    pub value: Array2<T>,
    /// Query i sits at position i + offset, key j at position j.
    pub query_offset: i64,
}

impl<T: NdFloat> Head<T> {
    /// Number of queries, N.
    pub fn queries(&self) -> usize {
        self.log_weight.nrows()
    }

    /// Number of keys, M.
    pub fn keys(&self) -> usize {
        self.log_weight.ncols()
    }

    /// Number of factors of Φ that have answers of their own.
    pub fn factors(&self) -> usize {
        self.structure.factors(self.queries(), self.keys())
    }

    /// θ_ij = log w_ij + log ψ_ij; −∞ as soon as one of them is.
    pub fn theta(&self, query: usize, key: usize) -> T {
        let (w, psi) = (self.log_weight[[query, key]], self.log_potential[[query, key]]);
        if w == T::neg_infinity() || psi == T::neg_infinity() { T::neg_infinity() } else { w + psi }
    }
}

/// |i + offset − j|.
pub fn distance(query: usize, key: usize, query_offset: i64) -> u64 {
    (query as i64 + query_offset).abs_diff(key as i64)
}

/// Every answer of one head. F is the number of factors: M under
/// [`Structure::EachKeyPicksOne`], N otherwise.
#[derive(Clone, Debug)]
pub struct Answers<T = f64> {
    /// P(φ_ij = 1), N × M.
    pub marginals: Array2<T>,
    /// E\[v\], N × d_v.
    pub mean: Array2<T>,
    /// Var\[v\], N × d_v.
    pub value_variance: Array2<T>,
    /// Σ_i P(φ_ij), M.
    pub column_mass: Array1<T>,
    /// Σ_j P(φ_ij) |i + offset − j|, N.
    pub expected_distance: Array1<T>,
    /// log Z(θ), F.
    pub log_partition: Array1<T>,
    /// log Z(θ) − log Z(log w), F.
    pub log_evidence: Array1<T>,
    /// −E\[log p(φ)\], F.
    pub entropy: Array1<T>,
    /// KL(p ‖ π), F.
    pub kl: Array1<T>,
    /// Per factor: every possible choice and its probability, best first, ties by index. The null
    /// edge is choice −1; under [`Structure::EachKeyPicksOne`] a choice is a query, otherwise a key;
    /// independent edges are ranked one by one.
    pub ranking: Vec<Vec<(i64, T)>>,
}

impl<T: NdFloat> Answers<T> {
    /// All zeros, −∞ where a log is asked for: the answers of a posterior without edges.
    pub(crate) fn degenerate(head: &Head<T>) -> Self {
        let (n, m, d, f) = (head.queries(), head.keys(), head.value.ncols(), head.factors());
        Self {
            marginals: Array2::zeros((n, m)),
            mean: Array2::zeros((n, d)),
            value_variance: Array2::zeros((n, d)),
            column_mass: Array1::zeros(m),
            expected_distance: Array1::zeros(n),
            log_partition: Array1::from_elem(f, T::neg_infinity()),
            log_evidence: Array1::from_elem(f, T::neg_infinity()),
            entropy: Array1::zeros(f),
            kl: Array1::zeros(f),
            ranking: vec![Vec::new(); f],
        }
    }

    /// The largest probability of each factor, 0 where there is no choice.
    pub fn max_probability(&self) -> Array1<T> {
        self.ranking.iter().map(|r| r.first().map_or(T::zero(), |best| best.1)).collect()
    }

    /// The most probable choice of each factor, −1 where it is the null edge or there is none.
    pub fn map(&self) -> Array1<i64> {
        self.ranking.iter().map(|r| r.first().map_or(-1, |best| best.0)).collect()
    }

    /// The `count` best choices of each factor and their probabilities, both F × count; where there
    /// are fewer, index −1 and probability 0.
    pub fn top_k(&self, count: usize) -> (Array2<i64>, Array2<T>) {
        let rank = |f: usize, r: usize| self.ranking[f].get(r).copied();
        let shape = (self.ranking.len(), count);
        (
            Array2::from_shape_fn(shape, |(f, r)| rank(f, r).map_or(-1, |choice| choice.0)),
            Array2::from_shape_fn(shape, |(f, r)| rank(f, r).map_or(T::zero(), |choice| choice.1)),
        )
    }

    /// The values become averages: divides the mean by the expected number of edges and the variance
    /// by its square. No edges, no value.
    pub(crate) fn average(&mut self) {
        for i in 0..self.marginals.nrows() {
            let edges = self.marginals.row(i).sum();
            // Divided twice: the square of a small number of edges is 0 long before the number is.
            let divide = |x: T| if edges > T::zero() { x / edges } else { T::zero() };
            self.mean.row_mut(i).mapv_inplace(divide);
            self.value_variance.row_mut(i).mapv_inplace(|x| divide(divide(x)));
        }
    }
}
