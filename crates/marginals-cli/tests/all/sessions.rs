//! Long commands as somebody sees them who sits at a terminal, stops them, and goes on.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::files::{Folder, numbers};
use crate::common::pty::{Terminal, screen};
use crate::common::{audit, complaint};

const BINARY: &str = env!("CARGO_BIN_EXE_marginals");
const STOPPED: Option<i32> = Some(130);

/// Time in which a request to end is answered, on a machine that has other things to do; what is stopped
/// here would take minutes.
const SOON: Duration = Duration::from_secs(5);

const CONFIG: &str = r#"
text       = ["text.txt"]
held-out   = 0.2
save-every = 10
measure-every = 10
[model]
layers = 1
width  = 16
heads  = 2
attention = { structure = "each-query-picks-one", prior = ["causal"], potential = "dot" }
[batches]
context = CONTEXT
size    = SIZE
steps   = STEPS
"#;

fn write_config(folder: &Path, context: usize, size: usize, steps: usize) {
    let config = CONFIG
        .replace("CONTEXT", &context.to_string())
        .replace("SIZE", &size.to_string())
        .replace("STEPS", &steps.to_string());
    fs::write(folder.join("train.toml"), config).unwrap();
}

/// A folder with a run of training.
fn to_train(context: usize, size: usize, steps: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = "Tomorrow, and tomorrow, and tomorrow,\n".repeat(40 + context / 4);
    fs::write(folder.path().join("text.txt"), text).unwrap();
    write_config(folder.path(), context, size, steps);
    folder
}

const TRAIN: &str = "train --config train.toml --threads 1";

/// Every line that the screen had at some time, as progress was written over it.
fn rows(shown: &str) -> impl Iterator<Item = &str> {
    shown.split(['\r', '\n']).map(|row| row.trim_start_matches("\u{1b}[2K"))
}

/// Its length without what terminals obey.
fn columns(row: &str) -> usize {
    console::measure_text_width(row)
}

/// The step that the line which was drawn last counts.
fn last_step(shown: &str) -> usize {
    let number = |row: &str| row.split("step ").nth(1)?.split('/').next()?.parse().ok();
    rows(shown).filter_map(number).last().unwrap_or(0)
}

/// The text that stays on the screen, without spaces, which go astray where lines are broken.
fn left_on_screen(shown: &str, width: usize) -> String {
    screen(shown, width).concat().replace(' ', "")
}

#[test]
fn training_fits_the_terminal_and_leaves_a_clean_line() {
    let folder = to_train(16, 2, 1_000_000);
    for width in [80, 50] {
        let mut terminal = Terminal::start(folder.path(), width, TRAIN);
        terminal.wait_for(" left");
        if width == 80 {
            terminal.wait_for("bits/byte, held out");
        }
        terminal.interrupt();
        let (code, shown) = terminal.end();
        assert_eq!(code, STOPPED, "{shown}");
        for row in rows(&shown).filter(|row| row.contains(" step ")) {
            assert!(columns(row) <= width || row.contains("stopped"), "{width}: {row:?}");
        }
        assert!(!shown.contains("error"), "{shown}");
        // A number that is cut looks like another.
        let number = |row: &str| row.split("held out ").nth(1)?.get(..5)?.parse::<f64>().ok();
        assert!(width < 80 || rows(&shown).any(|row| number(row).is_some()), "{shown}");
        // One sentence is all that stays.
        let left = left_on_screen(&shown, width);
        assert!(left.starts_with("stoppedafterstep"), "{left:?}");
        assert!(left.ends_with("thesamecommandgoeson"), "{left:?}");
    }
}

/// Where nothing is counted yet, what the terminal wrote for Ctrl-C goes too.
#[test]
fn a_command_that_has_not_begun_to_count_leaves_a_clean_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    let made = Command::new("mkfifo").arg(&text).status().expect("mkfifo is there");
    assert!(made.success());
    for command in ["audit shakespeare text", "infer --model text --input none --output none"] {
        let mut terminal = Terminal::start(folder.path(), 80, command);
        // It can be written to once the command reads it, and waits.
        let _writer = fs::File::options().write(true).open(&text).unwrap();
        terminal.interrupt();
        let (code, shown) = terminal.end();
        assert_eq!(code, STOPPED, "{shown}");
        assert_eq!(screen(&shown, 80).concat(), "stopped; nothing was written", "{shown:?}");
    }
}

