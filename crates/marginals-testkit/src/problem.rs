//! One posterior with everything that it can be made of.

use std::borrow::Cow;

use ndarray::{Array2, NdFloat};

use crate::exact::Exact;
use crate::{Head, Structure, ValueKind};

/// How probabilities follow from scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Law {
    /// p(φ) ∝ exp Σ_ij φ_ij θ_ij over Φ.
    ExponentialFamily,
    /// Stick-breaking (Tan et al., arXiv 2410.17980): the possible keys of a query are visited from
    /// the largest index to the smallest, key j accepts with probability σ(θ_ij), and the first that
    /// accepts is picked; none if none does,
    ///
    /// p_ij = σ(θ_ij) Π_{k > j} (1 − σ(θ_ik)),   P(none) = Π_k (1 − σ(θ_ik)).
    ///
    /// Φ is that of [`Structure::EachQueryPicksAtMostOne`]; null edges are not read. The prior is
    /// the same law with θ = log w. Both are normalised as they stand, so that log-partition and
    /// log-evidence are 0, also of a query without keys, whose choice is "no edge" for certain. KL
    /// is over picks-or-none and not E\[log ψ\] less the evidence.
    NearestAccepted,
}

/// The empty choice of one query under [`Structure::EachQueryPicksAtMostOne`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NullEdge<T = f64> {
    /// An edge like others: its θ is the sum of the two, its prior the first alone. A sink has a
    /// log-weight and log-potential 0; a logit that comes from the content has log-weight 0 and
    /// is itself the log-potential.
    Weighted {
        /// log w of the empty choice.
        log_weight: T,
        /// log ψ of the empty choice.
        log_potential: T,
    },
    /// log Σ_j e^θ_ij − gate under the posterior and log Σ_j w_ij − gate under the prior, so that
    /// P(none) = 1 − σ(gate) under both. Without a possible key there is no choice at all.
    Gated {
        /// g.
        gate: T,
    },
}

/// What sums lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// What the number type loses: the arithmetic that a streaming pass is compared with. An average
    /// over edges whose probabilities underflow is 0.
    Plain,
    /// Nothing until the end: what scores have in common cancels exactly, and averages are taken over
    /// the logs of probabilities, whatever their sum.
    Exact,
}

/// The posterior of one batch entry and head.
#[derive(Clone, Debug)]
pub struct Problem<T = f64> {
    /// Φ.
    pub structure: Structure,
    /// How probabilities follow from scores; other than the exponential family only under
    /// [`Structure::EachQueryPicksAtMostOne`].
    pub law: Law,
    /// The value that mean and variance are of.
    pub value_kind: ValueKind,
    /// What sums lose.
    pub arithmetic: Arithmetic,
    /// log w, N × M, as a sum of matrices; none is a log-weight of 0. −∞ in one of them is an
    /// impossible edge, whatever else there is.
    pub log_weight: Vec<Array2<T>>,
    /// log ψ, N × M; −∞ is an impossible edge. Not read where log w is −∞.
    pub log_potential: Array2<T>,
    /// The empty choice of every query; read under [`Structure::EachQueryPicksAtMostOne`] and the
    /// exponential family alone.
    pub null: Vec<NullEdge<T>>,
    /// v, M × d_v. Values of keys that a query cannot pick are not read for it.
    pub value: Array2<T>,
    /// Query i sits at position i + offset, key j at position j.
    pub query_offset: i64,
}

impl<T: NdFloat> Problem<T> {
    /// Number of queries, N.
    pub fn queries(&self) -> usize {
        self.log_potential.nrows()
    }

    /// Number of keys, M.
    pub fn keys(&self) -> usize {
        self.log_potential.ncols()
    }

    /// Number of factors that have answers of their own.
    pub fn factors(&self) -> usize {
        self.structure.factors(self.queries(), self.keys())
    }

    /// log w_ij, rounded.
    pub fn prior(&self, query: usize, key: usize) -> T {
        match self.allowed(query, key) {
            true => self.rounded_sum(self.terms(query, key)),
            false => T::neg_infinity(),
        }
    }

    /// θ_ij = log w_ij + log ψ_ij, rounded; −∞ as soon as one of them is.
    pub fn theta(&self, query: usize, key: usize) -> T {
        match self.possible(query, key) {
            true => self.rounded_sum(self.terms_of_score(query, key)),
            false => T::neg_infinity(),
        }
    }

