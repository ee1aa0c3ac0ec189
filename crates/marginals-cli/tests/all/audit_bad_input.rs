//! Whatever is wrong with the input: exit code 2, one paragraph, no panic, nothing half-written.

use std::fs::{self, File};
use std::path::Path;

use crate::common::{CONTEXT, audit, complaint, config, tokenizer, weights, write_model};
use serde_json::json;

const TEXT: &str = "a single man in want of a wife";

/// A folder with the small model, a text and a place for the output.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_model(&folder.path().join("model"));
        fs::write(folder.path().join("text.txt"), TEXT).unwrap();
        Scene { folder }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn complaint_of(&self, model: &Path, more: &[&str]) -> String {
        let mut command = audit();
        command.arg(model).arg(self.path("text.txt")).arg("--out").arg(self.path("out"));
        let message = complaint(command.args(more));
        let left: Vec<_> = fs::read_dir(self.path("out"))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "{left:?} were left behind");
        message
    }

    /// The complaint after writing `content` over a file of the model.
    fn complaint_with(&self, file: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path("model").join(file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        let message = self.complaint_of(&self.path("model"), &[]);
        fs::write(&path, before).unwrap();
        message
    }
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
}

#[test]
fn a_path_that_is_no_model() {
    let scene = Scene::new();
    says(
        &scene.complaint_of(&scene.path("nothing"), &[]),
        &["there is nothing at", "cargo xtask fetch"],
    );
    fs::create_dir(scene.path("empty")).unwrap();
    says(
        &scene.complaint_of(&scene.path("empty"), &[]),
        &["is not a model", "neither a config.json nor a GGUF file", "tokenizer.json"],
    );
    for file in ["tokenizer.json", "model.safetensors"] {
        let scene = Scene::new();
        fs::remove_file(scene.path("model").join(file)).unwrap();
        says(&scene.complaint_of(&scene.path("model"), &[]), &["no `", file]);
    }
}

#[test]
fn damaged_weights() {
    let scene = Scene::new();
    let whole = weights();
    for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        let message = scene.complaint_with("model.safetensors", &whole[..length]);
        says(&message, &["model.safetensors", "is damaged", "download it again"]);
    }
    let mut endless = whole.clone();
    endless[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    says(&scene.complaint_with("model.safetensors", &endless), &["is damaged"]);
    let shape = whole.windows(4).position(|part| part == b"[12]").expect("a bias of 12");
    let mut lying = whole.clone();
    lying[shape..shape + 4].copy_from_slice(b"[99]");
    says(&scene.complaint_with("model.safetensors", &lying), &["is damaged"]);
}

#[test]
fn configurations_that_cannot_be() {
    let scene = Scene::new();
    let changed = |key: &str, value: serde_json::Value| {
        let mut config = config();
        config[key] = value;
        scene.complaint_with("config.json", config.to_string())
    };
    says(&changed("num_attention_heads", json!(3)), &["does not divide", "3", "8"]);
    says(&changed("num_attention_heads", json!(0)), &["`num_attention_heads` is 0"]);
    says(&changed("num_hidden_layers", json!(3)), &["encoder.layer.2", "missing"]);
    says(&changed("hidden_size", json!(16)), &["has shape", "asks for"]);
    says(&changed("hidden_size", json!(1u64 << 62)), &["`hidden_size`", "more than any model"]);
    says(&changed("hidden_size", json!(-8)), &["config.json", "is damaged"]);
    says(&changed("hidden_act", json!("prelu")), &["prelu", "gelu"]);
    says(
        &changed("model_type", json!("mamba")),
        &["mamba", "`bert`", "`llama`", "`byte-lm` are read"],
    );
    says(&scene.complaint_with("config.json", "{"), &["config.json", "is damaged"]);
}

#[test]
fn broken_tokenizers() {
    let scene = Scene::new();
    says(&scene.complaint_with("tokenizer.json", "not json"), &["tokenizer.json", "fails"]);
    says(&scene.complaint_with("tokenizer.json", "{}"), &["tokenizer.json", "fails"]);
    let mut wider = tokenizer();
    wider["model"]["vocab"]["wife"] = json!(4000);
    says(
        &scene.complaint_with("tokenizer.json", wider.to_string()),
        &["token 4000", "do not belong together"],
    );
}

#[test]
fn texts_that_do_not_fit() {
    let scene = Scene::new();
    fs::write(scene.path("text.txt"), "wife ".repeat(CONTEXT + 1)).unwrap();
    says(
        &scene.complaint_of(&scene.path("model"), &[]),
        &["17 tokens long", "positions for 16", "--tokens 16"],
    );
    fs::write(scene.path("text.txt"), "  \n ").unwrap();
    says(&scene.complaint_of(&scene.path("model"), &[]), &["the text is empty"]);
    fs::write(scene.path("text.txt"), b"caf\xe9").unwrap();
    says(
        &scene.complaint_of(&scene.path("model"), &[]),
        &["cannot read the text", "text.txt", "is not UTF-8. Save it"],
    );
    fs::remove_file(scene.path("text.txt")).unwrap();
    says(&scene.complaint_of(&scene.path("model"), &[]), &["cannot read the text", "text.txt"]);
}

#[test]
fn a_query_that_is_not_there() {
    let scene = Scene::new();
    let message = scene.complaint_of(&scene.path("model"), &["--query", "8"]);
    says(&message, &["`--query 8`", "8 tokens"]);
}

#[test]
fn hostile_gguf_files() {
    let scene = Scene::new();
    let path = scene.path("model.gguf");
    let mut endless = b"GGUF\x03\0\0\0".to_vec();
    endless.extend([0xff; 16]);
    for (content, expected) in [
        (b"".to_vec(), "magic number"),
        (b"GGUF".to_vec(), "the version"),
        (b"GGUF\x09\0\0\0".to_vec(), "version 9"),
        (endless, "metadata entries"),
        (vec![0; 4096], "four letters GGUF"),
    ] {
        fs::write(&path, content).unwrap();
        says(&scene.complaint_of(&path, &[]), &["model.gguf", "is damaged", expected]);
    }
    let nothing = [b"GGUF\x03\0\0\0".as_slice(), &[0; 16]].concat();
    fs::write(&path, nothing).unwrap();
    says(&scene.complaint_of(&path, &[]), &["architecture is `(not given)`"]);
}

#[test]
fn folders_that_take_no_files() {
    let scene = Scene::new();
    let mut command = audit();
    command.arg(scene.path("model")).arg(scene.path("text.txt"));
    let under_a_file = scene.path("text.txt").join("out");
    let message = complaint(command.arg("--out").arg(under_a_file));
    says(&message, &["cannot write", "text.txt/out", "is writable"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output() {
    let scene = Scene::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_marginals"));
    command.arg("audit").arg(scene.path("model")).arg(scene.path("text.txt"));
    command.arg("--out").arg(scene.path("out")).args(["--format", "json"]).stdout(full);
    let output = command.output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    says(&message, &["error: cannot write to standard output", "No space left"]);
}
