//! Two layers of graph attention, and where their weights start.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, activation};
use marginals_burn::{Combine, Graph, GraphAttention, GraphAttentionConfig, GraphAttentionKind};
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::random::Random;

/// Sizes of the hidden layer.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hidden {
    pub heads: usize,
    /// Numbers per head.
    pub width: usize,
}

/// x ↦ attention, heads side by side ↦ ELU ↦ attention with one head, as in the experiments of
/// Veličković et al. without their dropout, whose noise two libraries do not share.
#[derive(Module, Debug)]
pub struct Network {
    first: GraphAttention,
    second: GraphAttention,
}

impl Network {
    /// The network that a seed starts from: matrices uniform after Glorot & Bengio, biases 0.
    pub fn new(
        kind: GraphAttentionKind,
        hidden: Hidden,
        [inputs, outputs]: [usize; 2],
        seed: u64,
        device: &Device,
    ) -> Outcome<Self> {
        let first = GraphAttentionConfig::new(inputs, hidden.width)
            .with_heads(hidden.heads)
            .with_kind(kind);
        let second = GraphAttentionConfig::new(first.width(), outputs)
            .with_combine(Combine::Average)
            .with_kind(kind);
        Ok(Self {
            first: layer(&first, seed, 0, device)?,
            second: layer(&second, seed, 1, device)?,
        })
    }

    /// `[B, N, inputs]` to `[B, N, outputs]`.
    pub fn forward(&self, x: Tensor<3>, graph: &Graph) -> Outcome<Tensor<3>> {
        let hidden = activation::elu(self.first.forward_batch(x, graph)?, 1.0);
        Ok(self.second.forward_batch(hidden, graph)?)
    }
}

/// The numbers of layer `number` in the order that tools/reference/graphs.py draws them in too.
fn layer(
    config: &GraphAttentionConfig,
    seed: u64,
    number: u32,
    device: &Device,
) -> Outcome<GraphAttention> {
    let mut random = Random::new(seed, number);
    let mut uniform = |rows: usize, columns: usize| -> Param<Tensor<2>> {
        let bound = (6.0 / (rows + columns) as f64).sqrt();
        let entries: Vec<f32> =
            (0..rows * columns).map(|_| ((2.0 * random.unit() - 1.0) * bound) as f32).collect();
        Param::from_tensor(Tensor::from_data(TensorData::new(entries, [rows, columns]), device))
    };
    let mut layer = config.init(device)?;
    let columns = config.heads * config.outputs;
    layer.source.weight = uniform(config.inputs, columns);
    if let Some(target) = &mut layer.target {
        target.weight = uniform(config.inputs, columns);
    }
    layer.a = uniform(config.heads, config.outputs);
    if let Some(a_source) = &mut layer.a_source {
        *a_source = uniform(config.heads, config.outputs);
    }
    Ok(layer)
}
