//! Softcapped attention: log-potentials bounded smoothly.

use super::Mechanism;
use crate::Model;
use crate::potential::Dot;
use crate::prior::Causal;
use crate::structure::EachQueryPicksOne;

/// Entry of the zoo.
pub const MECHANISM: Mechanism = Mechanism {
    name: "softcap",
    title: "Attention with softcapped scores",
    structure: "each-query-picks-one",
    prior: "causal",
    potential: "dot (scale 1/√D, softcap c)",
    value: "gather: Σ_j φ_ij v_j",
    inference: "exact, one pass over the keys",
    update: None,
    equations: &["log ψ = c tanh(q·k / (c √D)), so that |log ψ| < c"],
    sources: &["Gemma Team, Gemma 2, arXiv 2408.00118, §2"],
    path: "marginals::zoo::softcap",
    model: "\
structure = \"each-query-picks-one\"
prior     = [\"causal\"]
potential = { dot = { softcap = 50.0 } }
",
};

/// Causal attention whose log-potentials stay within ±`cap`.
///
/// ```
/// use marginals::{question::LogPartition, zoo::softcap};
/// # let q = ndarray::Array4::<f64>::from_elem((1, 1, 1, 1), 1e3);
/// let log_z = softcap::model(1, 50.0).posterior(q.view(), q.view())?.ask(LogPartition)?;
/// assert_eq!(log_z[[0, 0, 0]], 50.0); // a score of 10⁶, capped
/// # Ok::<(), marginals::Error>(())
/// ```
pub fn model(width: usize, cap: f64) -> Model<EachQueryPicksOne, Causal, Dot> {
    Model::new(EachQueryPicksOne, Causal, Dot::scaled(width).with_softcap(cap))
}
