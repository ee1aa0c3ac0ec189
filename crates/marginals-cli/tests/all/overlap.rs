//! Outputs that are inputs: refused before anything is written, by whatever name.
#![cfg(unix)]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::common::files::{Folder, numbers};
use crate::common::write_model;

const BINARY: &str = env!("CARGO_BIN_EXE_marginals");

/// Every file below `folder` and its bytes.
fn content(folder: &Path) -> HashMap<String, Vec<u8>> {
    let mut all = HashMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => {
                    let bytes = fs::read(entry.path()).unwrap_or_default();
                    all.insert(entry.path().display().to_string(), bytes);
                }
            }
        }
    }
    all
}

/// Runs the command, which must refuse an output that is `kind` and leave everything as it was.
#[track_caller]
fn refuse(folder: &Path, arguments: &[&str], kind: &str) {
    let before = content(folder);
    let output = Command::new(BINARY).current_dir(folder).args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
    let words = format!("it is {kind}");
    assert!(told.contains(&words) && told.contains("name another place"), "{arguments:?}: {told}");
    assert_eq!(content(folder), before, "{arguments:?}");
}

#[test]
fn infer_keeps_model_input_and_weights() {
    let tensor = |seed, count| (vec![1, 1, count / 2, 2], numbers(seed, count));
    let inputs =
        [("q", 6), ("k", 8), ("v", 8)].map(|(name, n)| (name.to_owned(), tensor(n as f64, n)));
    let folder =
        Folder::new("structure = \"each-query-picks-one\"\npotential = \"dot\"", &inputs.into());
    let at = |name: &str| folder.0.path().join(name);
    symlink("in.safetensors", at("soft")).unwrap();
    fs::hard_link(at("in.safetensors"), at("hard")).unwrap();
    fs::hard_link(at("model.toml"), at("same-model")).unwrap();
    fs::write(at("slots.toml"), "mechanism = { slots = { weights = \"w.safetensors\" } }").unwrap();
    fs::copy(at("in.safetensors"), at("w.safetensors")).unwrap();
    for (model, output, kind) in [
        ("model.toml", "in.safetensors", "the input"),
        ("model.toml", "./in.safetensors", "the input"),
        ("model.toml", "soft", "the input"),
        ("model.toml", "hard", "the input"),
        ("model.toml", "model.toml", "the model"),
        ("model.toml", "same-model", "the model"),
        ("slots.toml", "w.safetensors", "the weights"),
    ] {
        let arguments =
            ["infer", "--model", model, "--input", "in.safetensors", "--output", output];
        refuse(folder.0.path(), &arguments, kind);
    }
    // Another file in its place is what it always was.
    folder.infer(&["--output", "w.safetensors"]).success();
}

#[test]
fn audit_keeps_model_and_text() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_model(&at("model"));
    fs::create_dir(at("out")).unwrap();
    fs::write(at("out/report.html"), "a single man in want of a wife").unwrap();
    refuse(folder.path(), &["audit", "model", "out/report.html", "--out", "out"], "the text");
    fs::remove_file(at("out/report.html")).unwrap();
    symlink("../model/config.json", at("out/audit.json")).unwrap();
    fs::write(at("text.txt"), "a single man in want of a wife").unwrap();
    refuse(folder.path(), &["audit", "model", "text.txt", "--out", "out"], "a file of the model");
    // Results may lie beside the model's files, and take the place of earlier ones.
    for _ in 0..2 {
        let audit = ["audit", "model", "text.txt", "--out", "model"];
        let output = Command::new(BINARY).current_dir(folder.path()).args(audit).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A report is no input, and still not to be replaced by another command's.
#[test]
fn reports_of_other_commands_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_model(&at("model"));
    fs::write(at("text.txt"), "a single man in want of a wife").unwrap();
    let refused = |arguments: &[&str], words: &str| {
        let before = content(folder.path());
        let mut command = Command::new(BINARY);
        let output = command.current_dir(folder.path()).args(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(words) && told.contains("report.html"), "{arguments:?}: {told}");
        assert!(told.contains("another place with `--out`"), "{told}");
        assert_eq!(content(folder.path()), before, "{arguments:?}");
    };
    let run = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        let output = command.current_dir(folder.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    fs::write(at("train.toml"), TRAIN).unwrap();
    fs::write(at("plays.txt"), "to be, or not to be: ".repeat(40)).unwrap();
    let train = |out| ["train", "--config", "train.toml", "--text", "plays.txt", "--out", out];
    run(&train("run"));
    for model in ["run", "run/model", "model"] {
        refused(&["audit", model, "text.txt", "--out", "run"], "a run of `marginals train`");
    }
    run(&train("run"));
    run(&["audit", "run", "text.txt", "--out", "audit"]);
    run(&["audit", "run", "text.txt", "--out", "audit"]);
    refused(&train("audit"), "no `run.json` lies beside it");
    refused(&["reproduce", "--quick", "--out", "audit"], "no `reproduce.json` lies beside it");
    fs::create_dir(at("other")).unwrap();
    fs::copy(at("run/report.html"), at("other/report.html")).unwrap();
    refused(&["audit", "model", "text.txt", "--out", "other"], "no `audit.json` lies beside it");
}

const TRAIN: &str = r#"
    [model]
    layers = 1
    width  = 8
    heads  = 2
    attention = { structure = "each-query-picks-one", prior = ["causal"], potential = "dot" }
    [batches]
    context = 8
    size    = 2
    steps   = 3
"#;

#[test]
fn train_keeps_configuration_and_texts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("run")).unwrap();
    fs::write(at("train.toml"), TRAIN).unwrap();
    fs::write(at("run/sample.txt"), "to be, or not to be: ".repeat(40)).unwrap();
    let train = ["train", "--config", "train.toml", "--text", "run/sample.txt", "--out", "run"];
    refuse(folder.path(), &train, "a text");
    fs::rename(at("run/sample.txt"), at("text.txt")).unwrap();
    fs::hard_link(at("train.toml"), at("run/run.json")).unwrap();
    let train = ["train", "--config", "train.toml", "--text", "text.txt", "--out", "run"];
    refuse(folder.path(), &train, "the configuration");
}
