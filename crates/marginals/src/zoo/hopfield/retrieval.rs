//! Retrieval: the patterns that states have settled on.

use ndarray::Array3;

use super::Hopfield;
use crate::prior::Prior;
use crate::question::{Entropy, Map, MaxProbability};
use crate::{Element, Error, Real};

/// The share of the posterior that one pattern must have for the state to count as that pattern:
/// Ramsauer et al. (arXiv 2008.02217) count the patterns that make up 90% of the softmax.
pub const RETRIEVED: f64 = 0.9;

/// Retrieval of every state, [B, H, N]: read off the posterior over patterns there.
#[derive(Clone, Debug, PartialEq)]
pub struct Retrieval<T> {
    /// The likeliest pattern, the first where several are; −1 where none is possible.
    pub pattern: Array3<i64>,
    /// Its probability.
    pub probability: Array3<T>,
    /// Entropy of the posterior, in nats.
    pub entropy: Array3<T>,
}

/// Kind of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// One pattern has at least [`RETRIEVED`] of the posterior.
    Pattern,
    /// The state lies between patterns: an average of about
    /// [`effective_patterns`](Retrieval::effective_patterns) similar ones.
    Metastable,
    /// No pattern is possible.
    Nowhere,
}

impl<T: Real> Retrieval<T> {
    /// How many patterns each state is made of: the exponential of the entropy.
    pub fn effective_patterns(&self) -> Array3<T> {
        self.entropy.mapv(T::exp)
    }

    /// Kind of each state.
    pub fn settled(&self) -> Array3<Settled> {
        ndarray::Zip::from(&self.pattern).and(&self.probability).map_collect(|&pattern, &p| {
            match pattern {
                -1 => Settled::Nowhere,
                _ if p.f64() >= RETRIEVED => Settled::Pattern,
                _ => Settled::Metastable,
            }
        })
    }
}

impl<T: Real + Element<Real = T>, P: Prior<T>> Hopfield<'_, T, P> {
    /// Retrieval of the states at z. One pass.
    pub fn retrieval(&self, z: &[T]) -> Result<Retrieval<T>, Error> {
        let (pattern, probability, entropy) =
            self.relative(z)?.posterior()?.ask((Map, MaxProbability, Entropy))?;
        Ok(Retrieval { pattern, probability, entropy })
    }
}
