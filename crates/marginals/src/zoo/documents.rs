//! Packed documents: several texts in one sequence, none of which sees another.

use ndarray::Array2;

use super::Mechanism;
use crate::Model;
use crate::potential::Dot;
use crate::prior::{And, Causal, Combine, Segments};
use crate::structure::EachQueryPicksOne;

/// Entry of the zoo.
pub const MECHANISM: Mechanism = Mechanism {
    name: "documents",
    title: "Causal attention within packed documents",
    structure: "each-query-picks-one",
    prior: "causal × segments",
    potential: "dot (scale 1/√D)",
    value: "gather: Σ_j φ_ij v_j",
    inference: "exact, one pass over the live tiles",
    update: None,
    equations: &["log w_ij = 0 for j ≤ i with segment(j) = segment(i), −∞ elsewhere"],
    sources: &[
        "Krell et al., Efficient Sequence Packing without Cross-contamination, arXiv 2107.02027",
    ],
    path: "marginals::zoo::documents",
    model: "\
structure = \"each-query-picks-one\"
prior     = [\"causal\", \"segments\"]
potential = \"dot\"
# the input also holds segments.q [B, N] and segments.k [B, M], whole numbers
",
};

/// Causal self-attention within the documents numbered in `segments` [B, N] (or [1, N]).
///
/// ```
/// use marginals::{question::Marginals, zoo::documents};
/// # let q = ndarray::Array4::<f64>::zeros((1, 1, 4, 4));
/// let p = documents::model(ndarray::array![[1, 1, 2, 2]], 4).posterior(q.view(), q.view())?.ask(Marginals)?;
/// assert_eq!(p.slice(ndarray::s![0, 0, 2, ..]).to_vec(), [0.0, 0.0, 1.0, 0.0]);
/// # Ok::<(), marginals::Error>(())
/// ```
pub fn model(
    segments: Array2<i64>,
    width: usize,
) -> Model<EachQueryPicksOne, And<Causal, Segments>, Dot> {
    let prior = Causal.and(Segments::new(segments.clone(), segments));
    Model::new(EachQueryPicksOne, prior, Dot::scaled(width))
}
