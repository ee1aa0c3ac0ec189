//! Exact inference over walks: [`Walk`](crate::structure::Walk).
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
//! Each step is normalised by itself, so the log-partition of the walk is 0; what takes its part is
//! the probability of an [`Event`], such as arriving.
//!
//! Every question is answered by streaming passes of the one-step posterior over N × (a few columns):
//! P is never written down, and memory is O(N) per column. Horner's rule gives sums over h,
//!
//! ```text
//! S_h = P(h) V + P S_h+1,     S_H = P(H) V,     E[v] = S_0,
//! ```
//!
//! in H passes, and sums along the way (the entropy of every pick, functions of every edge used) are
//! more columns of the same passes.

mod backward;
mod event;
pub mod hops;
mod horner;
mod path;

use std::ops::Range;

use super::finding::Finding;
use super::slopes::Slopes;
use super::statistic::{Linear, Request};
use super::{ChoiceQuestions, EdgeQuestions, Gradients, Inference, Problem, Steps, Values};
use crate::{Error, Parameter, Real};

pub use event::Event;
pub(crate) use event::Walks;
pub use hops::HopDistribution;

/// Inference over walks: that of one step, once per hop.
#[derive(Debug)]
pub struct Walking<'s, T: Real> {
    hops: &'s HopDistribution,
    step: Box<dyn Inference<T> + 's>,
    /// Name of the structure of one step.
    structure: &'static str,
}

impl<'s, T: Real> Walking<'s, T> {
    /// Walks of `hops`, each pick inferred by `step`.
    pub(crate) fn new(
        hops: &'s HopDistribution,
        step: Box<dyn Inference<T> + 's>,
        structure: &'static str,
    ) -> Self {
        Self { hops, step, structure }
    }

    fn walk(&self) -> Steps<'_, T> {
        Steps { hops: self.hops, step: &*self.step }
    }
}

/// List of what is answered, for messages.
const ANSWERED: &str = "A walk answers the mean, what adds up along its picks (entropy, kl, distances), \
                        hops and paths.";

impl<T: Real> Inference<T> for Walking<'_, T> {
    fn name(&self) -> &'static str {
        "walk"
    }

    fn check(&self, problem: &Problem<'_, T>) -> Result<(), Error> {
        self.step.check(problem)?;
        let one_edge = self
            .step
            .edges()
            .and_then(EdgeQuestions::choices)
            .is_some_and(ChoiceQuestions::has_one_edge);
        if one_edge {
            return Ok(());
        }
        Err(Error::NotAnswerable {
            question: "walk".into(),
            why: match self.step.sets() {
                Some(_) => format!("edges of `{}` depend on each other", self.structure),
                None => format!("`{}` does not give a query one edge to follow", self.structure),
            },
            instead: "Walk with `each-query-picks-one` or `each-query-picks-at-most-one`.".into(),
        })
    }

    fn require_log_partition(&self, question: &str) -> Result<(), Error> {
        Err(Error::NotAnswerable {
            question: question.into(),
            why: "each step of a walk is normalised by itself".into(),
            instead: ANSWERED.into(),
        })
    }

    fn require_edges(&self, question: &str) -> Result<(), Error> {
        Err(Error::NotAnswerable {
            question: question.into(),
            why: "the structure `walk` couples the picks of a path".into(),
            instead: ANSWERED.into(),
        })
    }

    fn find(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        keys: Range<usize>,
        _complete: bool,
    ) -> Result<Finding<T>, Error> {
        problem.require_all(&keys, "a walk may go on from any")?;
        for statistic in &request.linear {
            let name = match statistic {
                Linear::ValueVariance(_) => "value-variance",
                Linear::Covariance(..) => "covariance",
                Linear::Tangent(..) => "jvp",
                Linear::LogProbability | Linear::LogRatio | Linear::Value(_) | Linear::Edge(_) => {
                    continue;
                }
            };
            self.require_edges(name)?;
        }
        horner::find(self.walk(), problem, request)
    }

    fn backward(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        finding: &Finding<T>,
        slopes: &Slopes<'_, T>,
        _keys: Range<usize>,
        values: Values,
    ) -> Result<Gradients<T>, Error> {
        backward::backward(self.walk(), problem, request, finding, slopes, values)
    }

    fn steps(&self) -> Option<Steps<'_, T>> {
        Some(self.walk())
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut all = vec![self.hops.parameter()];
        all.extend(self.step.parameters());
        all
    }
}
