//! Linear maps between rows of a sequence and the heads that attend.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use marginals::Error;

use crate::ops::Nodes;
use crate::sizes::check_rows;

/// W_q, W_k, W_v and W_o.
///
/// ```text
/// q = W_q x,  k = W_k c,  v = W_v c,      y = W_o E[v]
/// ```
#[derive(Module, Debug)]
pub struct Projections {
    /// W_q.
    pub query: Linear,
    /// W_k.
    pub key: Linear,
    /// W_v.
    pub value: Linear,
    /// W_o.
    pub output: Linear,
    heads: usize,
    key_heads: usize,
}

/// The sizes of [`Projections`]; all have been checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProjectionSizes {
    /// Numbers per node.
    pub width: usize,
    /// Numbers per node that keys and values are made of.
    pub context_width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key heads.
    pub key_heads: usize,
    /// Numbers per head.
    pub head_width: usize,
}

impl ProjectionSizes {
    /// Of self-attention with as many key heads as query heads.
    pub fn own(width: usize, heads: usize, head_width: usize) -> Self {
        Self { width, context_width: width, heads, key_heads: heads, head_width }
    }

    /// Maps with fresh weights.
    pub fn init(self, bias: bool, device: &Device) -> Projections {
        let linear =
            |inputs, outputs| LinearConfig::new(inputs, outputs).with_bias(bias).init(device);
        let (own, of_keys) = (self.heads * self.head_width, self.key_heads * self.head_width);
        Projections {
            query: linear(self.width, own),
            key: linear(self.context_width, of_keys),
            value: linear(self.context_width, of_keys),
            output: linear(own, self.width),
            heads: self.heads,
            key_heads: self.key_heads,
        }
    }
}

impl Projections {
    /// Queries of `x`, keys and values of `context`.
    ///
    /// # Shapes
    /// - x: `[B, N, width]`
    /// - context: `[B, M, context width]`
    /// - output: as [`Nodes`] says
    pub fn nodes(&self, x: Tensor<3>, context: Tensor<3>) -> Nodes {
        Nodes {
            q: to_heads(self.query.forward(x), self.heads),
            k: to_heads(self.key.forward(context.clone()), self.key_heads),
            v: Some(to_heads(self.value.forward(context), self.key_heads)),
        }
    }

    /// Refuses rows that are none, or of another width than the maps take.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub(crate) fn check(&self, x: &Tensor<3>, context: &Tensor<3>) -> Result<(), Error> {
        let ([width, _], [context_width, _]) = (self.query.weight.dims(), self.key.weight.dims());
        check_rows("x", x, "N", width)?;
        check_rows("context", context, "M", context_width)?;
        match (x.dims(), context.dims()) {
            ([own, ..], [other, ..]) if own == other => Ok(()),
            ([own, ..], found) => Err(Error::shape(
                "context",
                format!("[{own}, M, {context_width}], the batch of x"),
                &found,
                "Every batch entry attends to a context of its own.",
            )),
        }
    }

    /// Outputs of the heads, as rows.
    ///
    /// # Shapes
    /// - mean: `[B, H, N, head width]`
    /// - output: `[B, N, width]`
    pub fn rows(&self, mean: Tensor<4>) -> Tensor<3> {
        self.output.forward(to_rows(mean))
    }
}

/// Rows `[B, N, H·D]` as heads `[B, H, N, D]`, without a copy.
pub(crate) fn to_heads(rows: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, nodes, width] = rows.dims();
    rows.reshape([batch, nodes, heads, width / heads]).swap_dims(1, 2)
}

/// Heads `[B, H, N, D]` as rows `[B, N, H·D]`.
pub(crate) fn to_rows(heads: Tensor<4>) -> Tensor<3> {
    let [batch, count, nodes, width] = heads.dims();
    heads.swap_dims(1, 2).reshape([batch, nodes, count * width])
}
