//! Layers of any model: gradients against finite differences, what they compute against the
//! definition, and what they refuse.

use crate::common::differences::{Double, check, f64s, functional, nodes};
use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use marginals::potential::Dot;
use marginals::spec::{ExpandingInference, ExpandingSpec, ModelSpec};
use marginals_burn::{
    AttentionConfig, ByteLm, ByteLmConfig, ExpandingConfig, MultihopConfig, Positions,
    TransformerBlockConfig,
};
use marginals_testkit::generate::Random;

fn model(text: &str) -> ModelSpec {
    ModelSpec::from_toml(text).expect("a model")
}

const LEARNED: &str = "structure = { each-query-picks-at-most-one = { null = 0.1 } }\n\
    prior = [\"causal\", { geometric = { rho = 0.2 } }, { laplace = { scale = 3.0 } },\n\
    { relative-buckets = { buckets = 4, max-distance = 4, bidirectional = false } }]\n\
    potential = { rotary = { potential = \"dot\" } }";

#[test]
fn gradients_of_attention_agree_with_finite_differences() {
    let device = Device::flex().autodiff();
    let learn = ["null", "geometric.rho", "laplace.scale", "dot.scale"].map(String::from);
    let config = AttentionConfig::new(8, 4, model(LEARNED))
        .with_key_heads(Some(2))
        .with_learn(learn.to_vec());
    let x = nodes([2, 6, 8], &device);
    check(config.init(&device).expect("settings fit"), |attention| {
        let asked = ["entropy", "kl", "log-evidence"];
        let (y, answers) = attention.ask(x.clone(), &asked).expect("sizes fit");
        asked.iter().fold(functional(y), |loss, &question| {
            loss + functional(answers.get::<3>(question).expect("asked")) * 0.3
        })
    });
    // Cross-attention, and weights of an additive potential.
    let additive = "structure = \"each-query-picks-one\"\n\
        potential = { additive = { kind = \"bahdanau\" } }";
    let config = AttentionConfig::new(8, 2, model(additive)).with_context_width(Some(5));
    let context = nodes([2, 4, 5], &device);
    check(config.init(&device).expect("settings fit"), |attention| {
        functional(attention.forward_cross(x.clone(), context.clone()).expect("sizes fit"))
    });
}

#[test]
fn gradients_of_walks_agree_with_finite_differences() {
    let device = Device::flex().autodiff();
    let walk = "structure = { walk = { weights = [0.2, 0.5, 0.3] } }\n\
        prior = [{ geometric = { rho = 0.2 } }]\npotential = \"dot\"";
    let config = MultihopConfig::new(6, 2, model(walk)).with_learn(vec!["geometric.rho".into()]);
    let x = nodes([2, 5, 6], &device);
    check(config.init(&device).expect("settings fit"), |multihop| {
        let (y, answers) = multihop.ask(x.clone(), &["kl"]).expect("sizes fit");
        functional(y) + functional(answers.get::<3>("kl").expect("asked")) * 0.3
    });
}

/// Σ_h P(h) A^h V with the matrices written out.
#[test]
fn walks_are_powers_of_the_matrix_of_marginals() {
    let device = Device::flex();
    let walk = "structure = { walk = { weights = [0.1, 0.2, 0.3, 0.4] } }\npotential = \"dot\"";
    let multihop = MultihopConfig::new(6, 2, model(walk)).init(&device).expect("settings fit");
    let draw = |width: usize| {
        let values = Random::new(width as u64).normals(2 * 2 * 5 * width);
        let data = TensorData::new(values, [2, 2, 5, width]);
        Tensor::<4>::from_data(data, (&device, DType::F64))
    };
    let (q, k, v) = (draw(3), draw(4).narrow(3, 0, 3), draw(2));
    let multihop = multihop.map(&mut Double);
    let found = multihop.mean(q.clone(), k.clone(), v.clone()).expect("sizes fit");
    let scores = q.matmul(k.transpose()) / 3f64.sqrt();
    let step = burn::tensor::activation::softmax(scores, 3);
    let mut power = v.clone();
    let mut expected = v.mul_scalar(0.1);
    for weight in [0.2, 0.3, 0.4] {
        power = step.clone().matmul(power);
        expected = expected + power.clone() * weight;
    }
    // The weights' logarithms went through f32.
    for (found, expected) in f64s(found).iter().zip(f64s(expected)) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}

