//! `marginals infer` on slots, block-slots and Perceivers, against the answers and gradients that
//! PyTorch gave (tools/reference, recorded with the modules' own tests).

use std::collections::HashMap;

use crate::common::files::{Folder, Tensor};
use crate::common::workspace;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

/// The tensors of one recorded case, without its name.
fn recorded(file: &str, case: &str) -> HashMap<String, Tensor> {
    let path = workspace().join("crates/marginals-burn/tests/data").join(file);
    let bytes = std::fs::read(path).expect("a recorded file");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let own = file.tensors().into_iter().filter_map(|(name, tensor)| {
        let name = name.strip_prefix(case)?.strip_prefix('.')?.to_owned();
        let (numbers, _) = tensor.data().as_chunks::<4>();
        let numbers = numbers.iter().map(|b| f32::from_le_bytes(*b).into()).collect();
        Some((name, (tensor.shape().to_vec(), numbers)))
    });
    own.collect()
}

/// Every number within 1e-5 of the largest, or of 1: the rounding of our own f32.
fn close(name: &str, got: &Tensor, expected: &Tensor) {
    assert_eq!(got.1.len(), expected.1.len(), "{name}");
    let scale = expected.1.iter().fold(1.0f64, |max, x| max.max(x.abs()));
    for (i, (got, expected)) in got.1.iter().zip(&expected.1).enumerate() {
        assert!((got - expected).abs() <= 1e-5 * scale, "{name}[{i}]: {got}, not {expected}");
    }
}

fn weights(case: &HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    let of = |(name, tensor): (&String, &Tensor)| {
        Some((name.strip_prefix("weights.")?.to_owned(), tensor.clone()))
    };
    case.iter().filter_map(of).collect()
}

/// Writes `w.safetensors`, in f32 as checkpoints are.
fn save_weights(folder: &Folder, weights: &HashMap<String, Tensor>) {
    let bytes = |numbers: &[f64]| numbers.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect();
    let all: Vec<(&String, &Vec<usize>, Vec<u8>)> =
        weights.iter().map(|(name, (shape, numbers))| (name, shape, bytes(numbers))).collect();
    let views = all.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, (*shape).clone(), bytes).expect("sizes agree"))
    });
    let file = safetensors::serialize(views, None).expect("the weights serialise");
    std::fs::write(folder.0.path().join("w.safetensors"), file).expect("a temporary file");
}

/// The start μ + σ ε of a case's noise ε.
fn start(case: &HashMap<String, Tensor>, mu: &str, log_sigma: &str) -> Tensor {
    let (shape, noise) = &case["inputs.noise"];
    let (mu, log_sigma) = (&case[mu].1, &case[log_sigma].1);
    let width = mu.len();
    let at = |(i, e): (usize, &f64)| mu[i % width] + log_sigma[i % width].exp() * e;
    (shape.clone(), noise.iter().enumerate().map(at).collect())
}

/// Runs a case twice, weights in the input and weights in a file, and compares answers and
/// gradients.
fn check(
    mechanism: &str,
    settings: &str,
    answer: &str,
    case: &HashMap<String, Tensor>,
    start: Option<Tensor>,
) {
    let mut inputs = HashMap::from([
        ("inputs".to_owned(), case["inputs.x"].clone()),
        (format!("grad.{answer}"), case["upstream"].clone()),
    ]);
    if let Some(start) = &start {
        inputs.insert("start".to_owned(), start.clone());
    }
    let in_file =
        format!("mechanism = {{ {mechanism} = {{ weights = \"w.safetensors\"{settings} }} }}");
    let folder = Folder::new(&in_file, &inputs);
    save_weights(&folder, &weights(case));
    let settings = settings.trim_start_matches(", ");
    let in_input = format!("mechanism = {{ {mechanism} = {{ {settings} }} }}");
    let own = weights(case).into_iter().map(|(name, tensor)| (format!("weights.{name}"), tensor));
    let beside = Folder::new(&in_input, &inputs.clone().into_iter().chain(own).collect());
    for folder in [folder, beside] {
        folder.infer(&[]).success();
        let output = folder.output();
        close(answer, &output[answer], &case["output"]);
        close("grad.inputs", &output["grad.inputs"], &case["grad.x"]);
        let Some((_, start)) = &start else { continue };
        // The recorded gradient is that of the noise: σ times that of the start.
        let noise = &case["inputs.noise"].1;
        let mut of_noise = output["grad.start"].clone();
        let log_sigma = case.get("weights.slots_logsigma").or(case.get("weights.slot_log_sigma"));
        let log_sigma = &log_sigma.expect("the start is learned").1;
        for (i, g) in of_noise.1.iter_mut().enumerate() {
            *g *= log_sigma[i % log_sigma.len()].exp();
        }
        assert_eq!(start.len(), noise.len());
        close("grad.noise", &of_noise, &case["grad.noise"]);
    }
}

