//! A training step of slot attention, by the module of `marginals-burn`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use marginals_burn::checkpoint::Checkpoint;
use marginals_burn::modules::Norm;
use marginals_burn::{ModelError, SlotAttention, SlotAttentionConfig};
use ndarray::Array4;

use crate::inputs::Inputs;
use crate::side::{Answer, Answers};

/// Hidden numbers of the MLP: twice the slot's width, as in the paper.
const WIDENING: usize = 2;

/// The weights and their shapes, for slots and inputs of one width.
pub fn weights(width: usize) -> Vec<(&'static str, Vec<usize>)> {
    let hidden = WIDENING * width;
    let mut shapes = vec![
        ("slots_mu", vec![1, 1, width]),
        ("slots_logsigma", vec![1, 1, width]),
        ("gru.bias_hh", vec![3 * width]),
        ("gru.bias_ih", vec![3 * width]),
        ("gru.weight_hh", vec![3 * width, width]),
        ("gru.weight_ih", vec![3 * width, width]),
        ("mlp.0.bias", vec![hidden]),
        ("mlp.0.weight", vec![hidden, width]),
        ("mlp.2.bias", vec![width]),
        ("mlp.2.weight", vec![width, hidden]),
    ];
    shapes.extend(["to_q.weight", "to_k.weight", "to_v.weight"].map(|n| (n, vec![width, width])));
    let norms = [
        "norm_input.bias",
        "norm_input.weight",
        "norm_pre_ff.bias",
        "norm_pre_ff.weight",
        "norm_slots.bias",
        "norm_slots.weight",
    ];
    shapes.extend(norms.map(|name| (name, vec![width])));
    shapes
}

impl Checkpoint for Inputs {
    fn path(&self) -> &Path {
        Path::new("the drawn weights")
    }
    fn names(&self) -> Vec<String> {
        self.weights.keys().map(|name| name.to_string()).collect()
    }
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.weights.get(name).map(|weight| weight.shape().to_vec())
    }
    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        Ok(self
            .weights
            .get(name)
            .map(|weight| weight.iter().copied().collect())
            .unwrap_or_default())
    }
}

/// Slots from the queries as start and the keys as inputs, and the gradients in everything.
pub fn step(iterations: usize, inputs: &Inputs) -> Box<dyn Fn() -> Result<Answers> + Sync + '_> {
    let device = Device::flex().autodiff();
    let rows = |array: &Array4<f32>| {
        let (_, _, count, width) = array.dim();
        let values: Vec<f32> = array.iter().copied().collect();
        Tensor::<3>::from_data(TensorData::new(values, [1, count, width]), &device)
    };
    let (start, x) = (rows(&inputs.q).require_grad(), rows(&inputs.k).require_grad());
    let upstream = rows(&inputs.upstream);
    let module = SlotAttentionConfig::of_checkpoint(inputs)
        .and_then(|config| config.with_iterations(iterations).load(inputs, &device));
    Box::new(move || {
        let module = module.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
        let output = module.forward_from(x.clone(), start.clone())?;
        let mut gradients = (output.clone() * upstream.clone()).sum().backward();
        let mut answers = Vec::new();
        let mut tell = |name: String, values: TensorData| -> Result<()> {
            let values = values.try_into_vec().map_err(|error| anyhow::anyhow!("{error:?}"))?;
            answers.push((name, Answer::Real(values)));
            Ok(())
        };
        tell("output".into(), output.into_data())?;
        for (name, leaf) in [("x", &x), ("start", &start)] {
            let found = leaf.grad_remove(&mut gradients).context("it takes part")?;
            tell(format!("grad.{name}"), found.into_data())?;
        }
        for (name, found) in of_weights(module, &mut gradients)? {
            tell(format!("grad.{name}"), found)?;
        }
        Ok(answers)
    })
}

/// The gradients of the weights, in PyTorch's layout.
fn of_weights(
    module: &SlotAttention,
    gradients: &mut Gradients,
) -> Result<BTreeMap<String, TensorData>> {
    fn take<const D: usize>(w: &Param<Tensor<D>>, from: &mut Gradients) -> Result<Tensor<D>> {
        w.val().grad_remove(from).context("every weight takes part")
    }
    let mut found = BTreeMap::new();
    let linear = |linear: &Linear, gradients: &mut Gradients| {
        Ok::<_, anyhow::Error>(take(&linear.weight, gradients)?.transpose().into_data())
    };
    let competition = &module.competition;
    let gated = module.gated.as_ref().context("the step is gated")?;
    for (name, map) in [
        ("to_q", &competition.to_q),
        ("to_k", &competition.to_k),
        ("to_v", &competition.to_v),
        ("mlp.0", &gated.widen),
        ("mlp.2", &gated.narrow),
    ] {
        found.insert(format!("{name}.weight"), linear(map, gradients)?);
        if let Some(bias) = &map.bias {
            found.insert(format!("{name}.bias"), take(bias, gradients)?.into_data());
        }
    }
    for (half, map) in [("ih", &gated.gru.input), ("hh", &gated.gru.state)] {
        let weight: Tensor<2> = take(&map.weight, gradients)?.squeeze_dim(0);
        found.insert(format!("gru.weight_{half}"), weight.transpose().into_data());
        found.insert(format!("gru.bias_{half}"), take(&map.bias, gradients)?.into_data());
    }
    let norms: [(&str, &Norm); 3] = [
        ("norm_input", &module.norm_inputs),
        ("norm_slots", &module.norm_slots),
        ("norm_pre_ff", &gated.norm),
    ];
    for (name, norm) in norms {
        found.insert(format!("{name}.weight"), take(&norm.gamma, gradients)?.into_data());
        found.insert(format!("{name}.bias"), take(&norm.beta, gradients)?.into_data());
    }
    Ok(found)
}
