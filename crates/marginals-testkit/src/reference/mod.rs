//! Models and inputs, one scalar formula per named part, evaluated edge by edge.
//!
//! Everything is written from the papers: no formula is arranged for speed or shared with the
//! library. A [`Model`] and [`Inputs`] give a [`Head`] per batch entry and head; its parameters can be
//! listed and moved, so that any answer can be differentiated in any of them.

mod hopfield;
mod mixture;
mod potential;
mod prior;
mod rotary;

pub use hopfield::Memory;
pub use mixture::Mixture;
pub use potential::Potential;
pub use prior::{Prior, alibi_slopes, log_beta_geometric, relative_bucket};
pub use rotary::{Layout, Rotary};

use ndarray::{Array2, Array4, Axis, s};

use crate::{Head, Structure, ValueKind};

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

impl Site {
    /// |position − j|.
    pub fn distance(&self) -> u64 {
        self.position.abs_diff(self.key as i64)
    }
}

/// A parameter given once for all heads or once per head.
pub(crate) fn per_head<T: Copy>(parameter: &[T], head: usize) -> T {
    if parameter.len() == 1 { parameter[0] } else { parameter[head] }
}

/// Structure, prior, potential and value: what the library calls a model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Φ.
    pub structure: Structure,
    /// Log-weight of the null edge, once or per head; read by at-most-one only.
    pub null_log_weight: Vec<f64>,
    /// Factors of the prior; their log-weights add. None is the uniform prior.
    pub priors: Vec<Prior>,
    /// ψ.
    pub potential: Potential,
    /// Gather or average.
    pub value_kind: ValueKind,
    /// Query i sits at position i + offset.
    pub query_offset: i64,
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
}

impl Model {
    /// log w, N × M, of one batch entry and head.
    pub fn log_weight(
        &self,
        batch: usize,
        head: usize,
        queries: usize,
        keys: usize,
    ) -> Array2<f64> {
        let mut out = Array2::zeros((queries, keys));
        for prior in &self.priors {
            let log_weight = prior.evaluator(head, queries, keys, self.query_offset);
            for ((query, key), x) in out.indexed_iter_mut() {
                let position = query as i64 + self.query_offset;
                *x += log_weight(&Site { batch, head, query, key, position });
            }
        }
        out
    }

    /// The posterior of one batch entry and head as matrices.
    pub fn head(&self, inputs: &Inputs, batch: usize, head: usize) -> Head {
        let (n, m) = (inputs.q.dim().2, inputs.k.dim().2);
        let key_head = inputs.key_head(head);
        let q = inputs.q.slice(s![batch, head, .., ..]);
        let k = inputs.k.slice(s![batch, key_head, .., ..]);
        let log_potential = self.potential.matrix((head, key_head), q, k, self.query_offset);
        Head {
            structure: self.structure,
            value_kind: self.value_kind,
            log_weight: self.log_weight(batch, head, n, m),
            log_potential,
            null_log_weight: per_head(&self.null_log_weight, head),
            value: inputs.v.index_axis(Axis(0), batch).index_axis(Axis(0), key_head).to_owned(),
            query_offset: self.query_offset,
        }
    }

    /// Every learnable parameter by name, to read or to move. A part that occurs twice is listed
    /// twice, in order.
    pub fn parameters_mut(&mut self) -> Vec<(&'static str, &mut [f64])> {
        let mut out = Vec::new();
        if self.structure == Structure::EachQueryPicksAtMostOne {
            out.push(("null", &mut self.null_log_weight[..]));
        }
        for prior in &mut self.priors {
            out.extend(prior.parameters_mut());
        }
        out.extend(self.potential.parameters_mut());
        out
    }
}
