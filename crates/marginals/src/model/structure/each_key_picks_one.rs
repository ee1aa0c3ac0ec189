use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use crate::infer::Inference;
use crate::infer::streaming::Streaming;
use crate::model::part::Part;
use crate::model::tensors::Inputs;
use crate::{Error, Real};

/// Σ_i φ_ij = 1: every key has exactly one edge, the queries compete for it.
///
/// p_ij = e^θ_ij / Σ_i' e^θ_i'j: the responsibilities of a mixture, the attention of slots
/// (Locatello et al. 2020, Algorithm 1), routing. Choices are made by keys, so log-partition,
/// evidence, entropy, KL, MAP, top-k and samples have one entry per **key** and name queries. A
/// key that no query may take has log-partition −∞ and no edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EachKeyPicksOne;

impl Part for EachKeyPicksOne {
    const NAME: &'static str = "each-key-picks-one";
    const MEANING: &'static str = "Σ_i φ_ij = 1: p is a softmax over the queries";
    const EXAMPLE: &'static str = "\"each-key-picks-one\"";
}

impl StructurePart for EachKeyPicksOne {
    fn build<T: Real>(&self, _inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        Ok(Box::new(*self))
    }

    fn couples_queries(&self) -> bool {
        true
    }
}

impl<T: Real> Structure<T> for EachKeyPicksOne {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Streaming::columns())
    }
}
