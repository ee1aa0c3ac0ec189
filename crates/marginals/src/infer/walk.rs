//! Exact inference over walks: [`Walk`].
//!
//! With P_ij the one-step posterior (Σ_j P_ij ≤ 1) and P(h) the weights over the number of hops, a
//! walk from node x_0 = i is a number of hops h and the h nodes picked one after the other:
//!
//! ```text
//! p(h, x_1 … x_h | i) = P(h) P[i, x_1] P[x_1, x_2] … P[x_h−1, x_h].
//! ```
//!
//! **Walks that get lost.** A query may pick no key: under at-most-one by choice, and always where
//! no key may serve it (a **dead** query). The walk then is at ∅, a node that is nowhere: it picks ∅
//! again at every further step, and its value is 0. So P with ∅ added is a stochastic matrix and the
//! walks above, ∅ among their nodes, have probabilities that sum to 1. This is the definition under
//! which the mean keeps its closed form,
//!
//! ```text
//! E[v]_i = Σ_h P(h) (P^h V)_i,
//! ```
//!
//! with P the N×N part: what is lost reads nothing, and nothing is renormalised. A walk **arrives**
//! when its last node is not ∅: with probability Σ_h P(h) (P^h 1)_i, less than 1 only if somebody on
//! the way may pick nothing. A dead query still arrives with P(0), at itself.
//!
//! Each step is normalised by itself, so the log-partition of the walk is 0; the place of the
//! evidence is taken by the probability of an [`Event`], such as arriving.
//!
//! Every question is answered by streaming passes of the one-step posterior over N × (a few columns):
//! P is never written down, and memory is O(N) per column. Horner's rule gives sums over h,
//!
//! ```text
//! S_h = P(h) V + P S_h+1,     S_H = P(H) V,     E[v] = S_0,
//! ```
//!
//! in H passes, and sums along the way (the entropy of every pick) are more columns of the same
//! passes.

mod backward;
mod event;
mod horner;
mod path;
mod question;

use std::sync::OnceLock;

use ndarray::{Array3, Array4, ArrayView4};

use super::exact::{Request, Summary};
use crate::posterior::question::{Entropy, Mean};
use crate::structure::Walk;
use crate::{Element, Error, Posterior, Real, Shape};

pub use event::Event;
pub use horner::WalkPass;
pub use question::{WalkQuestion, WalkRequest};

/// The posterior over the walks from every node. Nothing is computed until a question is asked.
///
/// | question | definition | answer's shape |
/// |---|---|---|
/// | [`mean`](Self::mean) | Σ_h P(h) P^h V | \[B, H, N, D_v\] |
/// | [`entropy`](Self::entropy) | of the number of hops and the path together | \[B, H, N\] |
/// | [`ask`](Self::ask) | the above, [`Kl`](crate::question::Kl) and [`ExpectedDistance`](crate::question::ExpectedDistance), together | as asked |
/// | [`path_log_probability`](Self::path_log_probability) | log p(h, x_1 … x_h \| x_0) | \[B, H, paths\] |
/// | [`probability`](Self::probability) | P(event \| start) | \[B, H, N, events\] |
/// | [`conditional`](Self::conditional) | P(event \| start, another event) | \[B, H, N, events\] |
/// | [`hops`](Self::hops) | P(h \| start, event) | \[B, H, N, hops + 1\] |
///
/// The axis of N nodes is where the walk starts.
pub struct WalkPosterior<'a, T: Real> {
    walk: &'a Walk,
    one_step: Posterior<'a, T>,
    normalisers: OnceLock<Summary<T>>,
}

impl<'a, T: Real> WalkPosterior<'a, T> {
    pub(crate) fn new(walk: &'a Walk, one_step: Posterior<'a, T>) -> Self {
        Self { walk, one_step, normalisers: OnceLock::new() }
    }

    /// The structure.
    pub fn walk(&self) -> &'a Walk {
        self.walk
    }

    /// The posterior of one step, for questions about single picks.
    pub fn one_step(&self) -> &Posterior<'a, T> {
        &self.one_step
    }

    /// The sizes.
    pub fn shape(&self) -> &Shape {
        self.one_step.shape()
    }

    /// Refuses NaN in q and k, naming where. Without this, NaN may reach every start of its head: the
    /// passes after the first carry it as a value, and 0 · NaN is NaN.
    pub fn checked(self) -> Result<Self, Error> {
        Ok(Self { one_step: self.one_step.checked()?, ..self })
    }

    /// Answers the questions together, in H passes over the keys: [`Mean`], [`Entropy`],
    /// [`Kl`](crate::question::Kl), [`ExpectedDistance`](crate::question::ExpectedDistance) or a
    /// tuple of them.
    ///
    /// Cost: each pass is one product of queries and keys, one exponential per possible edge and one
    /// product with the values; O(B H N (D + D_v)) memory beside the inputs, whatever H is.
    pub fn ask<'v, Q: WalkQuestion<'v, T>>(&self, questions: Q) -> Result<Q::Answer, Error> {
        let mut request = WalkRequest::default();
        questions.request(self.shape(), &mut request)?;
        questions.answer(&WalkPass::new(self, request, horner::Keep::Answers)?)
    }

    /// The passes that answer the questions, kept for their backward: O(H · B H N D_v) memory.
    pub fn pass<'v, Q: WalkQuestion<'v, T>>(
        &self,
        questions: &Q,
    ) -> Result<WalkPass<'_, 'a, 'v, T>, Error> {
        let mut request = WalkRequest::default();
        questions.request(self.shape(), &mut request)?;
        WalkPass::new(self, request, horner::Keep::Products)
    }

    /// E\[v\] of every start, [B, H, N, D_v]; see [`Mean`], whose values `v` are [B, Hk, N, D_v].
    pub fn mean<E: Element<Real = T>>(&self, v: ArrayView4<'_, E>) -> Result<Array4<T>, Error> {
        self.ask(Mean(v))
    }

    /// The entropy of the walk from every start, in nats, [B, H, N].
    ///
    /// −E[log p(h, x_1 … x_h)], ∅ being a node like the others. By the chain rule it is the entropy
    /// of the number of hops and that of every pick that is made,
    ///
    /// ```text
    /// −Σ_h P(h) log P(h) + Σ_t P(hops > t) (P^t e)_i,     e_j the entropy of one pick from j.
    /// ```
    ///
    /// A dead query has e = 0 and is certain to be lost, so what is left is the entropy of h.
    pub fn entropy(&self) -> Result<Array3<T>, Error> {
        self.ask(Entropy)
    }

    /// The normalisers of one step, found by the first question that needs them.
    fn normalisers(&self) -> &Summary<T> {
        self.normalisers.get_or_init(|| self.one_step.run(Request::default()).summary)
    }
}
