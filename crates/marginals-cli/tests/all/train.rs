//! `marginals train`, end to end.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command as Assert;
use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_marginals");

fn marginals() -> Assert {
    Assert::new(BINARY)
}

const CONFIG: &str = r#"
seed            = 3
text            = ["text.txt"]
held-out        = 0.2
measure-every   = 5
measure-windows = 4
save-every      = 5

[model]
layers    = 2
width     = 16
heads     = 2
learn     = ["geometric.rho"]
attention = { structure = "each-query-picks-one", prior = ["causal", { geometric = { rho = 0.1 } }], potential = { rotary = { potential = "dot" } } }

[batches]
context = 32
size    = 4
steps   = STEPS

[optimiser]
rate    = 1e-2
warm-up = 5

[sample]
bytes = 20
"#;

fn folder(steps: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = "Tomorrow, and tomorrow, and tomorrow,\nCreeps in this petty pace from day to day\n";
    fs::write(folder.path().join("text.txt"), text.repeat(40)).unwrap();
    let config = CONFIG.replace("STEPS", &steps.to_string());
    fs::write(folder.path().join("train.toml"), config).unwrap();
    folder
}

fn arguments(folder: &Path, out: &str, threads: &str) -> Vec<String> {
    let (config, out) = (folder.join("train.toml"), folder.join(out));
    ["train", "--config", config.to_str().unwrap(), "--out", out.to_str().unwrap(), "--threads"]
        .into_iter()
        .chain([threads])
        .map(str::to_owned)
        .collect()
}

/// `run.json` without what depends on the clock.
fn numbers(folder: &Path, out: &str) -> Value {
    let text = fs::read_to_string(folder.join(out).join("run.json")).unwrap();
    let mut run: Value = serde_json::from_str(&text).unwrap();
    run.as_object_mut().unwrap().remove("timing");
    run
}

