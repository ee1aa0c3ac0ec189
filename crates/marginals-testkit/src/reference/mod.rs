//! Models and inputs, one scalar formula per named part, evaluated edge by edge.
//!
//! Everything is written from the papers: no formula is arranged for speed or shared with the
//! library. A [`Model`] and [`Inputs`] give a [`Head`](crate::Head) per batch entry and head; its parameters can be
//! listed and moved, so that any answer can be differentiated in any of them.

mod decay;
mod further;
mod hopfield;
mod mixture;
mod model;
mod potential;
mod prior;
mod rotary;
mod tangents;
mod touched;

pub use decay::{alibi_slopes, log_beta_geometric, relative_bucket};
pub use further::{Distance, FurtherPrior};
pub use hopfield::Memory;
pub use mixture::Mixture;
pub use model::{Model, Null};
pub use potential::Potential;
pub use prior::Prior;
pub use rotary::{Layout, Rotary};
pub use tangents::Tangents;
pub use touched::Touched;

use ndarray::{Array2, Array4, s};

/// Where an edge is: everything a prior may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Batch entry.
    pub batch: usize,
    /// Query head.
    pub head: usize,
    /// Query, i.
    pub query: usize,
    /// Key, j.
    pub key: usize,
    /// Position of the query, i + offset.
    pub position: i64,
}

/// The edges of one batch entry and head.
pub(crate) struct Place {
    pub batch: usize,
    pub head: usize,
    pub queries: usize,
    pub keys: usize,
    pub query_offset: i64,
}

impl Place {
    fn site(&self, query: usize, key: usize) -> Site {
        let position = query as i64 + self.query_offset;
        Site { batch: self.batch, head: self.head, query, key, position }
    }

    fn sites(&self) -> impl Iterator<Item = Site> {
        let pairs = (0..self.queries).flat_map(|i| (0..self.keys).map(move |j| (i, j)));
        pairs.map(|(i, j)| self.site(i, j))
    }

    fn matrix(&self, f: impl Fn(&Site) -> f64) -> Array2<f64> {
        Array2::from_shape_fn((self.queries, self.keys), |(i, j)| f(&self.site(i, j)))
    }
}

/// A parameter given once for all heads or once per head.
pub(crate) fn per_head<T: Copy>(parameter: &[T], head: usize) -> T {
    if parameter.len() == 1 { parameter[0] } else { parameter[head] }
}

/// The tensors of a pass.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Queries, B × H × N × D.
    pub q: Array4<f64>,
    /// Keys, B × H_k × M × D; H_k divides H and head h reads key head h / (H / H_k).
    pub k: Array4<f64>,
    /// Values, B × H_k × M × d_v.
    pub v: Array4<f64>,
}

impl Inputs {
    /// The key head that serves query head `head`.
    pub fn key_head(&self, head: usize) -> usize {
        head / (self.q.dim().1 / self.k.dim().1)
    }

    /// q_i·k_j of a query head and its key head.
    pub fn inner_product(&self, batch: usize, head: usize, query: usize, key: usize) -> f64 {
        let q = self.q.slice(s![batch, head, query, ..]);
        let k = self.k.slice(s![batch, self.key_head(head), key, ..]);
        q.iter().zip(k).map(|(q, k)| q * k).sum()
    }

    /// A second score s_ij = r_i·k_j, N × M, of vectors r that stand where the queries do.
    pub fn second_score(&self, r: &Array4<f64>, batch: usize, head: usize) -> Array2<f64> {
        let with_r = Self { q: r.clone(), k: self.k.clone(), v: self.v.clone() };
        Array2::from_shape_fn((r.dim().2, self.k.dim().2), |(i, j)| {
            with_r.inner_product(batch, head, i, j)
        })
    }
}
