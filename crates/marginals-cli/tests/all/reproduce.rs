//! `marginals reproduce`: the quick run from end to end, and what it refuses.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::complaint;
use assert_cmd::Command;
use serde_json::Value;

fn reproduce(out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marginals"));
    command.arg("reproduce").arg("--out").arg(out);
    command
}

fn quick(out: &Path, arguments: &[&str]) -> String {
    let output = reproduce(out).arg("--quick").args(arguments).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("tables are UTF-8")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_quick_run_works_from_end_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let table = quick(folder.path(), &["--threads", "2"]);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    for expected in ["two hops", "expanding, mean field", "diverged", "1/10", "report.html"] {
        assert!(table.contains(expected), "{expected} is not in:\n{table}");
    }
    for line in table
        .lines()
        .filter(|line| !line.contains("reproduce.json") && !line.contains("report.html"))
    {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let data: Value = serde_json::from_str(&read(&folder.path().join("reproduce.json"))).unwrap();
    assert_eq!(data["seeds"], 2);
    // No verdicts: neither in the data nor in the table nor on the page.
    let claims = data["claims"].as_array().unwrap();
    assert!(claims.len() > 10);
    for claim in claims {
        assert_eq!(
            (&claim["outcome"], &claim["found"]),
            (&"untested".into(), &Value::Null),
            "{claim}"
        );
    }
    assert!(table.contains("No verdict") && !table.contains("agree"), "{table}");
    assert_eq!(data["multihop_runs"].as_array().unwrap().len(), 7 * 2);
    assert_eq!(data["expanding_runs"].as_array().unwrap().len(), 2 * 5 * 2);
    for run in data["multihop_runs"].as_array().unwrap() {
        let attention = run["attention"].as_array().unwrap().iter();
        let sum: f64 = attention.map(|share| share.as_f64().unwrap()).sum();
        let whole = if run["mechanism"].as_str().unwrap().ends_with("sink") { 0.0 } else { 1.0 };
        assert!(sum > whole - 1e-4 && sum < 1.0 + 1e-4, "{run}");
    }
    for run in data["expanding_runs"].as_array().unwrap() {
        if let Some(found) = run["expansion"].as_object() {
            let number = |name: &str| found[name].as_f64().unwrap();
            assert_eq!(number("window_read"), 50.0);
            let needed = run["window_needed"].as_f64().unwrap();
            assert!(needed <= number("window_certified") && number("window_certified") <= 50.0);
            let width = run["dimension"].as_f64().unwrap();
            let cost = (number("window_certified") * width + number("iterations")) / (50.0 * width);
            assert!((cost - number("cost")).abs() < 1e-12);
        }
    }
    let page = read(&folder.path().join("report.html"));
    assert_eq!(page.matches("<svg").count(), 5);
    assert!(!page.contains(">agrees<") && !page.contains(">does not agree<"));
    assert_eq!(page.matches(">not tested<").count(), claims.len());
    for outside in ["http://", "https://", "src=", "<script"] {
        // The namespace of SVG is a name, not an address to open.
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(outside), "the page asks for {outside}");
    }
    for name in ["multihop-error", "multihop-attention", "expanding-window"] {
        let figure = read(&folder.path().join(format!("{name}.svg")));
        assert!(figure.starts_with("<svg") && figure.contains("prefers-color-scheme"), "{name}");
        assert!(!figure.contains("NaN"), "{name}");
    }
}

#[test]
fn numbers_are_the_same_at_one_thread_and_two() {
    let folder = tempfile::tempdir().unwrap();
    let of = |threads: &str| {
        let out = folder.path().join(threads);
        quick(&out, &["--threads", threads]);
        read(&out.join("reproduce.json"))
    };
    assert_eq!(of("1"), of("2"));
}

#[test]
fn one_problem_alone_is_a_part_of_both() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a");
    let table = quick(&out, &["multihop", "--seeds", "1"]);
    assert!(!table.contains("mean field"), "{table}");
    let data: Value = serde_json::from_str(&read(&out.join("reproduce.json"))).unwrap();
    assert_eq!(data["multihop_runs"].as_array().unwrap().len(), 7);
    assert!(data["expanding_runs"].as_array().unwrap().is_empty());
    assert!(!out.join("expanding-error.svg").exists());
}

#[test]
fn what_makes_no_experiment_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["--seeds", "0"][..],
        &["--seeds", "many"],
        &["--threads", "0"],
        &["neither"],
        &["--loud"],
    ] {
        let output = reproduce(folder.path()).args(arguments).output().expect("it starts");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "{arguments:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let taken = folder.path().join("taken");
    fs::write(&taken, "a file").unwrap();
    let message = complaint(reproduce(&taken.join("out")).arg("--quick"));
    assert!(message.contains("taken"), "{message}");
}

/// Runs that are finished are kept, and the same command comes to what it would have come to.
#[cfg(unix)]
#[test]
fn an_interrupted_run_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["multihop", "--seeds", "1", "--threads", "1"];
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    quick(&whole, &arguments);
    let start = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_marginals"))
            .args(["reproduce", "--quick", "--out"])
            .arg(&stopped)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts")
    };
    let child = start();
    let partial = stopped.join("partial.json");
    let patience = Instant::now();
    while !partial.exists() && patience.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::process::Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .expect("kill is a command of every Unix");
    let output = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{told}");
    let said = format!(
        " of 7 runs; written before: {}; the same command goes on from there\n",
        partial.display()
    );
    assert!(told.starts_with("stopped after ") && told.ends_with(&said), "{told}");
    // Another size is another experiment.
    let refused = complaint(reproduce(&stopped).args(arguments));
    assert!(refused.contains("partial.json` holds") && refused.contains("--quick"), "{refused}");

    let output = start().wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(
        told.starts_with("note: ") && told.contains(" of 7 runs were finished before"),
        "{told}"
    );
    let data = |out: &Path| read(&out.join("reproduce.json"));
    assert_eq!(data(&whole), data(&stopped));
    assert!(!partial.exists());
}

/// What is stopped on the way leaves nothing that looks like a result.
#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_marginals"))
        .args(["reproduce", "--threads", "1", "--out"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    std::thread::sleep(Duration::from_millis(500));
    // A job in the background ignores Ctrl-C, and its children inherit that; this they do not ignore.
    let interrupt = std::process::Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .expect("kill is a command of every Unix");
    assert!(interrupt.success());
    let start = Instant::now();
    let output = child.wait_with_output().expect("it ends");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(told.starts_with("stopped after "), "{told}");
    assert!(told.ends_with(" of 510 runs; nothing was written\n"), "{told}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
