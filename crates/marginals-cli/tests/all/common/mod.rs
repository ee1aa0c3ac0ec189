//! A BERT small enough to write in a test, and the command under test.

pub mod files;
pub mod pty;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// Longest text of the small model, in tokens.
pub const CONTEXT: usize = 16;
const WIDTH: usize = 8;
const LAYERS: usize = 2;
const HEADS: usize = 2;
const WORDS: [&str; 10] =
    ["[UNK]", "the", "a", "man", "wife", "fortune", "single", "in", "want", "of"];

/// `marginals audit`, with standard error plain.
pub fn audit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marginals"));
    command.arg("audit").env("NO_COLOR", "1");
    command
}

/// Runs the command, expects failure with exit code 2 and one paragraph, and returns it.
pub fn complaint(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    let message = String::from_utf8(output.stderr).expect("messages are UTF-8");
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.starts_with("error: "), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    assert_eq!(message.trim_end().lines().count(), 1, "{message}");
    message
}

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `config.json` of the small model.
pub fn config() -> Value {
    json!({
        "model_type": "bert", "vocab_size": WORDS.len(), "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 12,
        "hidden_act": "gelu", "max_position_embeddings": CONTEXT, "type_vocab_size": 1,
        "layer_norm_eps": 1e-12,
    })
}

/// `tokenizer.json` of the small model: one token per word.
pub fn tokenizer() -> Value {
    let vocabulary: BTreeMap<&str, usize> = WORDS.iter().copied().zip(0..).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]" },
    })
}

/// `model.safetensors` of the small model: smooth, deterministic weights.
pub fn weights() -> Vec<u8> {
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| {
        shapes.insert(name, shape.to_vec());
    };
    for (name, rows) in [("word", WORDS.len()), ("position", CONTEXT), ("token_type", 1)] {
        add(format!("embeddings.{name}_embeddings.weight"), &[rows, WIDTH]);
    }
    let mut norms = vec!["embeddings".to_owned()];
    for layer in 0..LAYERS {
        let layer = format!("encoder.layer.{layer}");
        for (name, outputs, inputs) in [
            ("attention.self.query", WIDTH, WIDTH),
            ("attention.self.key", WIDTH, WIDTH),
            ("attention.self.value", WIDTH, WIDTH),
            ("attention.output.dense", WIDTH, WIDTH),
            ("intermediate.dense", 12, WIDTH),
            ("output.dense", WIDTH, 12),
        ] {
            add(format!("{layer}.{name}.weight"), &[outputs, inputs]);
            add(format!("{layer}.{name}.bias"), &[outputs]);
        }
        norms.push(format!("{layer}.attention.output"));
        norms.push(format!("{layer}.output"));
    }
    for norm in norms {
        add(format!("{norm}.LayerNorm.weight"), &[WIDTH]);
        add(format!("{norm}.LayerNorm.bias"), &[WIDTH]);
    }
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .zip(1..)
        .map(|((name, shape), seed)| {
            let count: usize = shape.iter().product();
            let values = (0..count).map(|i| ((seed * 37 + i * 11) as f32).sin());
            (name, shape, values.flat_map(f32::to_le_bytes).collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("sizes agree"))
    });
    safetensors::serialize(views, None).expect("the weights serialise")
}

/// Writes the small model into `folder`.
pub fn write_model(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), config().to_string()).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer().to_string()).unwrap();
    fs::write(folder.join("model.safetensors"), weights()).unwrap();
}
