use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use crate::infer::Inference;
use crate::infer::streaming::{Softmax, Streaming};
use crate::model::part::Part;
use crate::model::tensors::Inputs;
use crate::{Error, Real};

/// Σ_j φ_ij = 1: every query has exactly one edge.
///
/// The posterior is a softmax over keys, p_ij = e^θ_ij / Σ_j' e^θ_ij': the attention of
/// transformers (Singh & Buckley, arXiv 2304.04556, §3). A query that no key may serve has no
/// edge at all: log-partition −∞, everything else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EachQueryPicksOne;

impl Part for EachQueryPicksOne {
    const NAME: &'static str = "each-query-picks-one";
    const MEANING: &'static str = "Σ_j φ_ij = 1: p is a softmax over the keys";
    const EXAMPLE: &'static str = "\"each-query-picks-one\"";
}

impl StructurePart for EachQueryPicksOne {
    fn build<T: Real>(&self, _inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        Ok(Box::new(*self))
    }

    fn couples_queries(&self) -> bool {
        false
    }
}

impl<T: Real> Structure<T> for EachQueryPicksOne {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Streaming::rows(Softmax { null: None }))
    }
}
