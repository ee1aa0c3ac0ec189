//! Rotary positions: queries and keys turned by their position before they are compared.

use super::Mechanism;
use crate::Model;
use crate::potential::{Dot, Rotary, RotaryPairs};
use crate::prior::Causal;
use crate::structure::EachQueryPicksOne;

/// Entry of the zoo.
pub const MECHANISM: Mechanism = Mechanism {
    name: "rotary",
    title: "Attention with rotary positions",
    structure: "each-query-picks-one",
    prior: "causal",
    potential: "rotary before dot (scale 1/√D)",
    value: "gather: Σ_j φ_ij v_j",
    inference: "exact, one pass over the keys",
    update: None,
    equations: &[
        "log ψ(q_i, k_j) = (R_i q_i)·(R_j k_j) / √D = q_i·R_(j−i) k_j / √D",
        "R_p turns pair c by the angle p · base^(−2c/D)",
    ],
    sources: &["Su et al., RoFormer, arXiv 2104.09864, eq. 14"],
    path: "marginals::zoo::rotary",
    model: "\
structure = \"each-query-picks-one\"
prior     = [\"causal\"]
potential = { rotary = { base = 10000.0, pairs = \"half-split\", potential = \"dot\" } }
",
};

/// Causal attention over nodes of `width` numbers, an even count; the paper's base is 10,000 and
/// its pairs are [`RotaryPairs::Interleaved`].
///
/// ```
/// use marginals::{potential::RotaryPairs, question::Marginals, zoo::rotary};
/// # let q = ndarray::Array4::<f64>::ones((1, 1, 3, 2));
/// let p = rotary::model(2, 10_000.0, RotaryPairs::HalfSplit).posterior(q.view(), q.view())?.ask(Marginals)?;
/// // Two equal nodes one step apart: turned against each other by one radian.
/// let ratio = (2f64.sqrt() * (1f64.cos() - 1.0)).exp();
/// assert!((p[[0, 0, 1, 0]] / p[[0, 0, 1, 1]] - ratio).abs() < 1e-14);
/// # Ok::<(), marginals::Error>(())
/// ```
pub fn model(
    width: usize,
    base: f64,
    pairs: RotaryPairs,
) -> Model<EachQueryPicksOne, Causal, Rotary<Dot>> {
    Model::new(EachQueryPicksOne, Causal, Rotary::new(Dot::scaled(width), base, pairs))
}
