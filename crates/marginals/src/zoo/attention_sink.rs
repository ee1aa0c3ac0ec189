//! Attention sinks and softmax-plus-one: a query may look at nothing.

use super::Mechanism;
use crate::Model;
use crate::potential::Dot;
use crate::prior::Causal;
use crate::structure::EachQueryPicksAtMostOne;

/// A learned sink per head.
pub const MECHANISM: Mechanism = Mechanism {
    name: "attention-sink",
    title: "Attention with a learned sink per head",
    structure: "each-query-picks-at-most-one (picking none weighs e^null)",
    prior: "causal",
    potential: "dot (scale 1/√D)",
    value: "gather: Σ_j φ_ij v_j, nothing where no key is picked",
    inference: "exact, one pass over the keys",
    update: None,
    equations: &[
        "p_ij = exp(q_i·k_j / √D) / (e^null + Σ_j' exp(q_i·k_j' / √D))",
        "null is learned, one number per head",
    ],
    sources: &[
        "Xiao et al., Efficient Streaming Language Models with Attention Sinks, arXiv 2309.17453",
        "OpenAI, gpt-oss model card, arXiv 2508.10925 (a learned bias in the denominator)",
    ],
    path: "marginals::zoo::attention_sink",
    model: "\
structure = { each-query-picks-at-most-one = { null = [0.5, -1.0] } }     # one per head, or one
prior     = [\"causal\"]
potential = \"dot\"
",
};

/// Softmax-plus-one: the sink's log-weight is 0.
pub const SOFTMAX_PLUS_ONE: Mechanism = Mechanism {
    name: "softmax-plus-one",
    title: "Softmax with one added to the denominator",
    structure: "each-query-picks-at-most-one (picking none weighs 1)",
    equations: &["p_ij = exp(q_i·k_j / √D) / (1 + Σ_j' exp(q_i·k_j' / √D))"],
    sources: &[
        "Miller, Attention Is Off By One, 2023, evanmiller.org/attention-is-off-by-one.html",
        "Xiao et al., Efficient Streaming Language Models with Attention Sinks, arXiv 2309.17453",
    ],
    model: "\
structure = \"each-query-picks-at-most-one\"
prior     = [\"causal\"]
potential = \"dot\"
",
    ..MECHANISM
};

/// Causal attention with the log-weights `null` of picking nothing, one per head; `&[0.0]` is
/// softmax-plus-one.
///
/// ```
/// use marginals::{question::{Marginals, Map}, zoo::attention_sink};
/// # let q = ndarray::Array4::<f64>::zeros((1, 1, 1, 4));
/// let model = attention_sink::model(&[3f64.ln()], 4);
/// let (p, map) = model.posterior(q.view(), q.view())?.ask((Marginals, Map))?;
/// assert!((p[[0, 0, 0, 0]] - 0.25).abs() < 1e-15);
/// assert_eq!(map[[0, 0, 0]], -1); // most probably nothing
/// # Ok::<(), marginals::Error>(())
/// ```
pub fn model(null: &[f64], width: usize) -> Model<EachQueryPicksAtMostOne, Causal, Dot> {
    Model::new(EachQueryPicksAtMostOne::per_head(null), Causal, Dot::scaled(width))
}
