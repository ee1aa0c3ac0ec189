//! Every module × every axis of what it is given at 0 × with and without gradients: refused by name. The
//! products of the backend read memory that is not theirs where there are no rows.

use burn::tensor::{Device, Int, Tensor};
use marginals::Error;
use marginals::spec::{ExpandingSpec, ModelFile, ModelSpec};
use marginals_burn::{
    AttentionConfig, BlockSlotAttentionConfig, ByteLmConfig, ExpandingConfig, Graph,
    GraphAttentionConfig, MultihopConfig, PerceiverConfig, Positions, SlotAttentionConfig,
    TransformerBlockConfig,
};

/// Call of a module with tensors of given shapes, its answer summed so that a gradient can be taken.
type Run<'m> = Box<dyn Fn(&[Vec<usize>]) -> Result<Tensor<1>, Error> + 'm>;

/// A module, what it is given, and shapes that are taken.
struct Entry<'m> {
    name: &'static str,
    arguments: Vec<(&'static str, Vec<usize>)>,
    run: Run<'m>,
}

fn entry<'m>(
    name: &'static str,
    arguments: &[(&'static str, &[usize])],
    run: impl Fn(&[Vec<usize>]) -> Result<Tensor<1>, Error> + 'm,
) -> Entry<'m> {
    let arguments = arguments.iter().map(|(name, shape)| (*name, shape.to_vec())).collect();
    Entry { name, arguments, run: Box::new(run) }
}

/// A tensor of `shape` with different numbers, that gradients come for where the device has them.
fn tensor<const D: usize>(shape: &[usize], device: &Device, gradients: bool) -> Tensor<D> {
    let count: usize = shape.iter().product();
    let numbers: Vec<f32> = (0..count).map(|i| ((i * 37 + 11) as f32).sin()).collect();
    let tensor = Tensor::from_data(burn::tensor::TensorData::new(numbers, shape.to_vec()), device);
    if gradients { tensor.require_grad() } else { tensor }
}

fn model(text: &str) -> ModelSpec {
    ModelSpec::from_toml(text).expect("a model")
}

fn expanding() -> ExpandingSpec {
    let file = ModelFile::from_toml("mechanism = { expanding = { alpha = 1.0, beta = 2.0 } }");
    match file.expect("a mechanism") {
        ModelFile::Mechanism { mechanism: marginals::spec::MechanismSpec::Expanding(spec) } => spec,
        other => panic!("{other:?}"),
    }
}

