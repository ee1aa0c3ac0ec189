//! Learned scores of relative positions, as some BERTs have them.
//!
//! Shaw et al., *Self-Attention with Relative Position Representations* (2018), eq. 5, and Huang et al.,
//! *Improve Transformer Models with Better Relative Position Embeddings* (2020), methods 3 and 4: a vector
//! a_d for each distance d = i − j, and scores
//!
//! ```text
//! (q_i·k_j + q_i·a_{i−j}) / √D,      or with k_j·a_{i−j} too
//! ```
//!
//! The inner products with a are no function of one query or one key alone, so they go into the model as
//! the log-weights of a dense prior.

use ndarray::{Array2, Array4, ArrayView2, ArrayView4, s};

/// Which nodes have an inner product with the vector of their distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelativeScores {
    /// Queries.
    Query,
    /// Queries and keys.
    QueryAndKey,
}

impl RelativeScores {
    /// Rows of the vectors of distances between nodes of a text of at most `context` tokens.
    pub(crate) fn rows(context: usize) -> usize {
        2 * context - 1
    }

    /// `scale` times the scores of every edge, `[B, H, N, N]`. `vectors` holds those of all distances from
    /// −(rows/2) to rows/2.
    pub(crate) fn scores(
        self,
        vectors: ArrayView2<'_, f32>,
        queries: ArrayView4<'_, f32>,
        keys: ArrayView4<'_, f32>,
        scale: f64,
    ) -> Array4<f32> {
        let (texts, heads, nodes, _) = queries.dim();
        let middle = vectors.nrows() / 2;
        let near = vectors.slice(s![middle + 1 - nodes..middle + nodes, ..]);
        // [N, 2N − 1], whose column i − j + N − 1 is that of the edge from i to j.
        let products =
            |rows: ArrayView2<'_, f32>| -> Array2<f32> { rows.dot(&near.t()) * scale as f32 };
        let mut scores = Array4::zeros([texts, heads, nodes, nodes]);
        for (text, head) in (0..texts).flat_map(|text| (0..heads).map(move |head| (text, head))) {
            let of_queries = products(queries.slice(s![text, head, .., ..]));
            let of_keys = match self {
                Self::Query => None,
                Self::QueryAndKey => Some(products(keys.slice(s![text, head, .., ..]))),
            };
            for i in 0..nodes {
                for j in 0..nodes {
                    let distance = i + nodes - 1 - j;
                    let of_key = of_keys.as_ref().map_or(0.0, |of_keys| of_keys[[j, distance]]);
                    scores[[text, head, i, j]] = of_queries[[i, distance]] + of_key;
                }
            }
        }
        scores
    }
}
