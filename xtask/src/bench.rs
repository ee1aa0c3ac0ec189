//! `cargo xtask bench`: measurements beside other libraries.

use crate::python;
use crate::step::{self, Failure};

const USAGE: &str = "\
usage: cargo xtask bench (peers | structured) [--quick] [--only WORD] | --table";

/// Benchmarks that there are.
const SUITES: [&str; 2] = ["peers", "structured"];

/// Runs the benchmarks named by the first argument; the rest is the benchmark program's.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    let suite = arguments.split_first().filter(|(first, _)| SUITES.contains(&first.as_str()));
    let Some((suite, rest)) = suite else { return Err(Failure::usage(USAGE)) };
    let table = rest.iter().any(|argument| argument == "--table");
    let mut command =
        step::cargo(["run", "--quiet", "--release", "--package", "marginals-peers", "--"]);
    command.arg(suite).args(rest);
    if table {
        // Only the table, so that it can be pasted or piped.
        return match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::new(format!("marginals-peers failed ({status})"))),
            Err(error) => Err(Failure::new(format!("cargo could not be started: {error}"))),
        };
    }
    let folder = step::root().join("benches").join("peers");
    let interpreter = python::interpreter("bench-python", &folder.join("requirements.txt"))?;
    command.arg("--python").arg(interpreter);
    command.arg("--scratch").arg(step::target().join("bench-scratch"));
    step::run("benchmarks beside PyTorch", &mut command).map(|_| ())
}