#[test]
fn slots_are_those_of_pytorch() {
    for (name, settings) in [
        ("paper", ""),
        ("bias", ""),
        ("heads", ", heads = 2"),
        ("many-heads", ", heads = 4, head-width = 5"),
        ("plain", ", iterations = 2"),
        ("epsilon", ", iterations = 1, epsilon = 0.05"),
    ] {
        let case = recorded("slots.safetensors", name);
        let start = start(&case, "weights.slots_mu", "weights.slots_logsigma");
        check("slots", settings, "slots", &case, Some(start));
    }
}

#[test]
fn block_slots_are_those_of_pytorch() {
    for (name, settings) in [
        ("blocks", ""),
        ("epsilon", ", iterations = 1, epsilon = 0.05"),
        ("one-block", ", blocks = 1, iterations = 2"),
    ] {
        let case = recorded("block_slots.safetensors", name);
        let start = start(&case, "weights.slot_mu", "weights.slot_log_sigma");
        check("block-slots", settings, "slots", &case, Some(start));
    }
}

#[test]
fn perceivers_are_those_of_pytorch() {
    // How inner widths fall into heads, and how often shared weights are used, is in no weight.
    for (name, settings) in [
        ("shared", ", depth = 3, latent-heads = 2"),
        ("separate", ", cross-heads = 2, latent-heads = 3"),
        ("gelu", ""),
    ] {
        let case = recorded("perceiver.safetensors", name);
        let answer = if case["output"].0.len() == 2 { "logits" } else { "latents" };
        check("perceiver", settings, answer, &case, None);
    }
}

/// Masks and their entropies against those of tools/reference/last_posteriors.py, and everything else as it
/// is without questions.
#[test]
fn questions_are_about_the_posterior_that_pytorch_ends_with() {
    for (mechanism, case, settings) in [
        ("slots", "paper", ""),
        ("slots", "bias", ""),
        ("slots", "heads", ", heads = 2"),
        ("slots", "many-heads", ", heads = 4, head-width = 5"),
        ("slots", "plain", ", iterations = 2"),
        ("block-slots", "blocks", ""),
        ("perceiver", "shared", ", depth = 3, latent-heads = 2"),
        ("perceiver", "separate", ", cross-heads = 2, latent-heads = 3"),
    ] {
        let expected = recorded("last_posteriors.safetensors", &format!("{mechanism}.{case}"));
        let case = recorded(&format!("{}.safetensors", mechanism.replace('-', "_")), case);
        let logits = case["output"].0.len() == 2;
        let [answer, start] = match mechanism {
            "perceiver" => [if logits { "grad.logits" } else { "grad.latents" }, ""],
            "slots" => ["grad.slots", "weights.slots_mu weights.slots_logsigma"],
            _ => ["grad.slots", "weights.slot_mu weights.slot_log_sigma"],
        };
        let mut inputs = HashMap::from([
            ("inputs".to_owned(), case["inputs.x"].clone()),
            (answer.to_owned(), case["upstream"].clone()),
        ]);
        if let Some((mu, log_sigma)) = start.split_once(' ') {
            inputs.insert("start".to_owned(), self::start(&case, mu, log_sigma));
        }
        let model =
            format!("mechanism = {{ {mechanism} = {{ weights = \"w.safetensors\"{settings} }} }}");
        let folder = Folder::new(&model, &inputs);
        save_weights(&folder, &weights(&case));
        folder.infer(&[]).success();
        let alone = folder.output();
        folder.infer(&["--ask", "marginals,entropy,map,mean,kl"]).success();
        let mut found = folder.output();
        for name in ["marginals", "entropy"] {
            close(name, &found[name], &expected[name]);
            assert_eq!(found[name].0, expected[name].0, "{mechanism}");
        }
        for name in ["marginals", "entropy", "map", "mean", "kl"] {
            found.remove(name).expect("it was asked");
        }
        assert_eq!(found, alone, "{mechanism}");
    }
}

