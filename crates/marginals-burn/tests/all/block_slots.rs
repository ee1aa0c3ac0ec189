//! Block-slot attention against PyTorch (tools/reference/block_slots.py).

use crate::common::recorded::{Case, of};
use burn::module::Param;
use burn::nn::{GruConfig, Linear};
use burn::tensor::{Device, Distribution, Gradients, Tensor};
use marginals::Error;
use marginals_burn::modules::BlockLinear;
use marginals_burn::{
    BlockSlotAttention, BlockSlotAttentionConfig, ModelError, SlotAttentionConfig,
};

fn check(name: &str, adjust: impl Fn(BlockSlotAttentionConfig) -> BlockSlotAttentionConfig) {
    let case = Case::open("block_slots.safetensors", name);
    let config = BlockSlotAttentionConfig::of_checkpoint(&case.weights()).expect("widths");
    let module = adjust(config).load(&case.weights(), &case.device).expect("weights");
    let (mu, log_sigma) = (module.mu.val(), module.log_sigma.val());
    let gradients = case.close_slots(mu, log_sigma, |x, start| module.forward_from(x, start));
    compare(&case, &module, &gradients);
    case.report();
}

fn compare(case: &Case, module: &BlockSlotAttention, gradients: &Gradients) {
    case.close("grad.slot_mu", of(&module.mu, gradients));
    case.close("grad.slot_log_sigma", of(&module.log_sigma, gradients));
    let linear = |name: &str, map| case.close_linear(name, map, gradients);
    for (name, norm) in [("norm_inputs", &module.norm_inputs), ("norm_slots", &module.norm_slots)] {
        case.close_norm(name, norm, gradients);
    }
    linear("project_q", &module.competition.to_q);
    linear("project_k", &module.competition.to_k);
    linear("project_v", &module.competition.to_v);
    for (half, map) in [("ih", &module.gru.input), ("hh", &module.gru.state)] {
        case.close(&format!("grad.gru.gru.weight_{half}"), whole(of(&map.weight, gradients)));
        let [blocks, _, width] = map.bias.dims();
        let bias = of(&map.bias, gradients).reshape([blocks, 3, width / 3]).swap_dims(0, 1);
        case.close(&format!("grad.gru.gru.bias_{half}"), bias);
    }
    let block = |name: &str, map: &BlockLinear| {
        case.close(&format!("grad.{name}.w"), of(&map.weight, gradients));
        case.close(&format!("grad.{name}.b"), of(&map.bias, gradients));
    };
    block("mlp.0", &module.widen);
    block("mlp.2", &module.narrow);
    case.close("grad.prototype_memory.mem_params", of(&module.prototypes.memory, gradients));
    for (index, layer) in module.prototypes.project.iter().enumerate() {
        linear(&format!("prototype_memory.mem_proj.{}", 2 * index), layer);
    }
}

/// `[blocks, in, 3 width]` as the weight of one GRU over all blocks, zero off the diagonal.
fn whole(weight: Tensor<3>) -> Tensor<2> {
    let [blocks, inputs, gates] = weight.dims();
    let width = gates / 3;
    let device = weight.device();
    let mut whole = Tensor::<5>::zeros([3, blocks, width, blocks, inputs], &device);
    for k in 0..blocks {
        let own = weight.clone().narrow(0, k, 1).reshape([inputs, gates]).transpose();
        let own = own.reshape([3, 1, width, 1, inputs]);
        whole = whole.slice_assign([0..3, k..k + 1, 0..width, k..k + 1, 0..inputs], own);
    }
    whole.reshape([3 * blocks * width, blocks * inputs])
}

#[test]
fn agrees_with_pytorch() {
    check("blocks", |config| config);
}

#[test]
fn agrees_with_pytorch_with_one_block() {
    check("one-block", |config| config.with_iterations(2));
}

#[test]
fn agrees_with_pytorch_where_epsilon_is_felt() {
    check("epsilon", |config| config.with_iterations(1).with_epsilon(0.05));
}

