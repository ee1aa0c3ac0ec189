//! Sigmoid attention: every edge decides for itself.

use crate::Real;
use ndarray::Array4;

use super::Mechanism;
use crate::Model;
use crate::potential::Dot;
use crate::prior::{Bias, LogWeights};
use crate::structure::Independent;

/// Entry of the zoo.
pub const MECHANISM: Mechanism = Mechanism {
    name: "sigmoid-attention",
    title: "Sigmoid attention",
    structure: "independent",
    prior: "bias: the same log-odds b for every edge, −log M to begin with",
    potential: "dot (scale 1/√D)",
    value: "gather: Σ_j φ_ij v_j",
    inference: "exact, one pass over the keys",
    update: None,
    equations: &["p_ij = σ(q_i·k_j / √D + b)", "E[v]_i = Σ_j p_ij v_j"],
    sources: &[
        "Ramapuram et al., Theory, Analysis, and Best Practices for Sigmoid Self-Attention, arXiv 2409.04431, §2",
    ],
    path: "marginals::zoo::sigmoid_attention",
    model: "\
structure = \"independent\"
prior     = [\"bias\"]
potential = \"dot\"
# the input also holds bias, the log-odds b: one number [1], or any shape that broadcasts to
# [B, H, N, M]
",
};

/// Attention to `keys` keys whose log-odds start at −log `keys`, so that a query expects about one
/// edge; they are the parameter `bias`.
///
/// ```
/// use marginals::{question::Marginals, zoo::sigmoid_attention};
/// # let q = ndarray::Array4::<f64>::zeros((1, 1, 3, 4));
/// let p = sigmoid_attention::model(3, 4).posterior(q.view(), q.view())?.ask(Marginals)?;
/// assert!((p[[0, 0, 0, 0]] - 0.25).abs() < 1e-15); // odds of 1 : 3
/// # Ok::<(), marginals::Error>(())
/// ```
pub fn model<T: Real>(
    keys: usize,
    width: usize,
) -> Model<Independent, Bias<LogWeights<'static, T>>, Dot> {
    let log_odds = Array4::from_elem((1, 1, 1, 1), T::of(-(keys.max(1) as f64).ln()));
    Model::new(Independent, Bias::new(log_odds), Dot::scaled(width))
}
