//! Slot attention against PyTorch (tools/reference/slots.py), and against itself where two ways lead
//! to one place.

use std::path::Path;

use crate::common::recorded::{Case, of};
use burn::tensor::{Device, Distribution, Gradients, Tensor};
use marginals::Error;
use marginals::infer::collapsed::{Exact, FixedPoint};
use marginals::zoo::slots::PlainSlots;
use marginals_burn::checkpoint::Checkpoint;
use marginals_burn::{ModelError, SlotAttention, SlotAttentionConfig, SlotUpdate};
use ndarray::Array3;

fn check(name: &str, adjust: impl Fn(SlotAttentionConfig) -> SlotAttentionConfig) {
    let case = Case::open("slots.safetensors", name);
    let config = SlotAttentionConfig::of_checkpoint(&case.weights()).expect("widths");
    let module = adjust(config).load(&case.weights(), &case.device).expect("weights");
    let (mu, log_sigma) = (module.mu.val(), module.log_sigma.val());
    let gradients = case.close_slots(mu, log_sigma, |x, start| module.forward_from(x, start));
    compare(&case, &module, &gradients);
    case.report();
}

/// Every weight's gradient, in PyTorch's layout.
fn compare(case: &Case, module: &SlotAttention, gradients: &Gradients) {
    case.close("grad.slots_mu", of(&module.mu, gradients));
    case.close("grad.slots_logsigma", of(&module.log_sigma, gradients));
    let linear = |name: &str, map| case.close_linear(name, map, gradients);
    let norm = |name: &str, norm| case.close_norm(name, norm, gradients);
    linear("to_q", &module.competition.to_q);
    linear("to_k", &module.competition.to_k);
    linear("to_v", &module.competition.to_v);
    if let Some(combine) = &module.competition.combine {
        linear("combine_heads", combine);
    }
    norm("norm_input", &module.norm_inputs);
    norm("norm_slots", &module.norm_slots);
    if let Some(gated) = &module.gated {
        for (half, map) in [("ih", &gated.gru.input), ("hh", &gated.gru.state)] {
            let weight: Tensor<2> = of(&map.weight, gradients).squeeze_dim(0);
            case.close(&format!("grad.gru.weight_{half}"), weight.transpose());
            case.close(&format!("grad.gru.bias_{half}"), of(&map.bias, gradients));
        }
        norm("norm_pre_ff", &gated.norm);
        linear("mlp.0", &gated.widen);
        linear("mlp.2", &gated.narrow);
    }
}

#[test]
fn agrees_with_pytorch_as_in_the_paper() {
    check("paper", |config| config);
}

#[test]
fn agrees_with_pytorch_with_biases() {
    check("bias", |config| config);
}

#[test]
fn agrees_with_pytorch_with_heads() {
    check("heads", |config| config.with_heads(2));
}

#[test]
fn agrees_with_pytorch_where_inputs_are_projected() {
    check("many-heads", |config| config.with_heads(4).with_head_width(Some(5)));
}

#[test]
fn agrees_with_pytorch_without_gru_and_mlp() {
    check("plain", |config| {
        assert_eq!(config.update, SlotUpdate::Plain);
        config.with_iterations(2)
    });
}

#[test]
fn agrees_with_pytorch_where_epsilon_is_felt() {
    check("epsilon", |config| config.with_iterations(1).with_epsilon(0.05));
}

/// A checkpoint of identities: projections and normalisations that change nothing.
struct Identity(usize);

impl Checkpoint for Identity {
    fn path(&self) -> &Path {
        Path::new("identity")
    }
    fn names(&self) -> Vec<String> {
        let matrices = ["to_q", "to_k", "to_v"].map(|name| format!("{name}.weight"));
        matrices.into_iter().chain(["slots_mu", "slots_logsigma"].map(str::to_owned)).collect()
    }
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match name {
            "to_q.weight" | "to_k.weight" | "to_v.weight" => Some(vec![self.0, self.0]),
            "slots_mu" | "slots_logsigma" => Some(vec![1, 1, self.0]),
            _ if name.starts_with("norm_") => Some(vec![self.0]),
            _ => None,
        }
    }
    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let entry = |index: usize| match name {
            _ if name.starts_with("to_") => f32::from(index.is_multiple_of(self.0 + 1)),
            _ => f32::from(name.ends_with("weight")),
        };
        let count = self.shape(name).map_or(0, |shape| shape.iter().product());
        Ok((0..count).map(entry).collect())
    }
}

/// Without GRU, MLP and weights the module takes the steps of the engine's model, whose free energy
/// never rises.
#[test]
fn the_plain_update_is_the_weightless_model() {
    let (width, keys, slots, iterations) = (8, 40, 3, 4);
    let device = Device::flex();
    let config = SlotAttentionConfig::of_checkpoint(&Identity(width)).unwrap();
    let config = config.with_norm_epsilon(1e-12).with_iterations(iterations).with_epsilon(0.01);
    assert_eq!(config.update, SlotUpdate::Plain);
    let module = config.load(&Identity(width), &device).unwrap();
    let x = Tensor::<3>::random([1, keys, width], Distribution::Normal(0.0, 1.0), &device);
    let start = module.start(1, slots, 5).unwrap();
    let found = module.forward_from(x.clone(), start.clone()).unwrap();
    let wide = |t: Tensor<3>| -> Vec<f64> {
        t.into_data().try_into_vec::<f32>().unwrap().into_iter().map(f64::from).collect()
    };
    let normalised = module.norm_inputs.forward(x).unwrap();
    let x = Array3::from_shape_vec((1, keys, width), wide(normalised)).unwrap();
    let model = PlainSlots::new(x.view(), slots, (width as f64).sqrt().recip(), 0.01).unwrap();
    let engine = FixedPoint { tolerance: 0.0, max_steps: iterations, ..FixedPoint::default() };
    let solution = engine.solve(&Exact(&model), &wide(start)).unwrap();
    for (a, b) in wide(found).iter().zip(&solution.z) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    let energies: Vec<f64> = solution.trace.iter().map(|t| t.free_energy.unwrap()).collect();
    assert!(energies.windows(2).all(|pair| pair[1] < pair[0]), "{energies:?}");
}

