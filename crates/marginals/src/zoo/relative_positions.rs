//! T5's relative positions: a learned log-weight per bucket of distances.

use ndarray::Array2;

use super::Mechanism;
use crate::Model;
use crate::potential::Dot;
use crate::prior::{Directions, RelativeBuckets};
use crate::structure::EachQueryPicksOne;

/// Entry of the zoo.
pub const MECHANISM: Mechanism = Mechanism {
    name: "relative-positions",
    title: "T5's learned relative position bias",
    structure: "each-query-picks-one",
    prior: "relative-buckets: a learned log-weight per head and bucket of distances",
    potential: "dot (scale 1)",
    value: "gather: Σ_j φ_ij v_j",
    inference: "exact, one pass over the keys",
    update: None,
    equations: &[
        "log w_ij = b[bucket(i − j), h]",
        "half of the buckets hold one distance each, the rest grow logarithmically to max-distance",
    ],
    sources: &["Raffel et al., T5, arXiv 1910.10683, §2.1"],
    path: "marginals::zoo::relative_positions",
    model: "\
structure = \"each-query-picks-one\"
prior     = [{ relative-buckets = { buckets = 32, max-distance = 128, bidirectional = true } }]
potential = { dot = { scale = 1.0 } }
# the input also holds relative-bias [32, H]
",
};

/// Distance from which all keys share a bucket, in the paper.
pub const MAX_DISTANCE: usize = 128;

/// Attention under a table of log-weights [buckets, H]; the paper has 32 buckets. Scores are not
/// scaled: T5 folds 1/√D into its initial weights.
///
/// ```
/// use marginals::{prior::Directions, question::Marginals, zoo::relative_positions};
/// # let q = ndarray::Array4::<f64>::zeros((1, 1, 2, 4));
/// let mut table = ndarray::Array2::zeros((32, 1));
/// table[[0, 0]] = 3f64.ln(); // a node is worth three others
/// let model = relative_positions::model(table, Directions::Both);
/// let p = model.posterior(q.view(), q.view())?.ask(Marginals)?;
/// assert!((p[[0, 0, 1, 1]] - 0.75).abs() < 1e-15);
/// # Ok::<(), marginals::Error>(())
/// ```
pub fn model(
    table: Array2<f64>,
    directions: Directions,
) -> Model<EachQueryPicksOne, RelativeBuckets, Dot> {
    let prior = RelativeBuckets::new(table, MAX_DISTANCE, directions);
    Model::new(EachQueryPicksOne, prior, Dot::new(1.0))
}
