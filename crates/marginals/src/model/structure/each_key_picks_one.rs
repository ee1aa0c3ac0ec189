use super::Structure;
use crate::Real;
use crate::infer::Inference;
use crate::infer::streaming::Streaming;

/// Σ_i φ_ij = 1: every key has exactly one edge, the queries compete for it.
///
/// p_ij = e^θ_ij / Σ_i' e^θ_i'j: the responsibilities of a mixture, the attention of slots
/// (Locatello et al. 2020, Algorithm 1), routing. Choices are made by keys, so log-partition,
/// evidence, entropy, KL, MAP, top-k and samples have one entry per **key** and name queries. A
/// key that no query may take has log-partition −∞ and no edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EachKeyPicksOne;

impl<T: Real> Structure<T> for EachKeyPicksOne {
    fn name(&self) -> &'static str {
        "each-key-picks-one"
    }
    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Streaming::columns())
    }
}