    /// Whether both prior and potential allow an edge.
    pub fn possible(&self, query: usize, key: usize) -> bool {
        self.allowed(query, key) && self.log_potential[[query, key]] != T::neg_infinity()
    }

    /// Whether the prior allows an edge.
    pub fn allowed(&self, query: usize, key: usize) -> bool {
        self.log_weight.iter().all(|term| term[[query, key]] != T::neg_infinity())
    }

    fn terms(&self, query: usize, key: usize) -> impl Iterator<Item = T> {
        self.log_weight.iter().map(move |term| term[[query, key]])
    }

    fn terms_of_score(&self, query: usize, key: usize) -> impl Iterator<Item = T> {
        self.terms(query, key).chain([self.log_potential[[query, key]]])
    }

    pub(crate) fn exact_prior(&self, query: usize, key: usize) -> Exact<T> {
        match self.allowed(query, key) {
            true => self.sum(self.terms(query, key)),
            false => Exact::of(T::neg_infinity()),
        }
    }

    pub(crate) fn exact_theta(&self, query: usize, key: usize) -> Exact<T> {
        match self.possible(query, key) {
            true => self.sum(self.terms_of_score(query, key)),
            false => Exact::of(T::neg_infinity()),
        }
    }

    /// The sum of terms, as far as the arithmetic keeps it.
    pub(crate) fn sum(&self, terms: impl Iterator<Item = T>) -> Exact<T> {
        match self.arithmetic {
            Arithmetic::Plain => Exact::of(self.rounded_sum(terms)),
            Arithmetic::Exact => {
                let mut sum = Exact::of(T::zero());
                terms.for_each(|x| sum.add(x));
                sum
            }
        }
    }

    fn rounded_sum(&self, terms: impl Iterator<Item = T>) -> T {
        match self.arithmetic {
            Arithmetic::Plain => terms.fold(T::zero(), |sum, x| sum + x),
            Arithmetic::Exact => self.sum(terms).value(),
        }
    }

    /// Whether a query has at most one edge, so that its edges exclude each other.
    pub(crate) fn one_edge(&self) -> bool {
        matches!(self.structure, Structure::EachQueryPicksOne | Structure::EachQueryPicksAtMostOne)
    }

    /// # Panics
    /// If matrices differ in shape, null edges are missing or the law does not go with Φ.
    pub(crate) fn check(&self) {
        let shape = self.log_potential.dim();
        assert!(self.log_weight.iter().all(|w| w.dim() == shape), "log w is not {shape:?}");
        assert_eq!(self.value.nrows(), self.keys(), "rows of values");
        if self.structure == Structure::EachQueryPicksAtMostOne {
            let wanted = if self.law == Law::ExponentialFamily { self.queries() } else { 0 };
            assert!(self.null.len() >= wanted, "a null edge for each of {wanted} queries");
        } else {
            assert_eq!(self.law, Law::ExponentialFamily, "the law of {:?}", self.structure);
        }
    }
}

impl<T: NdFloat> From<&Head<T>> for Problem<T> {
    fn from(head: &Head<T>) -> Self {
        let null =
            NullEdge::Weighted { log_weight: head.null_log_weight, log_potential: T::zero() };
        Self {
            structure: head.structure,
            law: Law::ExponentialFamily,
            value_kind: head.value_kind,
            arithmetic: Arithmetic::Plain,
            log_weight: vec![head.log_weight.clone()],
            log_potential: head.log_potential.clone(),
            null: vec![null; head.queries()],
            value: head.value.clone(),
            query_offset: head.query_offset,
        }
    }
}

/// Anything that says one posterior as matrices.
pub trait Posed {
    /// Number format of the matrices.
    type Number: NdFloat;

    /// The posterior in full.
    fn problem(&self) -> Cow<'_, Problem<Self::Number>>;
}

impl<T: NdFloat> Posed for Problem<T> {
    type Number = T;

    fn problem(&self) -> Cow<'_, Problem<T>> {
        Cow::Borrowed(self)
    }
}

impl<T: NdFloat> Posed for Head<T> {
    type Number = T;

    fn problem(&self) -> Cow<'_, Problem<T>> {
        Cow::Owned(self.into())
    }
}