/// Slots start alike and are told apart by their noise alone, so their order means nothing; and any
/// number of them may be asked for.
#[test]
fn slots_are_exchangeable_and_of_any_number() {
    let device = Device::flex();
    let module = SlotAttentionConfig::new(6, 8).with_slots(4).init(&device).unwrap();
    let x = Tensor::<3>::random([2, 30, 6], Distribution::Normal(0.0, 1.0), &device);
    let values = |t: Tensor<3>| -> Vec<f32> { t.into_data().try_into_vec().unwrap() };
    let start = module.start(2, 4, 11).unwrap();
    let forward = values(module.forward_from(x.clone(), start.clone()).unwrap().flip([1]));
    let backward = values(module.forward_from(x.clone(), start.flip([1])).unwrap());
    for (a, b) in forward.iter().zip(&backward) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    assert_eq!(module.forward(x.clone(), 11).unwrap().dims(), [2, 4, 8]);
    let many = module.start(2, 9, 11).unwrap();
    assert_eq!(module.forward_from(x.clone(), many).unwrap().dims(), [2, 9, 8]);
    let again = values(module.forward(x.clone(), 11).unwrap());
    assert_eq!(values(module.forward(x.clone(), 11).unwrap()), again);
    assert_ne!(values(module.forward(x, 12).unwrap()), again);
}

#[test]
fn bad_settings_are_named() {
    let device = Device::flex();
    let good = || SlotAttentionConfig::new(6, 8);
    for (config, name) in [
        (good().with_slots(0), "slots"),
        (good().with_iterations(0), "iterations"),
        (good().with_heads(0), "heads"),
        (good().with_heads(3), "heads"),
        (good().with_head_width(Some(4)), "head_width"),
        (good().with_hidden_width(Some(0)), "hidden_width"),
        (good().with_epsilon(-1.0), "epsilon"),
        (good().with_epsilon(f64::NAN), "epsilon"),
        (good().with_norm_epsilon(0.0), "norm_epsilon"),
        (SlotAttentionConfig::new(0, 8), "input_width"),
        (SlotAttentionConfig::new(6, 0), "slot_width"),
    ] {
        match config.init(&device) {
            Err(Error::Value { argument, .. }) => assert_eq!(argument, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let module = good().init(&device).unwrap();
    let x = Tensor::<3>::zeros([1, 5, 6], &device);
    assert!(matches!(module.start(1, 0, 1), Err(Error::Value { .. })));
    for start in [[1, 3, 7], [1, 0, 8], [2, 3, 8]] {
        let start = Tensor::<3>::zeros(start, &device);
        assert!(matches!(module.forward_from(x.clone(), start), Err(Error::Shape { .. })));
    }
    let narrow = Tensor::<3>::zeros([1, 5, 4], &device);
    assert!(matches!(module.forward(narrow, 1), Err(Error::Shape { .. })));
}

#[test]
fn checkpoints_that_do_not_fit_are_refused() {
    let case = Case::open("slots.safetensors", "paper");
    let config = SlotAttentionConfig::of_checkpoint(&case.weights()).unwrap();
    let load = |config: SlotAttentionConfig| config.load(&case.weights(), &case.device);
    assert!(matches!(load(config.clone().with_heads(0)), Err(ModelError::Configuration(_))));
    assert!(matches!(
        load(config.clone().with_hidden_width(Some(5))),
        Err(ModelError::Damaged { .. })
    ));
    // A single-head checkpoint has nothing to combine heads with.
    assert!(matches!(load(config.with_heads(2)), Err(ModelError::Damaged { .. })));
}

#[test]
fn heads_are_asked_for_where_the_weights_have_several() {
    let case = Case::open("slots.safetensors", "many-heads");
    let weights = case.weights();
    let found = SlotAttentionConfig::of_checkpoint(&weights).unwrap();
    let with_heads = |heads| found.clone().with_heads_of(&weights, heads);
    let absent = with_heads(None).unwrap_err().to_string();
    assert!(absent.contains("`heads` is absent") && absent.contains("combine_heads"), "{absent}");
    assert!(with_heads(Some(3)).unwrap_err().to_string().contains("a divisor"));
    let config = with_heads(Some(4)).unwrap();
    assert_eq!((config.heads, config.head_width), (4, Some(5)));
    // One head of the whole width would be another module: what combines them is left over.
    let one = found.clone().load(&weights, &case.device);
    assert!(one.is_err(), "{one:?}");
    config.load(&weights, &case.device).unwrap();
}
