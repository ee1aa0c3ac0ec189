//! The model that `marginals audit` is given: by its name, by the folder of a run, and what is none.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::common::{audit, complaint, write_model};
use serde_json::Value;

/// `audit.json` of an audit in `folder`, and what was said on standard error.
fn audited(folder: &Path, arguments: &[&str], input: &str) -> (Value, String) {
    let mut command = audit();
    let output = command.current_dir(folder).args(arguments).write_stdin(input).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    let json = fs::read(folder.join("audit/audit.json")).unwrap();
    (serde_json::from_slice(&json).unwrap(), told)
}

#[test]
fn the_bundled_model_has_a_name_and_reads_any_text() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.txt"), "To thine own self be true").unwrap();
    let (alone, _) = audited(folder.path(), &[], "");
    let (named, told) = audited(folder.path(), &["shakespeare"], "");
    assert_eq!((&alone, told.as_str()), (&named, ""));
    assert_eq!(named["model"]["name"], "shakespeare");
    assert_eq!(named["text"]["source"], "the opening of Macbeth");
    for (text, source) in [("mine.txt", "mine.txt"), ("-", "standard input")] {
        let input = "To thine own self be true";
        let (own, _) = audited(folder.path(), &["shakespeare", text], input);
        assert_eq!(own["text"]["source"], source);
        assert_eq!(own["text"]["text"], input);
        assert_eq!(own["model"], named["model"]);
    }
}

#[test]
fn a_folder_of_that_name_goes_before_it_and_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    write_model(&folder.path().join("shakespeare"));
    fs::write(folder.path().join("text.txt"), "a single man in want of a wife").unwrap();
    let (own, told) = audited(folder.path(), &["shakespeare", "text.txt"], "");
    assert_eq!(own["model"]["family"], "bert");
    assert!(told.starts_with("note: ") && told.contains("`./shakespeare`"), "{told}");
    let (own, told) = audited(folder.path(), &["./shakespeare", "text.txt"], "");
    assert_eq!((&own["model"]["family"], told.as_str()), (&"bert".into(), ""));
}

#[test]
fn a_text_where_the_model_belongs_is_told_what_to_type() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.txt"), "naïve, ".repeat(700)).unwrap();
    write_model(&folder.path().join("model"));
    let told = |arguments: &[&str]| complaint(audit().current_dir(folder.path()).args(arguments));
    let message = told(&["mine.txt"]);
    assert!(message.contains("`mine.txt` is a text"), "{message}");
    assert!(message.contains("`marginals audit shakespeare mine.txt`"), "{message}");
    assert!(told(&["-"]).contains("`marginals audit shakespeare -`"));
    assert!(told(&["mine.txt", "model"]).contains("`marginals audit model mine.txt`"));
    let message = told(&["shakespear"]);
    assert!(
        message.contains("nothing at `shakespear`") && message.contains("`shakespeare`"),
        "{message}"
    );
    assert!(!folder.path().join("audit").exists());
}

#[test]
fn files_of_other_kinds_are_told_how_to_convert() {
    let folder = tempfile::tempdir().unwrap();
    write_model(&folder.path().join("model"));
    let pickled = [b"PK\x03\x04", &[0; 26][..], b"archive/data.pkl"].concat();
    for (name, bytes, words) in [
        ("model.pt", &pickled[..], &["PyTorch", "save_file", "torch.load('model.pt'"][..]),
        ("q.npy", b"\x93NUMPY\x01\0v\0{'descr'", &["NumPy", "numpy.load('q.npy')"]),
        ("model.bin", b"version https://git-lfs.github.com/spec/v1\n", &["git lfs pull"]),
    ] {
        fs::write(folder.path().join(name), bytes).unwrap();
        let message = complaint(audit().current_dir(folder.path()).arg(name));
        for word in words.iter().chain(&[name]) {
            assert!(message.contains(word), "`{word}` is not in: {message}");
        }
    }
    let message = complaint(audit().current_dir(folder.path()).arg("model/model.safetensors"));
    assert!(message.contains("the folder that it lies in"), "{message}");
}

#[test]
fn an_empty_text_has_nothing_to_audit() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("empty.txt"), "").unwrap();
    write_model(&folder.path().join("model"));
    for model in ["model", "shakespeare"] {
        for text in ["empty.txt", "-"] {
            let mut command = audit();
            command.current_dir(folder.path()).args([model, text]).write_stdin("");
            let message = complaint(&mut command);
            assert!(
                message.contains("nothing to audit") && message.contains("is empty"),
                "{message}"
            );
        }
    }
    assert!(!folder.path().join("audit").exists());
}

/// Of a run that goes on, and one that was killed.
#[test]
fn a_run_is_audited_at_every_save() {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"
        text       = ["text.txt"]
        held-out   = 0.2
        save-every = 2
        [model]
        layers = 1
        width  = 8
        heads  = 2
        attention = { structure = "each-query-picks-one", prior = ["causal"], potential = "dot" }
        [batches]
        context = 8
        size    = 2
        steps   = 1_000_000
    "#;
    fs::write(folder.path().join("train.toml"), config).unwrap();
    fs::write(folder.path().join("text.txt"), "to be, or not to be: ".repeat(40)).unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_marginals"))
        .current_dir(folder.path())
        .args(["train", "--config", "train.toml", "--out", "my-run", "--threads", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let state = folder.path().join("my-run/state.safetensors");
    for _ in 0..6000 {
        if state.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let arguments = ["my-run", "text.txt", "--tokens", "50"];
    let (meanwhile, _) = audited(folder.path(), &arguments, "");
    child.kill().unwrap();
    child.wait().unwrap();
    let (killed, _) = audited(folder.path(), &arguments, "");
    for found in [meanwhile, killed] {
        assert_eq!(
            (&found["model"]["name"], &found["model"]["family"]),
            (&"my-run".into(), &"byte-lm".into())
        );
    }
    fs::remove_dir_all(folder.path().join("my-run/model")).unwrap();
    let message = complaint(audit().current_dir(folder.path()).args(arguments));
    assert!(
        message.contains("`my-run` is a run") && message.contains("marginals train"),
        "{message}"
    );
}
