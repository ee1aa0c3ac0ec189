use super::Structure;
use crate::Real;
use crate::infer::Inference;
use crate::infer::streaming::{Logistic, Streaming};

/// Every set of edges is possible.
///
/// p_ij = σ(θ_ij): sigmoid attention (Ramapuram et al., arXiv 2409.04431). Log-partition, evidence,
/// entropy and KL of a query sum over its edges; log Z_i = Σ_j log(1 + e^θ_ij). MAP, top-k and the
/// largest probability rank the single edges of a query, since its most probable *set* is simply
/// every edge with p > ½. Samples are sets, one bit per edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Independent;

impl<T: Real> Structure<T> for Independent {
    fn name(&self) -> &'static str {
        "independent"
    }
    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Streaming::rows(Logistic))
    }
}