/// Calls `each` with every module on a device with and without gradients.
fn modules(each: impl Fn(Entry<'_>, bool)) {
    for gradients in [false, true] {
        let device = match gradients {
            true => Device::flex().autodiff(),
            false => Device::flex(),
        };
        let device = &device;
        let three = |shape: &[usize]| tensor::<3>(shape, device, gradients);
        let four = |shape: &[usize]| tensor::<4>(shape, device, gradients);
        let plain = || model("structure = \"each-query-picks-one\"\npotential = \"dot\"");
        let causal = || {
            model("structure = \"each-query-picks-one\"\nprior = [\"causal\"]\npotential = \"dot\"")
        };

        for heads in [1, 2] {
            let slots = SlotAttentionConfig::new(6, 4).with_heads(heads).init(device).unwrap();
            let inputs: &[(_, &[usize])] = &[("inputs", &[2, 5, 6]), ("start", &[2, 3, 4])];
            each(
                entry("slots", inputs, |s| {
                    slots.forward_from(three(&s[0]), three(&s[1])).map(Tensor::sum)
                }),
                gradients,
            );
            each(
                entry("slots, drawn", &[("inputs", &[2, 5, 6])], |s| {
                    slots.forward(three(&s[0]), 1).map(Tensor::sum)
                }),
                gradients,
            );
        }
        let slots = BlockSlotAttentionConfig::new(6, 4, 2, 3).init(device).unwrap();
        let inputs: &[(_, &[usize])] = &[("inputs", &[2, 5, 6]), ("start", &[2, 3, 4])];
        each(
            entry("block-slots", inputs, |s| {
                slots.forward_from(three(&s[0]), three(&s[1])).map(Tensor::sum)
            }),
            gradients,
        );
        each(
            entry("block-slots, drawn", &[("inputs", &[2, 5, 6])], |s| {
                slots.forward(three(&s[0]), 1).map(Tensor::sum)
            }),
            gradients,
        );

        for rank in [None, Some(3)] {
            let perceiver = PerceiverConfig::new(6, 3, 4, 3)
                .with_latent_heads(2)
                .with_latent_head_width(2)
                .with_classes(Some(5))
                .with_depth_rank(rank)
                .init(device)
                .unwrap();
            each(
                entry("perceiver", &[("inputs", &[2, 5, 6])], |s| {
                    perceiver.forward(three(&s[0])).map(Tensor::sum)
                }),
                gradients,
            );
            each(
                entry("perceiver, classes", &[("inputs", &[2, 5, 6])], |s| {
                    perceiver.classify(three(&s[0])).map(Tensor::sum)
                }),
                gradients,
            );
        }

        let attention =
            AttentionConfig::new(8, 2, plain()).with_context_width(Some(6)).init(device).unwrap();
        each(
            entry("attention", &[("x", &[2, 4, 8]), ("context", &[2, 5, 6])], |s| {
                attention.forward_cross(three(&s[0]), three(&s[1])).map(Tensor::sum)
            }),
            gradients,
        );
        let block = TransformerBlockConfig::new(AttentionConfig::new(8, 2, causal()));
        let layer = block.init(device).unwrap();
        each(
            entry("transformer block", &[("x", &[2, 4, 8])], |s| {
                layer.forward(three(&s[0])).map(Tensor::sum)
            }),
            gradients,
        );
        let lm = ByteLmConfig::new(2, block, 9).with_positions(Positions::Learned);
        let lm = lm.init(device).unwrap();
        let bytes = |shape: &[usize]| Tensor::<2, Int>::zeros([shape[0], shape[1]], device);
        each(
            entry("byte-lm", &[("bytes", &[2, 7])], |s| lm.forward(bytes(&s[0])).map(Tensor::sum)),
            gradients,
        );
        each(
            entry("byte-lm, loss", &[("bytes", &[2, 7]), ("targets", &[2, 7])], |s| {
                lm.loss(bytes(&s[0]), bytes(&s[1]))
            }),
            gradients,
        );

        let walk = "structure = { walk = { weights = [0.2, 0.5, 0.3] } }\npotential = \"dot\"";
        let multihop = MultihopConfig::new(8, 2, model(walk)).init(device).unwrap();
        each(
            entry("multihop", &[("x", &[2, 4, 8])], |s| {
                multihop.forward(three(&s[0])).map(Tensor::sum)
            }),
            gradients,
        );
        let nodes: &[usize] = &[2, 2, 4, 3];
        each(
            entry("multihop, nodes", &[("q", nodes), ("k", nodes), ("v", nodes)], |s| {
                multihop.mean(four(&s[0]), four(&s[1]), four(&s[2])).map(Tensor::sum)
            }),
            gradients,
        );
        let windows = ExpandingConfig::new(8, 2, expanding()).init(device).unwrap();
        each(
            entry("expanding", &[("x", &[2, 4, 8]), ("context", &[2, 5, 8])], |s| {
                Ok(windows.expand(three(&s[0]), three(&s[1]))?.0.sum())
            }),
            gradients,
        );
        let (graph, _) = Graph::new(3, &[(0, 1), (2, 1)]).unwrap().with_self_loops();
        let layer = GraphAttentionConfig::new(4, 5).with_heads(2).init(device).unwrap();
        each(
            entry("graph attention", &[("x", &[2, 3, 4])], |s| {
                layer.forward_batch(three(&s[0]), &graph).map(Tensor::sum)
            }),
            gradients,
        );
        each(
            entry("edge probabilities", &[("x", &[3, 4])], |s| {
                let x = tensor::<2>(&s[0], device, gradients);
                layer.edge_probabilities(x, &graph).map(Tensor::sum)
            }),
            gradients,
        );
    }
}

#[test]
fn an_axis_of_0_is_refused_by_name() {
    modules(|Entry { name, arguments, run }, gradients| {
        let shapes: Vec<Vec<usize>> = arguments.iter().map(|(_, shape)| shape.clone()).collect();
        let whole = run(&shapes).unwrap_or_else(|error| panic!("{name}: {error}"));
        if gradients {
            whole.clone().backward();
        }
        assert!(whole.into_scalar::<f32>().is_finite(), "{name}");
        for (index, (argument, shape)) in arguments.iter().enumerate() {
            for axis in 0..shape.len() {
                let mut shapes = shapes.clone();
                shapes[index][axis] = 0;
                let told = match run(&shapes) {
                    Ok(_) => panic!("{name}: `{argument}` of shape {:?}", shapes[index]),
                    Err(error @ Error::Shape { .. }) => error.to_string(),
                    Err(other) => panic!("{name}: {other}"),
                };
                // Two tensors may not fit each other any more, and either may be named.
                let named = arguments.iter().any(|(name, _)| told.contains(&format!("`{name}`")));
                assert!(named && told.contains('0'), "{name}: {told}");
            }
        }
        // All that share an axis at once.
        for axis in 0..shapes[0].len() {
            let mut shapes = shapes.clone();
            shapes.iter_mut().for_each(|shape| shape[axis] = 0);
            assert!(matches!(run(&shapes), Err(Error::Shape { .. })), "{name}, axis {axis}");
        }
    });
}

#[test]
fn nothing_is_drawn_for_no_batch() {
    let device = Device::flex();
    let slots = SlotAttentionConfig::new(6, 4).init(&device).unwrap();
    let blocks = BlockSlotAttentionConfig::new(6, 4, 2, 3).init(&device).unwrap();
    for (start, argument) in [
        (slots.start(0, 3, 1), "batch"),
        (slots.start(2, 0, 1), "slots"),
        (blocks.start(0, 3, 1), "batch"),
        (blocks.start(2, 0, 1), "slots"),
    ] {
        let named = matches!(&start, Err(Error::Value { argument: own, .. }) if own == argument);
        assert!(named, "{argument}: {start:?}");
    }
}
