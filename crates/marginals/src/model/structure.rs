//! Structures: which sets of edges are possible.
//!
//! A structure Φ is a set of edge sets φ; the posterior is p(φ | x) = exp(Σ_ij φ_ij θ_ij) / Z(θ)
//! over it. A structure says which [inference](crate::infer) is exact for it. Most fall apart into
//! independent choices, one per query, per key or per edge, and are streamed; [`Walk`] couples the
//! picks of a path and takes a streaming pass per hop; [`Chain`] and its like couple the edges of a head,
//! and are summed over by a recursion, or, as the trees of [`Arborescence`] and [`SpanningTree`], directly;
//! [`EachQueryPicksAPair`] takes a streaming pass for every distance of a first key.
//!
//! To add one, see CONTRIBUTING.md.

mod arborescence;
mod chain;
mod contract;
mod each_key_picks_one;
mod each_query_picks_a_pair;
mod each_query_picks_at_most_one;
mod each_query_picks_k;
mod each_query_picks_one;
mod independent;
mod matching;
mod monotone_alignment;
mod nearest_accepted;
mod projective_arborescence;
mod semi_markov;
mod spanning_tree;
mod walk;

pub use crate::infer::walk::HopDistribution;
pub use chain::ChainScores;
pub use contract::{Structure, StructurePart};
pub use each_query_picks_a_pair::SecondKeys;
pub use each_query_picks_at_most_one::Null;
pub use each_query_picks_k::Count;
pub use matching::MatchingNodes;
pub use monotone_alignment::{AlignmentLengths, Ends, Moves};
pub use projective_arborescence::{RootEdges, TreeLengths};
pub use semi_markov::SegmentScores;
pub use walk::HopWeights;

use super::part::{Named, parts};
use super::tensors::Inputs;
use crate::{Error, Real};

parts! {
    /// A [structure](self) as data.
    AnyStructure, "structure", each_structure:
    each_query_picks_one::EachQueryPicksOne,
    each_query_picks_at_most_one::EachQueryPicksAtMostOne<Named>,
    each_key_picks_one::EachKeyPicksOne,
    independent::Independent,
    nearest_accepted::NearestAccepted,
    walk::Walk<AnyStructure, Option<HopWeights>>,
    chain::Chain<Named>,
    semi_markov::SemiMarkov<Named>,
    monotone_alignment::MonotoneAlignment<Named>,
    projective_arborescence::ProjectiveArborescence<Named>,
    each_query_picks_k::EachQueryPicksK,
    each_query_picks_a_pair::EachQueryPicksAPair<Named>,
    arborescence::Arborescence<Named>,
    spanning_tree::SpanningTree<Named>,
    matching::Matching<Named>,
}

impl StructurePart for AnyStructure {
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        each_structure!(self, part => part.build(&inputs.of(part)))
    }
    fn couples_queries(&self) -> bool {
        each_structure!(self, part => part.couples_queries())
    }
}
