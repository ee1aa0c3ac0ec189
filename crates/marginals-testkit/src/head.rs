//! One posterior as plain matrices, in plain arithmetic.

use ndarray::{Array2, NdFloat};

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
///
/// The short form of a [`Problem`](crate::Problem), which also has the laws and null edges that
/// matrices alone do not say, and whose sums are exact.
#[derive(Clone, Debug)]
pub struct Head<T = f64> {
    /// Φ.
    pub structure: Structure,
    /// The value that mean and variance are of.
    pub value_kind: ValueKind,
    /// log w, N × M; −∞ is an impossible edge.
    pub log_weight: Array2<T>,
    /// log ψ, N × M; −∞ is an impossible edge. Not read where log w is −∞.
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
