//! Weights that a loader knows a part of: read whole, or refused by name.

use std::collections::HashMap;
use std::fs;

use crate::common::files::{Folder, Tensor, f32_bytes, raw};
use crate::common::{audit, complaint, config, weights, workspace, write_model};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// The tensors of one recorded case, without its name.
fn recorded(file: &str, case: &str) -> HashMap<String, Tensor> {
    let path = workspace().join("crates/marginals-burn/tests/data").join(file);
    let bytes = fs::read(path).expect("a recorded file");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let own = file.tensors().into_iter().filter_map(|(name, tensor)| {
        let name = name.strip_prefix(case)?.strip_prefix('.')?.to_owned();
        let (numbers, _) = tensor.data().as_chunks::<4>();
        let numbers = numbers.iter().map(|b| f32::from_le_bytes(*b).into()).collect();
        Some((name, (tensor.shape().to_vec(), numbers)))
    });
    own.collect()
}

/// The bytes of a file with the weights of a case and others, and metadata.
fn file_of(
    case: &HashMap<String, Tensor>,
    more: &[(&str, Tensor)],
    metadata: &[(String, String)],
) -> Vec<u8> {
    let own =
        case.iter().filter_map(|(name, tensor)| Some((name.strip_prefix("weights.")?, tensor)));
    let all = own.chain(more.iter().map(|(name, tensor)| (*name, tensor)));
    let all: Vec<(&str, Vec<u64>, Vec<u8>)> = all
        .map(|(name, (shape, numbers))| {
            (name, shape.iter().map(|&axis| axis as u64).collect(), f32_bytes(numbers))
        })
        .collect();
    let tensors: Vec<(&str, &str, &[u64], Vec<u8>)> =
        all.iter().map(|(name, shape, bytes)| (*name, "F32", &shape[..], bytes.clone())).collect();
    let metadata: Vec<(&str, &str)> =
        metadata.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    raw(&tensors, &metadata)
}

/// A folder with the inputs of a case and its weights in a file.
fn folder(mechanism: &str, case: &HashMap<String, Tensor>, weights: &[u8]) -> Folder {
    let inputs = HashMap::from([("inputs".to_owned(), case["inputs.x"].clone())]);
    let folder = Folder::new(&format!("mechanism = {{ {mechanism} }}"), &inputs);
    fs::write(folder.0.path().join("w.safetensors"), weights).unwrap();
    folder
}

/// Every number within 1e-5 of the largest, or of 1.
fn close(got: &Tensor, expected: &Tensor) {
    assert_eq!(got.0, expected.0);
    let scale = expected.1.iter().fold(1.0f64, |max, x| max.max(x.abs()));
    for (i, (got, expected)) in got.1.iter().zip(&expected.1).enumerate() {
        assert!((got - expected).abs() <= 1e-5 * scale, "[{i}]: {got}, not {expected}");
    }
}

