//! Structures: which sets of edges are possible.
//!
//! A structure Φ is a set of edge sets φ; the posterior is p(φ | x) = exp(Σ_ij φ_ij θ_ij) / Z(θ)
//! over it. Those that implement [`Structure`] are **factored**: Φ is a product of small independent
//! choices, one per query, per key or per edge, so that one streaming pass answers every question.
//! [`Walk`] is **coupled**: its picks depend on each other, and it wraps a factored model.
//!
//! To add one, see CONTRIBUTING.md.

mod each_key_picks_one;
mod each_query_picks_at_most_one;
mod each_query_picks_one;
mod independent;
mod walk;

pub use each_key_picks_one::EachKeyPicksOne;
pub use each_query_picks_at_most_one::EachQueryPicksAtMostOne;
pub use each_query_picks_one::EachQueryPicksOne;
pub use independent::Independent;
pub use walk::Walk;

use crate::{Error, Parameter, Shape};

/// How a factored structure falls apart into independent choices.
#[derive(Clone, Debug, PartialEq)]
pub enum Factorisation {
    /// Each query chooses among its keys: Z_i = e^null + Σ_j e^θ_ij.
    PerQuery {
        /// Log-weight of choosing no key, one per head (or one for all); absent when a key must be
        /// chosen.
        null: Option<Vec<f64>>,
    },
    /// Each key chooses among its queries: Z_j = Σ_i e^θ_ij.
    PerKey,
    /// Each edge is there or not: Z_ij = 1 + e^θ_ij.
    PerEdge,
}

/// A structure that falls apart into independent choices.
pub trait Structure: Send + Sync {
    /// The name used in model files.
    fn name(&self) -> &'static str;
    /// The independent choices.
    fn factorisation(&self) -> Factorisation;
    /// Refuses sizes and parameters that make no sense.
    fn check(&self, _shape: &Shape) -> Result<(), Error> {
        Ok(())
    }
    /// Learnable parameters.
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }
}

impl<S: Structure + ?Sized> Structure for Box<S> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    fn factorisation(&self) -> Factorisation {
        (**self).factorisation()
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        (**self).check(shape)
    }
    fn parameters(&self) -> Vec<Parameter> {
        (**self).parameters()
    }
}
