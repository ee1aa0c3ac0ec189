//! What is learned, and learning it.

use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use marginals_burn::GraphAttentionKind;
use serde::{Deserialize, Serialize};

use super::network::{Hidden, Network};
use crate::Outcome;

/// Something to learn on a graph.
pub trait Task {
    /// Numbers per node that go in and that come out.
    fn sizes(&self) -> [usize; 2];
    /// Of the nodes of one graph, for libraries to be compared by.
    fn outputs(&self, network: &Network) -> Outcome<Tensor<2>>;
    /// What a step of a seed makes smaller.
    fn loss(&self, network: &Network, seed: u64, step: usize) -> Outcome<Tensor<1>>;
    /// How good the network is at what it has not been told.
    fn score(&self, network: &Network) -> Outcome<f64>;
}

/// How it is learned: Adam (Kingma & Ba, arXiv 1412.6980) with an L2 penalty.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Training {
    pub hidden: Hidden,
    pub learning_rate: f64,
    pub weight_decay: f32,
    /// Steps after which the score is taken; the last ends the training.
    pub scored: Vec<usize>,
}

/// One seed.
#[derive(Deserialize, Serialize)]
pub struct Run {
    /// Outputs before the first step.
    pub start: Vec<f32>,
    /// After the steps that are scored.
    pub scores: Vec<f64>,
}

pub fn train(
    task: &dyn Task,
    kind: GraphAttentionKind,
    training: &Training,
    seed: u64,
    device: &Device,
) -> Outcome<Run> {
    let mut network = Network::new(kind, training.hidden, task.sizes(), seed, device)?;
    let start = task.outputs(&network)?.into_data().try_into_vec().map_err(|e| format!("{e:?}"))?;
    let decay = WeightDecayConfig::new(training.weight_decay);
    // PyTorch's epsilon.
    let adam = AdamConfig::new().with_epsilon(1e-8).with_weight_decay(Some(decay));
    let mut adam = adam.init();
    let mut scores = Vec::new();
    let last = training.scored.iter().copied().max().ok_or("no step is scored")?;
    for step in 0..=last {
        if training.scored.contains(&step) {
            scores.push(task.score(&network)?);
        }
        if step < last {
            let gradients = task.loss(&network, seed, step)?.backward();
            let gradients = GradientsParams::from_grads(gradients, &network);
            network = adam.step(training.learning_rate, network, gradients);
        }
    }
    Ok(Run { start, scores })
}
