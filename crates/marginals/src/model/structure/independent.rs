use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use crate::infer::Inference;
use crate::infer::streaming::{Logistic, Streaming};
use crate::model::part::Part;
use crate::model::tensors::Inputs;
use crate::{Error, Real};

/// Every set of edges is possible.
///
/// p_ij = σ(θ_ij): sigmoid attention (Ramapuram et al., arXiv 2409.04431). Log-partition, evidence,
/// entropy and KL of a query sum over its edges; log Z_i = Σ_j log(1 + e^θ_ij). MAP, top-k and the
/// largest probability rank the single edges of a query, since its most probable *set* is simply
/// every edge with p > ½. Samples are sets, one bit per edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Independent;

impl Part for Independent {
    const NAME: &'static str = "independent";
    const MEANING: &'static str = "every set of edges: p is the logistic function of the score";
    const EXAMPLE: &'static str = "\"independent\"";
}

impl StructurePart for Independent {
    fn build<T: Real>(&self, _inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        Ok(Box::new(*self))
    }

    fn couples_queries(&self) -> bool {
        false
    }
}

impl<T: Real> Structure<T> for Independent {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Streaming::rows(Logistic))
    }
}