/// One block is the ordinary GRU, and Burn has that one: with its weights both say the same.
#[test]
fn one_block_is_burns_gru() {
    let device = Device::flex();
    let theirs = GruConfig::new(5, 5, true).init(&device);
    let mut ours = SlotAttentionConfig::new(5, 5).init(&device).unwrap().gated.unwrap().gru;
    let gates = [&theirs.reset_gate, &theirs.update_gate, &theirs.new_gate];
    let side_by_side = |of: &dyn Fn(usize) -> Linear| -> (Tensor<3>, Tensor<3>) {
        let weights = (0..3).map(|g| of(g).weight.val()).collect();
        let biases = (0..3).map(|g| of(g).bias.expect("a bias").val()).collect();
        let (weight, bias) = (Tensor::cat(weights, 1), Tensor::cat(biases, 0));
        (weight.unsqueeze_dim(0), bias.reshape([1, 1, 15]))
    };
    let (weight, bias) = side_by_side(&|g| gates[g].input_transform.clone());
    ours.input = BlockLinear { weight: Param::from_tensor(weight), bias: Param::from_tensor(bias) };
    let (weight, bias) = side_by_side(&|g| gates[g].hidden_transform.clone());
    ours.state = BlockLinear { weight: Param::from_tensor(weight), bias: Param::from_tensor(bias) };
    let draw = || Tensor::<3>::random([1, 7, 5], Distribution::Normal(0.0, 1.0), &device);
    let (x, state) = (draw(), draw());
    let ours = ours.forward(x.clone(), state.clone()).expect("numbers").squeeze_dim::<2>(0);
    let theirs = theirs.forward(x.swap_dims(0, 1), Some(state.squeeze_dim(0)));
    let worst = (ours - theirs.squeeze_dim(1)).abs().max().into_scalar::<f32>();
    assert!(worst < 1e-6, "{worst}");
}

/// Without the competition nothing lets one block reach another: the state of block 0 after the GRU,
/// the MLP and the prototypes does not depend on block 1.
#[test]
fn blocks_do_not_see_each_other() {
    let device = Device::flex().autodiff();
    let module =
        BlockSlotAttentionConfig::new(4, 6, 2, 3).with_iterations(1).init(&device).unwrap();
    let draw = || Tensor::<3>::random([2, 5, 3], Distribution::Normal(0.0, 1.0), &device);
    let state = draw().require_grad();
    let own = module.gru.forward(draw(), state.clone()).expect("numbers");
    let own = own.clone() + module.narrow.forward(module.widen.forward(own));
    let gradients = own.narrow(0, 0, 1).sum().backward();
    let found = state.grad(&gradients).unwrap();
    assert!(found.clone().narrow(0, 0, 1).abs().max().into_scalar::<f32>() > 0.0);
    assert_eq!(found.narrow(0, 1, 1).abs().max().into_scalar::<f32>(), 0.0);
}

#[test]
fn bad_settings_are_named() {
    let device = Device::flex();
    let good = || BlockSlotAttentionConfig::new(6, 8, 4, 5);
    for (config, name) in [
        (good().with_slots(0), "slots"),
        (good().with_iterations(0), "iterations"),
        (good().with_hidden_width(Some(0)), "hidden_width"),
        (good().with_epsilon(-1.0), "epsilon"),
        (good().with_norm_epsilon(f64::NAN), "norm_epsilon"),
        (BlockSlotAttentionConfig::new(6, 8, 0, 5), "blocks"),
        (BlockSlotAttentionConfig::new(6, 8, 9, 5), "blocks"),
        (BlockSlotAttentionConfig::new(6, 8, 3, 5), "blocks"),
        (good().with_hidden_width(Some(6)), "blocks"),
        (BlockSlotAttentionConfig::new(6, 8, 4, 0), "prototypes"),
        (BlockSlotAttentionConfig::new(0, 8, 4, 5), "input_width"),
        (BlockSlotAttentionConfig::new(6, 0, 4, 5), "slot_width"),
    ] {
        match config.init(&device) {
            Err(Error::Value { argument, .. }) => assert_eq!(argument, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let module = good().init(&device).unwrap();
    let x = Tensor::<3>::zeros([1, 5, 6], &device);
    assert_eq!(module.forward(x.clone(), 3).unwrap().dims(), [1, 4, 8]);
    assert!(matches!(module.start(1, 0, 1), Err(Error::Value { .. })));
    let start = Tensor::<3>::zeros([1, 2, 7], &device);
    assert!(matches!(module.forward_from(x, start), Err(Error::Shape { .. })));
    let case = Case::open("block_slots.safetensors", "blocks");
    let config = BlockSlotAttentionConfig::of_checkpoint(&case.weights()).unwrap();
    let config = BlockSlotAttentionConfig { blocks: 2, ..config };
    let loaded = config.load(&case.weights(), &case.device);
    assert!(matches!(loaded, Err(ModelError::Damaged { .. })));
}
