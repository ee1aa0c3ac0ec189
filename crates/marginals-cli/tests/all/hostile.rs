//! Files that say what cannot be: exit code 2 and one paragraph, in no time and in no memory.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::files::{Folder, f32_bytes, raw};
use crate::common::{audit, complaint, tokenizer, write_model};
use serde_json::{Value, json};

const DOT: &str = "structure = \"each-query-picks-one\"\npotential = \"dot\"\n";

/// Refuses within seconds: what such a shape asks for takes gigabytes, or hours.
fn refuse(folder: &Folder, arguments: &[&str], words: &[&str]) {
    let start = Instant::now();
    folder.refuse(arguments, words);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn axes_that_hold_nothing_claim_nothing() {
    let nothing = Vec::new;
    let nodes = |shape: &[u64]| {
        let count = shape.iter().product::<u64>() as usize;
        f32_bytes(&vec![0.5; count])
    };
    let walk = "structure = { walk = { hops = 2 } }\npotential = \"dot\"\n";
    let three: &[u64] = &[1, 1, 3, 2];
    for paths in [&[1u64 << 32, 0][..], &[5, 0]] {
        let input = raw(
            &[
                ("q", "F32", three, nodes(three)),
                ("k", "F32", three, nodes(three)),
                ("paths", "I64", paths, nothing()),
            ],
            &[],
        );
        let told = &["`paths`", "0]"];
        refuse(&Folder::of_bytes(walk, &input), &["--ask", "paths"], told);
    }
    for huge in [1u64 << 32, 1 << 62] {
        for (axis, zero) in [(0, 2), (1, 2), (2, 3), (3, 2), (2, 0)] {
            let mut shape = [1, 1, 1, 1];
            (shape[axis], shape[zero]) = (huge, 0);
            let input = raw(&["q", "k", "v"].map(|name| (name, "F32", &shape[..], nothing())), &[]);
            refuse(&Folder::of_bytes(DOT, &input), &[], &["`q`", &huge.to_string(), "1048576"]);
            for (mechanism, tensors) in [
                ("{ hopfield = { beta = 1.0 } }", &["states", "patterns"][..]),
                ("{ mixture = { components = 2 } }", &["points"]),
                ("{ k-means = { components = 2 } }", &["points"]),
                ("{ expanding = { alpha = 1.0, beta = 2.0 } }", &["q", "k", "v"]),
            ] {
                let tensors: Vec<(&str, &str, &[u64], Vec<u8>)> =
                    tensors.iter().map(|name| (*name, "F32", &shape[..], nothing())).collect();
                let folder =
                    Folder::of_bytes(&format!("mechanism = {mechanism}"), &raw(&tensors, &[]));
                refuse(&folder, &[], &[tensors[0].0, "1048576"]);
            }
        }
    }
    // Each says little, and both together much.
    let answer = raw(
        &[
            ("q", "F32", &[1, 1, 1 << 20, 0], nothing()),
            ("k", "F32", &[1, 1, 0, 0], nothing()),
            ("v", "F32", &[1, 1, 0, 1 << 20], nothing()),
        ],
        &[],
    );
    refuse(&Folder::of_bytes(DOT, &answer), &[], &["`v`", "GB of memory"]);
    let matrix =
        raw(&["q", "k"].map(|name| (name, "F32", &[1, 1, 1 << 20, 0][..], nothing())), &[]);
    refuse(
        &Folder::of_bytes(DOT, &matrix),
        &["--ask", "marginals"],
        &["`marginals`", "GB of memory"],
    );
}

#[test]
fn sizes_of_model_files_are_refused() {
    let x: &[u64] = &[1, 4, 2];
    let matrix: &[u64] = &[2, 2];
    let mut tensors = vec![("inputs", "F32", x, f32_bytes(&[0.5; 8]))];
    for name in ["weights.to_q.weight", "weights.to_k.weight", "weights.to_v.weight"] {
        tensors.push((name, "F32", matrix, f32_bytes(&[1.0, 0.0, 0.0, 1.0])));
    }
    for name in ["weights.slots_mu", "weights.slots_logsigma"] {
        tensors.push((name, "F32", &[1, 1, 2], f32_bytes(&[0.0; 2])));
    }
    for name in [
        "weights.norm_input.weight",
        "weights.norm_input.bias",
        "weights.norm_slots.weight",
        "weights.norm_slots.bias",
    ] {
        tensors.push((name, "F32", &[2], f32_bytes(&[1.0; 2])));
    }
    let input = raw(&tensors, &[]);
    Folder::of_bytes("mechanism = { slots = { iterations = 2 } }", &input).infer(&[]).success();
    for size in [1u64 << 31, 1 << 62, (1 << 63) - 1] {
        for setting in ["slots", "iterations", "heads", "head-width"] {
            let model = format!("mechanism = {{ slots = {{ {setting} = {size} }} }}");
            let named = setting.replace('-', "_");
            refuse(&Folder::of_bytes(&model, &input), &[], &[&format!("`{named}`")]);
        }
    }
}

/// The message about a tokenizer in a model that is in order otherwise.
fn told(tokenizer: &Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    write_model(&model);
    fs::write(model.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(folder.path().join("text.txt"), "a single man in want of a wife").unwrap();
    let mut command = audit();
    command.arg(&model).arg(folder.path().join("text.txt"));
    complaint(command.arg("--out").arg(folder.path().join("out")))
}

#[test]
fn tokenizers_whose_parts_do_not_fit_are_refused() {
    let template = |single: Value, special: Value| {
        let mut tokenizer = tokenizer();
        tokenizer["post_processor"] = json!({
            "type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": special,
        });
        told(&tokenizer)
    };
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    let begin = json!({ "SpecialToken": { "id": "[B]", "type_id": 0 } });
    let special =
        |ids: Value, tokens: Value| json!({ "[B]": { "id": "[B]", "ids": ids, "tokens": tokens } });
    for message in [
        template(json!([begin, text]), special(json!([1, 2]), json!(["[B]"]))),
        template(json!([begin, text]), special(json!([1]), json!(["[B]", "[C]", "[D]"]))),
        // The second text of a pair, where there is one text.
        template(json!([{ "Sequence": { "id": "B", "type_id": 0 } }]), json!({})),
        template(json!([begin, text]), json!({})),
    ] {
        assert!(message.contains("tokenizer.json"), "{message}");
    }
    let uneven = template(json!([begin, text]), special(json!([1, 2]), json!(["[B]"])));
    assert!(uneven.contains("have 10 ids and 9 names"), "{uneven}");

    // A table of characters that ends in the middle.
    let mut broken = tokenizer();
    broken["normalizer"] = json!({ "type": "Precompiled", "precompiled_charsmap": "AAAAAA==" });
    assert!(told(&broken).contains("tokenizer.json"));
}

#[test]
fn sizes_of_configurations_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    write_model(&model);
    let whole: Value =
        serde_json::from_str(&fs::read_to_string(model.join("config.json")).unwrap()).unwrap();
    let keys: Vec<&String> =
        whole.as_object().unwrap().iter().filter(|(_, x)| x.is_u64()).map(|(key, _)| key).collect();
    assert!(keys.len() >= 6, "{keys:?}");
    for key in keys {
        for size in [1u64 << 31, 1 << 62, u64::MAX] {
            let mut config = whole.clone();
            config[key] = size.into();
            fs::write(model.join("config.json"), config.to_string()).unwrap();
            let mut command = audit();
            complaint(command.arg(&model).arg("--out").arg(folder.path().join("out")));
        }
    }
}
