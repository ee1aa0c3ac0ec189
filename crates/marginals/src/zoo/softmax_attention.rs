//! Softmax attention: the attention of transformers.

use super::Mechanism;
use crate::Model;
use crate::potential::Dot;
use crate::prior::Uniform;
use crate::structure::EachQueryPicksOne;

/// Entry of the zoo.
pub const MECHANISM: Mechanism = Mechanism {
    name: "softmax-attention",
    title: "Self-, cross-, multi-head and grouped-query attention",
    structure: "each-query-picks-one",
    prior: "uniform; causal in a decoder",
    potential: "dot (scale 1/√D)",
    value: "gather: Σ_j φ_ij v_j",
    inference: "exact, one pass over the keys",
    update: None,
    equations: &[
        "p_ij = exp(q_i·k_j / √D) / Σ_j' exp(q_i·k_j' / √D)",
        "E[v]_i = Σ_j p_ij v_j",
        "self: q, k, v of the same nodes; cross: of different ones",
        "grouped queries: head h reads key head ⌊h / (H/Hk)⌋",
    ],
    sources: &[
        "Vaswani et al., Attention Is All You Need, arXiv 1706.03762, eq. 1",
        "Ainslie et al., GQA, arXiv 2305.13245 (grouped queries)",
        "Singh & Buckley, Attention: Marginal Probability is All You Need?, arXiv 2304.04556",
    ],
    path: "marginals::zoo::softmax_attention",
    model: "\
structure = \"each-query-picks-one\"
prior     = [\"causal\"]     # leave out where every key may be picked
potential = \"dot\"
",
};

/// Attention over nodes of `width` numbers. Which kind it is lies in the tensors: q and k of the
/// same nodes or of different ones, one head or many, as many key heads or fewer.
///
/// ```
/// use marginals::{question::Mean, zoo::softmax_attention};
/// # use ndarray::Array4;
/// let (q, k) = (Array4::<f64>::zeros((1, 4, 2, 8)), Array4::zeros((1, 2, 3, 8))); // two queries share a key head
/// let v = Array4::from_shape_fn((1, 2, 3, 1), |(_, _, j, _)| j as f64);
/// let mean = softmax_attention::model(8).posterior(q.view(), k.view())?.ask(Mean(v.view()))?;
/// assert_eq!(mean.dim(), (1, 4, 2, 1));
/// assert_eq!(mean[[0, 0, 0, 0]], 1.0); // nothing tells the keys apart
/// # Ok::<(), marginals::Error>(())
/// ```
pub fn model(width: usize) -> Model<EachQueryPicksOne, Uniform, Dot> {
    Model::new(EachQueryPicksOne, Uniform, Dot::scaled(width))
}
