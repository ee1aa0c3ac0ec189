//! Perceiver against PyTorch (tools/reference/perceiver.py).

use std::path::Path;

use crate::common::recorded::{Case, Weights, of};
use burn::nn::Linear;
use burn::tensor::{Device, Gradients, Tensor};
use marginals::Error;
use marginals_burn::checkpoint::Checkpoint;
use marginals_burn::modules::Norm;
use marginals_burn::modules::{FeedForward, FeedForwardActivation, MultiHead, Sharing};
use marginals_burn::{ModelError, Perceiver, PerceiverConfig};

fn check(name: &str, adjust: impl Fn(PerceiverConfig) -> PerceiverConfig) {
    let case = Case::open("perceiver.safetensors", name);
    let config = PerceiverConfig::of_checkpoint(&case.weights()).expect("sizes");
    let module = adjust(config).load(&case.weights(), &case.device).expect("weights");
    let x = case.tensor::<3>("inputs.x").require_grad();
    let gradients = match &module.classify {
        Some(_) => {
            let output = module.classify(x.clone()).expect("forward");
            case.close("output", output.clone());
            (output * case.tensor("upstream")).sum().backward()
        }
        None => {
            let output = module.forward(x.clone()).expect("forward");
            case.close("output", output.clone());
            (output * case.tensor("upstream")).sum().backward()
        }
    };
    case.close("grad.x", x.grad(&gradients).expect("gradient of the inputs"));
    compare(&case, &module, &gradients);
    case.report();
}

fn compare(case: &Case, module: &Perceiver, gradients: &Gradients) {
    let linear = |name: &str, map: &Linear| case.close_linear(name, map, gradients);
    let norm = |name: &str, norm: &Norm| case.close_norm(name, norm, gradients);
    let attention = |name: &str, attention: &MultiHead| {
        norm(&format!("{name}.norm"), &attention.norm);
        linear(&format!("{name}.fn.to_q"), &attention.to_q);
        linear(&format!("{name}.fn.to_kv"), &attention.to_kv);
        linear(&format!("{name}.fn.to_out"), &attention.to_out);
    };
    let network = |name: &str, network: &FeedForward| {
        norm(&format!("{name}.norm"), &network.norm);
        linear(&format!("{name}.fn.net.0"), &network.widen);
        linear(&format!("{name}.fn.net.2"), &network.narrow);
    };
    case.close("grad.latents", of(&module.latents, gradients));
    for (layer, block) in module.blocks.iter().enumerate() {
        attention(&format!("layers.{layer}.cross_attn"), &block.cross);
        norm(&format!("layers.{layer}.cross_attn.norm_context"), &block.norm_inputs);
        network(&format!("layers.{layer}.cross_ff"), &block.cross_feed_forward);
        for (index, own) in block.selves.iter().enumerate() {
            attention(&format!("layers.{layer}.self_attns.{index}.0"), &own.attention);
            network(&format!("layers.{layer}.self_attns.{index}.1"), &own.feed_forward);
        }
    }
    for (layer, depth) in module.depths.iter().enumerate() {
        let name = format!("attn_residuals.{layer}.to_attn_logits");
        case.close(&format!("grad.{name}.0.weight"), of(&depth.norm.gamma, gradients));
        linear(&format!("{name}.1"), &depth.narrow);
        linear(&format!("{name}.2"), &depth.widen);
    }
    if let Some(classify) = &module.classify {
        norm("to_logits.1", &classify.norm);
        linear("to_logits.2", &classify.linear);
    }
}

#[test]
fn agrees_with_pytorch_where_layers_share_weights() {
    // Stored once: the depth is not in the file.
    check("shared", |config| PerceiverConfig {
        depth: 3,
        latent_heads: 2,
        latent_head_width: 4,
        ..config
    });
}

#[test]
fn agrees_with_pytorch_where_layers_do_not() {
    check("separate", |config| PerceiverConfig {
        sharing: Sharing::Separate,
        cross_heads: 2,
        cross_head_width: 3,
        latent_heads: 3,
        latent_head_width: 3,
        ..config
    });
}

#[test]
fn agrees_with_pytorch_without_gates() {
    check("gelu", |config| {
        assert_eq!(config.activation, FeedForwardActivation::Gelu);
        assert_eq!(config.self_per_cross, 0);
        config
    });
}

#[test]
fn agrees_with_pytorch_where_it_attends_over_depth() {
    let heads = |config: PerceiverConfig| {
        assert_eq!(config.depth_rank, Some(3));
        PerceiverConfig { latent_heads: 2, latent_head_width: 4, ..config }
    };
    check("depth", |config| PerceiverConfig { depth: 4, ..heads(config) });
    check("depth-separate", |config| {
        assert_eq!(config.sharing, Sharing::Separate);
        heads(config)
    });
}

/// The weights of a case, with copies of those of layer 1 under the names of the layers after it, as
/// `state_dict` has them.
struct Copied<'case> {
    case: Weights<'case>,
    depth: usize,
    /// A number that one of them has another than the others.
    spoilt: Option<&'static str>,
}

