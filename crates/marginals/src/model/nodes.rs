//! Nodes that log-weights may depend on, and their gradient.

use ndarray::{Array4, s};

use crate::tensor::Stored;
use crate::{Block, Real, Shape, TileMut};

/// The nodes of a problem, as priors that depend on them see them.
#[derive(Clone, Copy)]
pub struct Nodes<'n, 's, T> {
    /// The sizes.
    pub shape: Shape,
    allowed: &'n dyn Allowed<T>,
    q: &'s Stored<'s, T>,
    k: &'s Stored<'s, T>,
}

/// The edges that a whole prior allows.
pub trait Allowed<T>: Send + Sync {
    /// Writes 0 where an edge of `block` is possible and −∞ where it is not.
    fn fill_allowed(&self, block: &Block, tile: TileMut<'_, T>);
}

impl<T: Real> std::fmt::Debug for Nodes<'_, '_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "nodes over {:?}", self.shape)
    }
}

/// A copy in the computing type.
fn copied<T: Real>(tensor: &Stored<'_, T>) -> Array4<T> {
    let (batch, heads, nodes, width) = tensor.dim();
    let mut all = Array4::zeros((batch, heads, nodes, width));
    for b in 0..batch {
        for h in 0..heads {
            all.slice_mut(s![b, h, .., ..]).assign(&tensor.rows((b, h), 0..nodes));
        }
    }
    all
}

impl<'n, 's, T: Real> Nodes<'n, 's, T> {
    /// The nodes `q` [B, H, N, D] and `k` [B, Hk, M, D], and the edges that the whole prior allows.
    pub fn new(
        shape: Shape,
        allowed: &'n dyn Allowed<T>,
        (q, k): (&'s Stored<'s, T>, &'s Stored<'s, T>),
    ) -> Self {
        Self { shape, allowed, q, k }
    }

    /// A copy of the queries, [B, H, N, D].
    pub fn queries(&self) -> Array4<T> {
        copied(self.q)
    }

    /// A copy of the keys, [B, Hk, M, D].
    pub fn keys(&self) -> Array4<T> {
        copied(self.k)
    }

    /// The edges that the whole prior allows, as far as they do not depend on the nodes.
    pub fn allowed(&self) -> &'n dyn Allowed<T> {
        self.allowed
    }
}

/// Where the gradient of the nodes of one block is added.
#[derive(Debug)]
pub struct NodeGradient<'a, T> {
    /// Of its queries, row after row.
    pub q: &'a mut [T],
    /// Of its keys, row after row.
    pub k: &'a mut [T],
}
