//! Nodes that log-weights may depend on, and their gradient.

use ndarray::ArrayView4;

use crate::Shape;

/// The nodes of a problem.
#[derive(Clone, Debug)]
pub struct Nodes<'n, T> {
    /// The sizes.
    pub shape: Shape,
    /// Queries, [B, H, N, D].
    pub q: ArrayView4<'n, T>,
    /// Keys, [B, Hk, M, D].
    pub k: ArrayView4<'n, T>,
}

/// Where the gradient of the nodes of one block is added.
#[derive(Debug)]
pub struct NodeGradient<'a, T> {
    /// Of its queries, row after row.
    pub q: &'a mut [T],
    /// Of its keys, row after row.
    pub k: &'a mut [T],
}