#[test]
fn a_start_is_drawn_by_the_seed() {
    let case = recorded("slots.safetensors", "paper");
    let inputs = HashMap::from([("inputs".to_owned(), case["inputs.x"].clone())]);
    let run = |settings: &str| {
        let model =
            format!("mechanism = {{ slots = {{ weights = \"w.safetensors\"{settings} }} }}");
        let folder = Folder::new(&model, &inputs);
        save_weights(&folder, &weights(&case));
        folder.infer(&[]).success();
        folder.output()
    };
    let (first, again, other) =
        (run(", slots = 5"), run(", slots = 5"), run(", slots = 5, seed = 1"));
    assert_eq!(first["slots"].0[1], 5);
    assert_eq!(first["slots"], again["slots"]);
    assert_ne!(first["start"], other["start"]);
}

#[test]
fn bad_input_names_the_argument_and_leaves_nothing() {
    let case = recorded("slots.safetensors", "paper");
    let whole = || {
        let own = weights(&case).into_iter().map(|(name, t)| (format!("weights.{name}"), t));
        let x = [("inputs".to_owned(), case["inputs.x"].clone())];
        own.chain(x).collect::<HashMap<String, Tensor>>()
    };
    let refuse = |settings: &str, inputs: &HashMap<String, Tensor>, words: &[&str]| {
        let model = format!("mechanism = {{ slots = {{ {settings} }} }}");
        Folder::new(&model, inputs).refuse(&[], words);
    };
    refuse("slots = 0", &whole(), &["`slots`", "at least 1"]);
    refuse("slots = 1000000000000000", &whole(), &["`slots`", "GB of memory"]);
    refuse("iterations = 0", &whole(), &["`iterations`", "at least 1"]);
    refuse("slot = 3", &whole(), &["did you mean `slots`"]);
    refuse("weights = \"none.safetensors\"", &whole(), &["none.safetensors"]);
    let mut damaged = whole();
    damaged.remove("weights.gru.weight_hh");
    refuse("", &damaged, &["gru.weight_hh", "missing"]);
    let mut nan = whole();
    nan.insert(
        "start".into(),
        (vec![2, 1, 12], [vec![0.0; 13], vec![f64::NAN], vec![0.0; 10]].concat()),
    );
    refuse("", &nan, &["`start`", "NaN", "[1, 0, 1]"]);
    let mut narrow = whole();
    narrow.insert("inputs".into(), (vec![1, 2, 1], vec![0.0; 2]));
    refuse("", &narrow, &["`inputs`", "[B, M, 10]", "[1, 2, 1]"]);
    Folder::new("mechanism = \"slots\"", &whole())
        .refuse(&["--ask", "covariance"], &["`covariance.r`"]);
    let mut upstream = whole();
    upstream.insert("grad.entropy".into(), (vec![2, 1, 23], vec![0.0; 46]));
    Folder::new("mechanism = \"slots\"", &upstream)
        .refuse(&["--ask", "entropy"], &["`grad.entropy`", "grad.slots"]);

    let case = recorded("block_slots.safetensors", "blocks");
    let own = weights(&case).into_iter().map(|(name, t)| (format!("weights.{name}"), t));
    let x = [("inputs".to_owned(), case["inputs.x"].clone())];
    let inputs: HashMap<String, Tensor> = own.chain(x).collect();
    let model = "mechanism = { block-slots = { blocks = 100 } }";
    Folder::new(model, &inputs).refuse(&[], &["`blocks`", "100"]);

    let case = recorded("perceiver.safetensors", "shared");
    let own = weights(&case).into_iter().map(|(name, t)| (format!("weights.{name}"), t));
    let x = [("inputs".to_owned(), case["inputs.x"].clone())];
    let inputs: HashMap<String, Tensor> = own.chain(x).collect();
    let model = "mechanism = { perceiver = { cross-heads = 5 } }";
    Folder::new(model, &inputs).refuse(&[], &["`cross-heads`", "a divisor"]);
}
