use super::Structure;
use crate::Real;
use crate::infer::Inference;
use crate::infer::streaming::{Softmax, Streaming};

/// Σ_j φ_ij = 1: every query has exactly one edge.
///
/// The posterior is a softmax over keys, p_ij = e^θ_ij / Σ_j' e^θ_ij': the attention of
/// transformers (Singh & Buckley, arXiv 2304.04556, §3). A query that no key may serve has no
/// edge at all: log-partition −∞, everything else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EachQueryPicksOne;

impl<T: Real> Structure<T> for EachQueryPicksOne {
    fn name(&self) -> &'static str {
        "each-query-picks-one"
    }
    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Streaming::rows(Softmax { null: None }))
    }
}