#[test]
fn gradients_of_expanding_attention_agree_with_finite_differences() {
    let device = Device::flex().autodiff();
    for inference in [
        ExpandingInference::Exact,
        ExpandingInference::MeanField(
            serde_json::from_str("{ \"steps\": 500, \"tolerance\": 1e-13 }").expect("settings"),
        ),
    ] {
        let mut spec: ExpandingSpec =
            serde_json::from_str("{ \"alpha\": 2.0, \"beta\": 3.0 }").expect("settings");
        spec.inference = inference;
        // Every key, so that no window moves.
        spec.lost = 0.0;
        assert_eq!(spec.potential, Dot::default().into());
        let config = ExpandingConfig::new(6, 2, spec);
        let x = nodes([2, 7, 6], &device);
        check(config.init(&device).expect("settings fit"), |expanding| {
            let (y, found) = expanding.expand(x.clone(), x.clone()).expect("sizes fit");
            functional(y) + functional(found.log_evidence) * 0.3 + functional(found.rho)
        });
    }
}

fn byte_lm(positions: Positions) -> ByteLmConfig {
    let causal = "structure = \"each-query-picks-one\"\n\
        prior = [\"causal\", { geometric = { rho = 0.1 } }]\npotential = \"dot\"";
    let attention =
        AttentionConfig::new(8, 2, model(causal)).with_learn(vec!["geometric.rho".into()]);
    let block = TransformerBlockConfig::new(attention).with_inner_width(Some(12));
    ByteLmConfig::new(2, block, 9).with_positions(positions)
}

fn text(device: &Device) -> (Tensor<2, Int>, Tensor<2, Int>) {
    let bytes: Vec<i64> = b"to be, or not to be".iter().map(|&b| i64::from(b)).collect();
    let of = |from: usize| -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(bytes[from..from + 18].to_vec(), [2, 9]), device)
    };
    (of(0), of(1))
}

#[test]
fn gradients_of_a_language_model_agree_with_finite_differences() {
    let device = Device::flex().autodiff();
    let (bytes, targets) = text(&device);
    for positions in [Positions::None, Positions::Learned] {
        let lm = byte_lm(positions).init(&device).expect("settings fit");
        check(lm, |lm: &ByteLm| {
            let (scores, answers) = lm.ask(bytes.clone(), &["entropy"]).expect("sizes fit");
            let entropy = answers[1].get::<3>("entropy").expect("asked").mean();
            functional(scores) * 0.1
                + lm.loss(bytes.clone(), targets.clone()).expect("sizes fit")
                + entropy
        });
    }
}

/// No byte sees those after it.
#[test]
fn a_language_model_is_causal() {
    let device = Device::flex();
    let lm = byte_lm(Positions::Learned).init(&device).expect("settings fit");
    let (bytes, _) = text(&device);
    let whole = lm.forward(bytes.clone()).expect("sizes fit");
    let part = lm.forward(bytes.narrow(1, 0, 5)).expect("sizes fit");
    for (whole, part) in f64s(whole.narrow(1, 0, 5)).iter().zip(f64s(part)) {
        assert!((whole - part).abs() < 1e-5, "{whole} {part}");
    }
}

/// Edges that depend on each other tell a byte of those after it, whatever the prior hides.
#[test]
fn a_language_model_of_coupled_queries_is_refused() {
    let mut config = byte_lm(Positions::Learned);
    assert!(config.causal().is_ok());
    for structure in ["\"chain\"", "{ semi-markov = { longest = 2 } }", "\"each-key-picks-one\""] {
        let text = format!("structure = {structure}\nprior = [\"causal\"]\npotential = \"dot\"");
        config.block.attention.model = model(&text);
        assert!(config.causal().is_err(), "{structure}");
    }
    let text =
        "structure = { each-query-picks-k = { k = 1 } }\nprior = [\"causal\"]\npotential = \"dot\"";
    config.block.attention.model = model(text);
    assert!(config.causal().is_ok());
}

#[test]
fn settings_that_make_no_module_are_refused_by_name() {
    let device = Device::flex();
    let dot = || model("structure = \"each-query-picks-one\"\npotential = \"dot\"");
    let of = |config: AttentionConfig| config.init(&device).expect_err("refused").to_string();
    assert!(of(AttentionConfig::new(8, 3, dot())).contains("heads"));
    assert!(of(AttentionConfig::new(8, 4, dot()).with_key_heads(Some(3))).contains("key_heads"));
    let learn = |name: &str| AttentionConfig::new(8, 4, dot()).with_learn(vec![name.into()]);
    let refused = of(learn("geometric.rho"));
    assert!(refused.contains("geometric.rho") && refused.contains("dot.scale"), "{refused}");
    let edge = model(
        "structure = \"each-query-picks-one\"\nprior = [{ geometric = { rho = 0.0 } }]\n\
         potential = \"dot\"",
    );
    let edge = AttentionConfig::new(8, 4, edge).with_learn(vec!["geometric.rho".into()]);
    assert!(of(edge).contains("geometric.rho"));
    assert!(MultihopConfig::new(8, 2, dot()).init(&device).is_err());
    let lm = byte_lm(Positions::Learned).init(&device).expect("settings fit");
    let long = Tensor::<2, Int>::zeros([1, 10], &device);
    assert!(lm.forward(long).expect_err("too long").to_string().contains("at most 9"));
}