#[test]
fn a_run_learns_leaves_everything_and_is_the_same_at_any_number_of_threads() {
    let folder = folder(60);
    for (out, threads) in [("one", "1"), ("two", "2")] {
        let output = marginals().args(arguments(folder.path(), out, threads)).assert().success();
        let printed = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
        assert!(printed.contains("bits per byte held out"), "{printed}");
        assert!(output.get_output().stderr.is_empty(), "silent in a pipe");
    }
    let run = numbers(folder.path(), "one");
    assert_eq!(run, numbers(folder.path(), "two"));
    let train: Vec<f64> = serde_json::from_value(run["train"].clone()).unwrap();
    assert_eq!(train.len(), 60);
    assert!((train[0] - 8.0).abs() < 0.3, "the first guess is nearly uniform: {}", train[0]);
    let learned = run["held-out-bits-per-byte"].as_f64().unwrap();
    assert!(learned < 4.0, "{learned}");
    assert_eq!(run["learned"].as_array().unwrap().len(), 2);
    assert_eq!(run["held-out"].as_array().unwrap().len(), 12);
    for file in ["report.html", "curves.svg", "sample.txt", "model/model.safetensors"] {
        assert!(fs::metadata(folder.path().join("one").join(file)).unwrap().len() > 20, "{file}");
    }
    let same = |file: &str| {
        let read = |out: &str| fs::read(folder.path().join(out).join(file)).unwrap();
        assert_eq!(read("one"), read("two"), "{file}");
    };
    same("model/model.safetensors");
    same("sample.txt");

    // The trained model is one that can be audited.
    let report = folder.path().join("audit");
    marginals()
        .arg("audit")
        .arg(folder.path().join("one/model"))
        .arg(folder.path().join("text.txt"))
        .args(["--tokens", "64", "--out"])
        .arg(&report)
        .assert()
        .success();
    let audit: Value =
        serde_json::from_slice(&fs::read(report.join("audit.json")).unwrap()).unwrap();
    assert_eq!(audit["model"]["family"], "byte-lm");
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_numbers() {
    let folder = folder(400);
    marginals().args(arguments(folder.path(), "whole", "2")).assert().success();

    let state = folder.path().join("killed/state.safetensors");
    let mut child = Command::new(BINARY)
        .args(arguments(folder.path(), "killed", "2"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !state.exists() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(state.exists(), "a state was saved");
    assert!(!folder.path().join("killed/run.json").exists(), "it was killed on the way");

    // Started with other settings the state is refused, and stays.
    let config = folder.path().join("train.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("seed            = 3", "seed = 4")).unwrap();
    let refused = marginals().args(arguments(folder.path(), "killed", "1")).assert().code(2);
    let message = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(message.contains("`seed` is 3 there and 4 here"), "{message}");
    assert!(message.contains("--fresh"), "{message}");
    fs::write(&config, text).unwrap();

    // And over another text.
    let other = folder.path().join("other.txt");
    fs::write(
        &other,
        fs::read_to_string(folder.path().join("text.txt")).unwrap().replace("day", "dry"),
    )
    .unwrap();
    let arguments = |out| arguments(folder.path(), out, "1");
    let refused = marginals().args(arguments("killed")).arg("--text").arg(&other).assert().code(2);
    let message = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(message.contains("another text") && message.contains("--fresh"), "{message}");

    // What a process leaves that is killed while it writes.
    let leftover = folder.path().join("killed/.state.safetensors.x1.unfinished");
    fs::write(&leftover, b"half a st").unwrap();
    marginals().args(arguments("killed")).assert().success();
    assert_eq!(numbers(folder.path(), "whole"), numbers(folder.path(), "killed"));
    assert!(!leftover.exists());

    // A finished run is measured again, to the same numbers and with the same time; of another sample
    // it makes no other run.
    let timing = || -> Value {
        let run = fs::read(folder.path().join("killed/run.json")).unwrap();
        serde_json::from_slice::<Value>(&run).unwrap()["timing"].clone()
    };
    let (before, seconds) = (numbers(folder.path(), "killed"), timing()["seconds"].clone());
    marginals().args(arguments("killed")).assert().success();
    assert_eq!(before, numbers(folder.path(), "killed"));
    assert_eq!((&timing()["seconds"], &timing()["steps"]), (&seconds, &Value::from(400)));
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("bytes = 20", "bytes = 30")).unwrap();
    marginals().args(arguments("killed")).assert().success();
    let after = numbers(folder.path(), "killed");
    assert_eq!(before["train"], after["train"]);
    assert_ne!(before["sample"]["text"], after["sample"]["text"]);
}

/// Starts a run, interrupts it `later` than it has saved a state, and returns what it says, ending on its
/// own with the code that says so.
#[cfg(unix)]
fn interrupted(folder: &Path, later: Duration) -> String {
    let mut child = Command::new(BINARY)
        .args(arguments(folder, "run", "1"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let state = folder.join("run/state.safetensors");
    let soon = |happened: &mut dyn FnMut() -> bool| {
        let start = Instant::now();
        while !happened() && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    soon(&mut || state.exists());
    std::thread::sleep(later);
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    soon(&mut || child.try_wait().unwrap().is_some());
    // One that does not listen would never end.
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.starts_with("stopped"), "{message}");
    message
}

#[cfg(unix)]
#[test]
fn a_run_that_is_interrupted_saves_its_state() {
    let folder = folder(100_000);
    let message = interrupted(folder.path(), Duration::ZERO);
    assert!(message.contains("The state is saved"), "{message}");
    // A state every five steps: only one that is saved on the way out is of another number.
    let step: usize = message.split(' ').filter_map(|word| word.parse().ok()).next().unwrap();
    let state = fs::read(folder.path().join("run/state.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&state).unwrap();
    let progress: Value =
        serde_json::from_str(&header.metadata().as_ref().unwrap()["progress"]).unwrap();
    assert_eq!(progress["losses"].as_array().unwrap().len(), step);
}

/// After the last step there is nothing to save.
#[cfg(unix)]
#[test]
fn a_finished_run_can_be_stopped_while_it_is_measured() {
    let folder = folder(5);
    let config = folder.path().join("train.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("bytes = 20", "bytes = 100_000_000")).unwrap();
    let message = interrupted(folder.path(), Duration::from_millis(300));
    assert!(message.contains("before the results were written"), "{message}");
    assert!(!folder.path().join("run/run.json").exists());
}

/// Whatever bytes of its records a saved state has lost, a run goes on or says that it cannot.
#[test]
fn damaged_states_are_refused_by_name() {
    let folder = folder(3);
    let run = || marginals().args(arguments(folder.path(), "run", "1")).output().unwrap();
    assert!(run().status.success());
    let path = folder.path().join("run/state.safetensors");
    let whole = fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let parts = ["model", "optimiser"].map(|name| {
        let data = file.tensor(name).unwrap().data();
        (data.as_ptr() as usize - whole.as_ptr() as usize, data.len())
    });
    let mut refused = 0;
    for (start, length) in parts {
        // Names and shapes come first, numbers after them.
        let places = (0..14).map(|i| i * 3).chain((0..30).map(|i| 50 + i * 97)).chain([length - 4]);
        for place in places.filter(|place| *place < length) {
            for byte in [0x00, 0xff, whole[start + place] ^ 0x20] {
                let mut damaged = whole.clone();
                damaged[start + place] = byte;
                fs::write(&path, damaged).unwrap();
                let output = run();
                let message = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(!message.contains("panicked"), "{message}");
                match output.status.code() {
                    Some(0) => assert_eq!(message, ""),
                    Some(2) => {
                        refused += 1;
                        let named = message.contains("state.safetensors`: the saved state cannot");
                        assert!(named || message.contains("diverged"), "{message}");
                        assert_eq!(message.trim_end().lines().count(), 1, "{message}");
                    }
                    other => panic!("{other:?}: {message}"),
                }
            }
        }
    }
    assert!(refused > 60, "{refused}");
}

#[test]
fn what_makes_no_run_is_refused_by_name() {
    let folder = folder(5);
    let config = folder.path().join("train.toml");
    let good = fs::read_to_string(&config).unwrap();
    let refused = |config: &str, text: Option<&[u8]>| {
        fs::write(folder.path().join("train.toml"), config).unwrap();
        if let Some(text) = text {
            fs::write(folder.path().join("text.txt"), text).unwrap();
        }
        let output = marginals().args(arguments(folder.path(), "run", "1")).assert().code(2);
        assert!(!folder.path().join("run/run.json").exists());
        String::from_utf8_lossy(&output.get_output().stderr).into_owned()
    };
    for (from, to, told) in [
        ("context = 32", "context = 0", "batches.context"),
        ("context = 32", "contxt = 32", "contxt"),
        ("\"causal\", ", "", "causal"),
        ("heads     = 2", "heads = 3", "heads"),
        ("geometric.rho", "geometric.roh", "geometric.roh"),
        ("held-out        = 0.2", "held-out = 1.5", "held-out"),
        ("text            = [\"text.txt\"]", "", "--text"),
        ("text.txt", "absent.txt", "absent.txt"),
        ("rate    = 1e-2", "rate = -1.0", "optimiser.rate"),
        ("seed            = 3", "seed = \"x\"", "`seed` is \"x\""),
        ("rho = 0.1", "rho = 0.0", "train.toml"),
    ] {
        assert!(good.contains(from), "{from}");
        let message = refused(&good.replace(from, to), None);
        assert!(message.contains(told), "{from} → {to}: {message}");
    }
    assert!(refused(&good, Some(b"")).contains("text.txt"));
    assert!(refused(&good, Some(b"too short")).contains("at least 33 bytes"));

    // Any bytes are a text.
    let bytes: Vec<u8> = (0..4000u32).map(|i| (i * i % 251) as u8).collect();
    fs::write(folder.path().join("text.txt"), bytes).unwrap();
    marginals().args(arguments(folder.path(), "run", "1")).assert().success();
}