impl Copied<'_> {
    fn own(&self, name: &str) -> String {
        let layers = (2..self.depth).flat_map(|layer| {
            ["layers", "attn_residuals"]
                .map(|list| (format!("{list}.{layer}."), format!("{list}.1.")))
        });
        let found = layers.into_iter().find(|(copy, _)| name.starts_with(copy));
        found.map_or(name.to_owned(), |(copy, own)| name.replacen(&copy, &own, 1))
    }
}

impl Checkpoint for Copied<'_> {
    fn path(&self) -> &Path {
        self.case.path()
    }
    fn names(&self) -> Vec<String> {
        let own = self.case.names();
        let copy = |name: &String, layer: usize| {
            let (list, part) = name.split_once(".1.")?;
            matches!(list, "layers" | "attn_residuals").then(|| format!("{list}.{layer}.{part}"))
        };
        let copies =
            (2..self.depth).flat_map(|layer| own.iter().filter_map(move |n| copy(n, layer)));
        let copies: Vec<String> = copies.collect();
        own.into_iter().chain(copies).collect()
    }
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.case.shape(&self.own(name))
    }
    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let mut values = self.case.values(&self.own(name))?;
        if self.spoilt == Some(name) {
            values[0] += 1.0;
        }
        Ok(values)
    }
}

#[test]
fn layers_share_weights_where_all_of_them_are_equal() {
    for (name, depth) in [("shared", 3), ("depth", 4)] {
        let case = Case::open("perceiver.safetensors", name);
        let copied = Copied { case: case.weights(), depth, spoilt: None };
        let found = PerceiverConfig::of_checkpoint(&copied).expect("sizes");
        assert_eq!((found.depth, found.sharing), (depth, Sharing::AfterFirst));
        let config = PerceiverConfig { latent_heads: 2, latent_head_width: 4, ..found };
        let module = config.load(&copied, &case.device).expect("weights");
        case.close("output", module.forward(case.tensor("inputs.x")).expect("forward"));

        // The last tensor of the last layer is enough to tell them apart.
        let spoilt = Some("layers.2.self_attns.0.1.fn.net.2.bias");
        let copied = Copied { case: case.weights(), depth, spoilt };
        let found = PerceiverConfig::of_checkpoint(&copied).expect("sizes");
        assert_eq!(found.sharing, Sharing::Separate);
        let refused = config.load(&copied, &case.device);
        assert!(matches!(refused, Err(ModelError::Unsupported { .. })), "{refused:?}");
        // Fewer layers than there are weights for.
        let refused = PerceiverConfig { depth: 2, ..config.clone() }.load(&copied, &case.device);
        assert!(matches!(refused, Err(ModelError::Unsupported { .. })), "{refused:?}");
    }
    let case = Case::open("perceiver.safetensors", "depth");
    let config = PerceiverConfig::of_checkpoint(&case.weights()).expect("sizes");
    let without = PerceiverConfig { depth_rank: None, ..config };
    match without.load(&case.weights(), &case.device) {
        Err(ModelError::Unsupported { reason, .. }) => {
            assert!(reason.contains("attn_residuals.0.to_attn_logits.0.weight"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_settings_are_named() {
    let device = Device::flex();
    let good = || PerceiverConfig::new(5, 4, 8, 2).with_latent_head_width(2);
    for (config, name) in [
        (PerceiverConfig::new(0, 4, 8, 2), "input_width"),
        (PerceiverConfig::new(5, 0, 8, 2), "latents"),
        (PerceiverConfig::new(5, 4, 0, 2), "latent_width"),
        (PerceiverConfig::new(5, 4, 8, 0), "depth"),
        (good().with_cross_heads(0), "cross_heads"),
        (good().with_latent_heads(0), "latent_heads"),
        (good().with_cross_head_width(0), "cross_head_width"),
        (good().with_latent_head_width(0), "latent_head_width"),
        (good().with_widening(0), "widening"),
        (good().with_classes(Some(0)), "classes"),
        (good().with_depth_rank(Some(0)), "depth_rank"),
        (PerceiverConfig::new(5, 4, 8, 1 << 62), "depth"),
        (PerceiverConfig::new(5, 4, 1 << 62, 2), "latent_width"),
        (good().with_latent_heads(1 << 62), "latent_heads"),
        (good().with_norm_epsilon(-1.0), "norm_epsilon"),
    ] {
        match config.init(&device) {
            Err(Error::Value { argument, .. }) => assert_eq!(argument, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let module = good().init(&device).unwrap();
    let x = |width| Tensor::<3>::zeros([1, 6, width], &device);
    assert_eq!(module.forward(x(5)).unwrap().dims(), [1, 4, 8]);
    assert!(matches!(module.forward(x(4)), Err(Error::Shape { .. })));
    assert!(matches!(module.classify(x(5)), Err(Error::NotAnswerable { .. })));
    let case = Case::open("perceiver.safetensors", "gelu");
    let config = PerceiverConfig::of_checkpoint(&case.weights()).unwrap();
    let loaded = PerceiverConfig { depth: 2, ..config }.load(&case.weights(), &case.device);
    assert!(matches!(loaded, Err(ModelError::Damaged { .. })));
}
