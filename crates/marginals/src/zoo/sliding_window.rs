//! Sliding-window attention: keys further back than the window are impossible.

use super::Mechanism;
use crate::Model;
use crate::potential::Dot;
use crate::prior::Window;
use crate::structure::EachQueryPicksOne;

/// Entry of the zoo.
pub const MECHANISM: Mechanism = Mechanism {
    name: "sliding-window",
    title: "Sliding-window attention",
    structure: "each-query-picks-one",
    prior: "window: uniform over the last W positions",
    potential: "dot (scale 1/√D)",
    value: "gather: Σ_j φ_ij v_j",
    inference: "exact, one pass over the live tiles: O(N W)",
    update: None,
    equations: &["log w_ij = 0 for i − W < j ≤ i, −∞ elsewhere"],
    sources: &[
        "Beltagy, Peters & Cohan, Longformer, arXiv 2004.05150, §3.1",
        "Jiang et al., Mistral 7B, arXiv 2310.06825, §2",
    ],
    path: "marginals::zoo::sliding_window",
    model: "\
structure = \"each-query-picks-one\"
prior     = [{ window = { left = 1023, right = 0 } }]     # W = left + 1
potential = \"dot\"
",
};

/// Causal attention to the last `window` positions, the query's own included; a window of 0 is
/// taken as 1.
///
/// ```
/// use marginals::{question::Marginals, zoo::sliding_window};
/// # let q = ndarray::Array4::<f64>::zeros((1, 1, 4, 4));
/// let p = sliding_window::model(2, 4).posterior(q.view(), q.view())?.ask(Marginals)?;
/// assert_eq!(p.slice(ndarray::s![0, 0, 3, ..]).to_vec(), [0.0, 0.0, 0.5, 0.5]);
/// # Ok::<(), marginals::Error>(())
/// ```
pub fn model(window: usize, width: usize) -> Model<EachQueryPicksOne, Window, Dot> {
    let prior = Window { left: window.saturating_sub(1), right: 0 };
    Model::new(EachQueryPicksOne, prior, Dot::scaled(width))
}