/// What stands in the metadata of the answers under `meanings`.
fn meanings(folder: &Folder) -> String {
    let bytes = fs::read(folder.0.path().join("out.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    header.metadata().as_ref().map_or_else(String::new, |said| said["meanings"].clone())
}

#[test]
fn what_a_module_has_more_is_refused_by_name() {
    let extra = || (vec![1], vec![0.5]);
    for (file, case, mechanism, name) in [
        ("slots.safetensors", "paper", "slots", "extra.bias"),
        ("block_slots.safetensors", "blocks", "block-slots", "broadcast.dict"),
        ("perceiver.safetensors", "gelu", "perceiver", "layers.0.cross_attn.fn.q_norm"),
        ("perceiver.safetensors", "gelu", "perceiver", "decoder_cross_attn.norm.weight"),
    ] {
        let case = recorded(file, case);
        let settings = format!("{mechanism} = {{ weights = \"w.safetensors\" }}");
        folder(&settings, &case, &file_of(&case, &[], &[])).infer(&[]).success();
        let more = file_of(&case, &[(name, extra())], &[]);
        folder(&settings, &case, &more).refuse(&[], &["w.safetensors", name, "another model"]);
    }
}

#[test]
fn a_perceiver_that_attends_over_depth_is_read() {
    for (name, settings, answer) in [
        ("depth", "depth = 4, latent-heads = 2", "latents"),
        ("depth-separate", "depth = 3, latent-heads = 2", "logits"),
    ] {
        let case = recorded("perceiver.safetensors", name);
        let mechanism = format!("perceiver = {{ weights = \"w.safetensors\", {settings} }}");
        let folder = folder(&mechanism, &case, &file_of(&case, &[], &[]));
        folder.infer(&[]).success();
        close(&folder.output()[answer], &case["output"]);
    }
}

/// `save_model` of a module whose layers share weights writes them once and says so.
#[test]
fn a_tied_perceiver_has_the_depth_that_it_was_saved_with() {
    let case = recorded("perceiver.safetensors", "depth");
    let mut shared = Vec::new();
    for name in case.keys().filter_map(|name| name.strip_prefix("weights.")) {
        for layer in [2, 3] {
            if let Some((list, part)) = name.split_once(".1.")
                && matches!(list, "layers" | "attn_residuals")
            {
                shared.push((format!("{list}.{layer}.{part}"), name.to_owned()));
            }
        }
    }
    assert!(shared.len() > 20);
    let saved = file_of(&case, &[], &shared);
    let mechanism = "perceiver = { weights = \"w.safetensors\", latent-heads = 2 }";
    let folder = folder(mechanism, &case, &saved);
    let told = folder.infer(&[]).success();
    close(&folder.output()["latents"], &case["output"]);
    // What the weights do not say is said, to the user and in the answers.
    let told = String::from_utf8_lossy(&told.get_output().stderr).into_owned();
    for text in [told.as_str(), &meanings(&folder)] {
        assert!(text.contains("`depth` = 4") && text.contains("`cross-heads` = 1"), "{text}");
        assert!(!text.contains("latent-heads"), "{text}");
    }
}

#[test]
fn heads_of_a_perceiver_are_assumed_aloud_or_asked_for() {
    let case = recorded("perceiver.safetensors", "shared");
    let weights = file_of(&case, &[], &[]);
    let settings =
        |settings: &str| format!("perceiver = {{ weights = \"w.safetensors\"{settings} }}");
    // 8 numbers are no heads of 64.
    folder(&settings(", depth = 3"), &case, &weights)
        .refuse(&[], &["`latent-heads`", "absent", "8 numbers", "heads of 64"]);
    let all = settings(", depth = 3, latent-heads = 2, cross-heads = 1");
    let whole = folder(&all, &case, &weights);
    let told = whole.infer(&[]).success();
    assert!(told.get_output().stderr.is_empty(), "nothing was assumed");
    close(&whole.output()["latents"], &case["output"]);
}

#[test]
fn heads_of_slots_are_asked_for() {
    let case = recorded("slots.safetensors", "many-heads");
    let weights = file_of(&case, &[], &[]);
    let settings = |settings: &str| format!("slots = {{ weights = \"w.safetensors\"{settings} }}");
    folder(&settings(""), &case, &weights).refuse(&[], &["`heads`", "absent", "combine_heads"]);
    folder(&settings(", heads = 3"), &case, &weights).refuse(&[], &["`heads`", "a divisor"]);
    // The width of a head is that of the weights.
    folder(&settings(", heads = 4"), &case, &weights).infer(&[]).success();
}

/// The small BERT with tensors more and settings changed.
fn bert(tensors: &[&str], settings: &[(&str, Value)]) -> (tempfile::TempDir, assert_cmd::Command) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    write_model(&model);
    let mut said = config();
    settings.iter().for_each(|(key, value)| said[*key] = value.clone());
    fs::write(model.join("config.json"), said.to_string()).unwrap();
    let own = weights();
    let own = SafeTensors::deserialize(&own).unwrap();
    let one = 0.5f32.to_le_bytes();
    let dtype = safetensors::tensor::Dtype::F32;
    let more = tensors.iter().map(|name| {
        ((*name).to_owned(), TensorView::new(dtype, vec![1], &one).expect("one number"))
    });
    let all = own.tensors().into_iter().chain(more);
    fs::write(model.join("model.safetensors"), safetensors::serialize(all, None).unwrap()).unwrap();
    fs::write(folder.path().join("text.txt"), "a single man in want of a wife").unwrap();
    let mut command = audit();
    command.current_dir(folder.path()).args(["model", "text.txt", "--format", "json"]);
    (folder, command)
}

#[test]
fn a_bert_with_another_attention_is_refused_by_name() {
    let cross = "encoder.layer.0.crossattention.self.query.weight";
    let relative = "encoder.layer.1.attention.self.distance_embedding.weight";
    for name in [cross, relative, "embeddings.rotary.weight", "encoder.layer.2.output.dense.weight"]
    {
        let message = complaint(&mut bert(&[name], &[]).1);
        assert!(message.contains(name) && message.contains("not supported"), "{message}");
    }
    let crossing = [("is_decoder", json!(true)), ("add_cross_attention", json!(true))];
    let message = complaint(&mut bert(&[], &crossing).1);
    assert!(
        message.contains("`add_cross_attention`") && message.contains("not supported"),
        "{message}"
    );
    // Indices as older files hold them, and what comes after the encoder.
    for harmless in ["embeddings.position_ids", "pooler.dense.weight", "cls.predictions.bias"] {
        bert(&[harmless], &[]).1.assert().success();
    }
}

/// A BERT that is a decoder sees what is before: the first token itself alone.
#[test]
fn a_bert_that_is_a_decoder_is_causal() {
    for (decoder, visible) in [(false, "all"), (true, "before")] {
        let (_folder, mut command) = bert(&[], &[("is_decoder", json!(decoder))]);
        let output = command.args(["--query", "0"]).assert().success();
        let document: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
        assert_eq!(document["model"]["visible"], visible);
        let first = &document["queries"][0];
        assert_eq!(first["query"], 0);
        let keys = first["likeliest_keys"][0][0].as_array().unwrap();
        let mass: f64 =
            keys.iter().filter(|pair| pair[0] != 0).map(|p| p[1].as_f64().unwrap()).sum();
        assert_eq!(mass == 0.0, decoder, "{keys:?}");
    }
}
