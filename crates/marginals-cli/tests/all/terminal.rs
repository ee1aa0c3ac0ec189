//! What reaches the terminal, and what happens where there is none to reach.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use crate::common::files::{Folder, f32_bytes, numbers, raw};
use crate::common::write_model;

const BINARY: &str = env!("CARGO_BIN_EXE_marginals");
const DOT: &str = "structure = \"each-query-picks-one\"\npotential = \"dot\"\n";

/// Standard error of a command that fails.
fn told(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).expect("messages are UTF-8")
}

fn infer(folder: &Folder, more: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.current_dir(folder.0.path()).args(["infer", "--model", "model.toml"]);
    command.args(["--input", "in.safetensors", "--output", "out.safetensors"]).args(more);
    command
}

fn input(more: (&str, &str, &[u64], Vec<u8>)) -> Vec<u8> {
    let node = |name, seed| (name, "F32", &[1u64, 1, 3, 2][..], f32_bytes(&numbers(seed, 6)));
    raw(&[node("q", 1.0), node("k", 2.0), node("v", 3.0), more], &[])
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_as_standard_error_changes_nothing() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let folder = Folder::of_bytes("structure = \"none\"", &input(("x", "U8", &[1], vec![0])));
    for arguments in [&["infer"][..], &["explain", "none"], &["none"], &["audit", "none"]] {
        let ended = Command::new(BINARY).args(arguments).stderr(full()).status().unwrap();
        assert_eq!(ended.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(infer(&folder, &[]).stderr(full()).status().unwrap().code(), Some(2));
    // A note that nobody can be told is no failure.
    let noted = Folder::of_bytes(DOT, &input(("attn_mask", "U8", &[1], vec![0])));
    assert_eq!(infer(&noted, &[]).stderr(full()).status().unwrap().code(), Some(0));
}

#[cfg(unix)]
#[test]
fn a_closed_standard_error_or_output_changes_nothing() {
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let run = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(arguments);
        command
    };
    let ended = run(&["explain", "none"]).stderr(closed()).status().unwrap();
    assert_eq!(ended.code(), Some(2));
    for arguments in [&["explain"][..], &["explain", "--table"], &["--help"], &["--version"]] {
        let ended = run(arguments).stdout(closed()).stderr(Stdio::piped()).output().unwrap();
        let told = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*told), (Some(0), ""), "{arguments:?}");
    }
}

/// Nothing that clears a screen, rings a bell or turns text round.
#[track_caller]
fn harmless(text: &str) {
    let obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!text.chars().any(obeyed), "{text:?}");
}

const HOSTILE: &str = "a\u{1b}[2J\u{7}\u{9b}31m\u{202e}b\rc";

#[test]
fn no_file_writes_to_the_terminal_but_text() {
    let tensor = |name: &str| input((name, "F32", &[1], f32_bytes(&[0.5])));
    let biased = format!("{DOT}prior = [\"bias\", {{ geometric = {{ rho = 0.1 }} }}]");
    for (model, bytes, ask) in [
        (biased.as_str(), tensor(HOSTILE), "mean"),
        (biased.as_str(), tensor(&format!("geometric.{HOSTILE}")), "mean"),
        (DOT, tensor(&format!("grad.{HOSTILE}")), "mean"),
        (DOT, tensor("x"), HOSTILE),
    ] {
        let message = told(&mut infer(&Folder::of_bytes(model, &bytes), &["--ask", ask]));
        harmless(&message);
        assert!(message.contains("\\u{1b}[2J"), "{message}");
    }
    let escaped = "a\\u001b[2J\\u009b31m\\u202eb";
    for model in [
        format!("structure = \"{escaped}\""),
        format!("{DOT}\"{escaped}\" = 1"),
        format!("{DOT}prior = [{{ \"{escaped}\" = 1 }}]"),
        format!("{DOT}prior = [{{ geometric = {{ rho = \"{escaped}\" }} }}]"),
        format!("mechanism = {{ slots = {{ weights = \"{escaped}\" }} }}"),
        "structure = \"\u{9b}31m\u{7f}\" = 3".to_owned(),
    ] {
        harmless(&told(&mut infer(&Folder::of_bytes(&model, &tensor("x")), &[])));
    }
    harmless(&told(Command::new(BINARY).args(["explain", HOSTILE])));
    harmless(&told(Command::new(BINARY).args([HOSTILE])));
    harmless(&told(Command::new(BINARY).args(["infer", &format!("--{HOSTILE}")])));

    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    write_model(&model);
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    for (from, to) in [("\"gelu\"", escaped), ("\"bert\"", escaped)] {
        let config = config.replace(from, &format!("\"{to}\""));
        fs::write(model.join("config.json"), config).unwrap();
        harmless(&told(Command::new(BINARY).arg("audit").arg(&model).current_dir(folder.path())));
    }
}

