//! ALiBi: attention whose prior decays with distance.

use super::Mechanism;
use crate::Model;
use crate::potential::Dot;
use crate::prior::{Alibi, And, Causal, Combine};
use crate::structure::EachQueryPicksOne;

/// Entry of the zoo.
pub const MECHANISM: Mechanism = Mechanism {
    name: "alibi",
    title: "Attention with linear biases",
    structure: "each-query-picks-one",
    prior: "causal × alibi: geometric in the distance, one rate per head",
    potential: "dot (scale 1/√D)",
    value: "gather: Σ_j φ_ij v_j",
    inference: "exact, one pass over the keys",
    update: None,
    equations: &[
        "log w_ij = −m_h (i − j) for j ≤ i, −∞ ahead",
        "m_h = 2^(−8h/H), h = 1…H, where H is a power of two",
        "the geometric prior (1 − ρ)^(i−j) with ρ = 1 − e^−m",
    ],
    sources: &["Press, Smith & Lewis, Train Short, Test Long, arXiv 2108.12409, §3"],
    path: "marginals::zoo::alibi",
    model: "\
structure = \"each-query-picks-one\"
prior     = [\"causal\", \"alibi\"]
potential = \"dot\"
",
};

/// Causal attention with the slopes of the paper.
///
/// ```
/// use marginals::{question::Marginals, zoo::alibi};
/// # let q = ndarray::Array4::<f64>::zeros((1, 8, 3, 4));
/// let p = alibi::model(8, 4).posterior(q.view(), q.view())?.ask(Marginals)?;
/// let halved = p[[0, 0, 2, 1]] / p[[0, 0, 2, 2]]; // the first of eight heads has slope ½
/// assert!((halved - (-0.5f64).exp()).abs() < 1e-15);
/// # Ok::<(), marginals::Error>(())
/// ```
pub fn model(heads: usize, width: usize) -> Model<EachQueryPicksOne, And<Causal, Alibi>, Dot> {
    Model::new(EachQueryPicksOne, Causal.and(Alibi::standard(heads)), Dot::scaled(width))
}