/// Some of a run is done when it is gone on with: what is left must not look like no time at all.
#[test]
fn the_time_left_after_a_resume_is_that_of_the_steps_left() {
    let folder = to_train(16, 2, 1_000_000);
    let mut terminal = Terminal::start(folder.path(), 80, TRAIN);
    terminal.wait_until("300 steps", |shown| last_step(shown) > 300);
    terminal.interrupt();
    terminal.end();
    let mut terminal = Terminal::start(folder.path(), 80, TRAIN);
    terminal.wait_for(" left");
    terminal.interrupt();
    let (_, shown) = terminal.end();
    // Steps take a millisecond or more, and a million of them many minutes; at a pace at which the 300 steps
    // before were made at once it would be seconds.
    let left = rows(&shown).find(|row| row.contains(" left")).unwrap();
    let left = left.split(" left").next().unwrap().rsplit(' ').next().unwrap();
    assert!(left.ends_with(['m', 'h', 'd', 'w']), "{left}: {shown}");
}

fn started(folder: &Path, arguments: &[&str]) -> Child {
    Command::new(BINARY)
        .current_dir(folder)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for something that happens within a minute.
fn soon(happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !happened() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal, and returns what the command says as it ends.
fn stopped(child: Child, signal: &str) -> String {
    let start = Instant::now();
    Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(start.elapsed() < SOON, "{:?}: {told}", start.elapsed());
    assert_eq!(output.status.code(), STOPPED, "{told}");
    assert!(!told.contains("error"), "{told}");
    told
}

#[test]
fn a_step_of_minutes_does_not_delay_the_end() {
    let folder = to_train(4096, 16, 10);
    let child = started(folder.path(), &["train", "--config", "train.toml", "--threads", "1"]);
    soon(|| folder.path().join("run/.train.lock").exists());
    std::thread::sleep(Duration::from_millis(1500));
    let told = stopped(child, "-INT");
    assert!(told.starts_with("stopped after step 0 of 10. The state is saved"), "{told}");
    let state = fs::read(folder.path().join("run/state.safetensors")).unwrap();
    safetensors::SafeTensors::deserialize(&state).unwrap();
}

#[test]
fn an_audit_ends_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("long.txt"), "Tomorrow, and tomorrow\n".repeat(4000)).unwrap();
    for signal in ["-INT", "-TERM"] {
        let child = started(folder.path(), &["audit", "shakespeare", "long.txt", "--threads", "1"]);
        soon(|| folder.path().join("audit").exists());
        std::thread::sleep(Duration::from_millis(1500));
        let told = stopped(child, signal);
        assert_eq!(told, "stopped after 0 of 4 layers; nothing was written\n");
    }
    assert_eq!(fs::read_dir(folder.path().join("audit")).unwrap().count(), 0);
    let mut terminal = Terminal::start(folder.path(), 80, "audit shakespeare long.txt --threads 1");
    terminal.wait_for("layer 0/4");
    let shown = terminal.shown();
    assert!(rows(&shown).all(|row| columns(row) <= 80), "{shown:?}");
    terminal.interrupt();
    let (code, shown) = terminal.end();
    assert_eq!(code, STOPPED);
    assert_eq!(left_on_screen(&shown, 80), "stoppedafter0of4layers;nothingwaswritten");
}

/// Questions to a large input are not asked to their end, and what was there stays.
#[test]
fn answers_that_take_minutes_end_with_a_word() {
    const NODES: usize = 200_000;
    let tensor = |seed| (vec![1, 1, NODES, 2], numbers(seed, 2 * NODES));
    let inputs = [("q", 1.0), ("k", 2.0), ("v", 3.0)].map(|(n, seed)| (n.to_owned(), tensor(seed)));
    let folder =
        Folder::new("structure = \"each-query-picks-one\"\npotential = \"dot\"", &inputs.into());
    let output = folder.0.path().join("out.safetensors");
    fs::write(&output, b"before").unwrap();
    let arguments =
        "infer --model model.toml --input in.safetensors --output out.safetensors --threads 1";
    for signal in ["-INT", "-TERM"] {
        let child = started(folder.0.path(), &arguments.split(' ').collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(stopped(child, signal), "stopped; nothing was written\n");
        assert_eq!(fs::read(&output).unwrap(), b"before");
    }
}

#[test]
fn two_trainings_of_one_folder_are_one_too_many() {
    let folder = to_train(16, 2, 1_000_000);
    let first = started(folder.path(), &["train", "--config", "train.toml", "--threads", "1"]);
    soon(|| folder.path().join("run/state.safetensors").exists());
    let train = |more: &[&str]| {
        let mut command = assert_cmd::Command::new(BINARY);
        command.current_dir(folder.path()).args(["train", "--config", "train.toml"]).args(more);
        command
    };
    for more in [&[][..], &["--fresh"]] {
        let told = complaint(&mut train(more));
        assert!(
            told.contains("another `marginals train` writes to `run`") && told.contains("--out"),
            "{told}"
        );
    }
    stopped(first, "-TERM");
    // It is free again.
    write_config(folder.path(), 16, 2, 20);
    train(&["--fresh"]).assert().success();
}

fn run_json(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("run/run.json")).unwrap()).unwrap()
}