#[cfg(unix)]
#[test]
fn names_of_files_are_quoted_where_they_hold_controls() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join(HOSTILE);
    write_model(&model);
    fs::write(folder.path().join(format!("{HOSTILE}.txt")), "a single man in want of a wife")
        .unwrap();
    for format in ["text", "json"] {
        let audit = Command::new(BINARY)
            .current_dir(folder.path())
            .args([
                "audit",
                HOSTILE,
                &format!("{HOSTILE}.txt"),
                "--out",
                HOSTILE,
                "--format",
                format,
            ])
            .output()
            .unwrap();
        assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stderr));
        let shown = String::from_utf8(audit.stdout).unwrap();
        harmless(&shown);
        if format == "json" {
            let document: serde_json::Value = serde_json::from_str(&shown).unwrap();
            assert_eq!(document["model"]["name"], HOSTILE);
        }
    }
}

#[test]
fn long_inputs_are_cut_and_that_is_said() {
    let long = "x".repeat(100_000);
    let tensor = |name: &str| input((name, "F32", &[1], f32_bytes(&[0.5])));
    let biased = format!("{DOT}prior = [\"bias\", {{ geometric = {{ rho = 0.1 }} }}]");
    let mut messages = vec![
        told(&mut infer(&Folder::of_bytes(&biased, &tensor(&long)), &[])),
        told(&mut infer(&Folder::of_bytes(&biased, &tensor(&format!("geometric.{long}"))), &[])),
        told(&mut infer(&Folder::of_bytes(DOT, &tensor("x")), &["--ask", &long])),
        told(&mut infer(
            &Folder::of_bytes(DOT, &tensor("x")),
            &["--ask", &format!("top-k={long}")],
        )),
        told(&mut infer(
            &Folder::of_bytes(DOT, &tensor("x")),
            &["--ask", &vec!["kl"; 9999].join(",")],
        )),
    ];
    for model in [
        format!("structure = \"{long}\""),
        format!("structure = [{}]", vec!["1"; 9999].join(",")),
        format!("{DOT}{long} = 1"),
        format!("{DOT}prior = [{{ geometric = {{ rho = \"{long}\" }} }}]"),
        format!("{long} {long}"),
    ] {
        messages.push(told(&mut infer(&Folder::of_bytes(&model, &tensor("x")), &[])));
    }
    let shape = vec![1u64; 9999];
    let many_axes = raw(&[("q", "F32", &shape, f32_bytes(&[0.5]))], &[]);
    messages.push(told(&mut infer(&Folder::of_bytes(DOT, &many_axes), &[])));
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    write_model(&model);
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    for name in ["\"gelu\"", "\"bert\""] {
        let config = config.replace(name, &format!("\"{long}\""));
        fs::write(model.join("config.json"), config).unwrap();
        messages
            .push(told(Command::new(BINARY).arg("audit").arg(&model).current_dir(folder.path())));
    }
    for message in messages {
        let longest = message.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(longest < 1600 && message.lines().count() < 45, "{message}");
        assert!(message.contains("characters cut)"), "{message}");
    }
}