#[test]
fn steps_can_be_raised_and_not_lowered() {
    let folder = to_train(16, 2, 20);
    let train = || {
        let mut command = assert_cmd::Command::new(BINARY);
        command.current_dir(folder.path()).args(["train", "--config", "train.toml"]);
        command
    };
    train().assert().success();
    let before = run_json(folder.path());
    assert!(before.get("raised").is_none());
    write_config(folder.path(), 16, 2, 45);
    let told = train().assert().success();
    let told = String::from_utf8_lossy(&told.get_output().stderr).into_owned();
    assert!(told.starts_with("note: 45 steps instead of 20: from step 20 on"), "{told}");
    let after = run_json(folder.path());
    let losses = |run: &Value| run["train"].as_array().unwrap().clone();
    assert_eq!(losses(&after).len(), 45);
    assert_eq!(losses(&after)[..20], losses(&before)[..]);
    assert_eq!(after["raised"], serde_json::json!([{ "at": 20, "from": 20, "to": 45 }]));
    let measured: Vec<u64> =
        after["held-out"].as_array().unwrap().iter().map(|p| p["step"].as_u64().unwrap()).collect();
    assert_eq!(measured, [10, 20, 30, 40, 45]);
    // Measured again: nothing was raised this time, and what was stays known.
    train().assert().success().stderr("");
    assert_eq!(run_json(folder.path())["raised"], after["raised"]);
    write_config(folder.path(), 16, 2, 30);
    let told = complaint(&mut train());
    assert!(
        told.contains("`batches.steps` is 45 there and 30 here, and can only be raised"),
        "{told}"
    );
}

#[test]
fn what_was_written_is_said_on_a_terminal_alone() {
    let tensor = |seed, count| (vec![1, 1, count / 2, 2], numbers(seed, count));
    let inputs =
        [("q", 6), ("k", 8), ("v", 8)].map(|(name, n)| (name.to_owned(), tensor(n as f64, n)));
    let folder =
        Folder::new("structure = \"each-query-picks-one\"\npotential = \"dot\"", &inputs.into());
    folder.infer(&["--ask", "mean,entropy"]).success().stdout("").stderr("");
    let infer = "infer --model model.toml --input in.safetensors --ask mean,entropy --output";
    let (code, shown) =
        Terminal::start(folder.0.path(), 80, &format!("{infer} out.safetensors")).end();
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(shown.trim_end(), "out.safetensors: entropy [1, 1, 3], mean [1, 1, 3, 2]");
    let (_, shown) = Terminal::start(folder.0.path(), 80, &format!("{infer} /dev/null")).end();
    assert_eq!(shown, "");
}

#[test]
fn leftovers_of_killed_runs_go_with_the_next() {
    let tensor = |seed, count| (vec![1, 1, count / 2, 2], numbers(seed, count));
    let inputs =
        [("q", 6), ("k", 8), ("v", 8)].map(|(name, n)| (name.to_owned(), tensor(n as f64, n)));
    let folder =
        Folder::new("structure = \"each-query-picks-one\"\npotential = \"dot\"", &inputs.into());
    let at = |name: &str| folder.0.path().join(name);
    fs::write(at(".out.safetensors.x1.unfinished"), b"half").unwrap();
    fs::write(at(".other.x1.unfinished"), b"somebody else's").unwrap();
    folder.infer(&[]).success();
    assert!(!at(".out.safetensors.x1.unfinished").exists() && at(".other.x1.unfinished").exists());

    fs::create_dir(at("audit")).unwrap();
    for name in [".audit.json.x1.unfinished", ".report.html.x1.unfinished"] {
        fs::write(at("audit").join(name), b"half").unwrap();
    }
    audit().current_dir(folder.0.path()).args(["--tokens", "9"]).assert().success();
    let mut names: Vec<_> =
        fs::read_dir(at("audit")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["audit.json", "report.html"]);
}

#[test]
fn temporary_names_are_never_told() {
    let folder = tempfile::tempdir().unwrap();
    for out in ["/proc/self", "/proc/self/fd/none"] {
        let told = complaint(audit().current_dir(folder.path()).args(["--out", out]));
        assert!(told.contains(out), "{told}");
        assert!(!told.contains("unfinished") && !told.contains("at path"), "{told}");
    }
}
