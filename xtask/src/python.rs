//! A Python interpreter with pinned packages, in an environment of the workspace's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{self, Failure};

/// The interpreter that has what `requirements` lists, for benchmarks.
///
/// The environment variable `MARGINALS_BENCH_PYTHON` may name one that has it already; otherwise it is that of
/// an [`environment`].
pub fn interpreter(name: &str, requirements: &Path) -> Result<PathBuf, Failure> {
    match std::env::var_os("MARGINALS_BENCH_PYTHON") {
        Some(given) => Ok(given.into()),
        None => environment(name, requirements),
    }
}

/// The interpreter of the environment `name` in the target folder, which is made the first time, and again
/// whenever the requirements change.
pub fn environment(name: &str, requirements: &Path) -> Result<PathBuf, Failure> {
    let environment = step::target().join(name);
    let interpreter = environment.join("bin").join("python");
    if !interpreter.exists() || !is_installed(&environment, requirements)? {
        let mut create = Command::new("python3");
        step::run("make a Python environment", create.args(["-m", "venv"]).arg(&environment))?;
    }
    also(&interpreter, requirements)?;
    Ok(interpreter)
}

/// Installs what `requirements` lists beside what the environment of `interpreter` has.
pub fn also(interpreter: &Path, requirements: &Path) -> Result<(), Failure> {
    let environment = interpreter.parent().and_then(Path::parent).expect("an environment's own");
    if is_installed(environment, requirements)? {
        return Ok(());
    }
    let mut install = Command::new(interpreter);
    // Most of what is installed is never run: it is compiled where it is.
    install
        .args(["-m", "pip", "install", "--quiet", "--no-compile", "--requirement"])
        .arg(requirements);
    step::run("install the pinned Python packages (PyTorch: several gigabytes)", &mut install)?;
    let marker = marker(environment, requirements);
    std::fs::write(&marker, wanted(requirements)?)
        .map_err(|error| Failure::new(format!("{} cannot be written: {error}", marker.display())))
}

/// Whether an environment has what `requirements` lists now.
fn is_installed(environment: &Path, requirements: &Path) -> Result<bool, Failure> {
    let wanted = wanted(requirements)?;
    Ok(std::fs::read_to_string(marker(environment, requirements)).is_ok_and(|had| had == wanted))
}

fn wanted(requirements: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(requirements).map_err(|error| {
        Failure::new(format!("{} cannot be read: {error}", requirements.display()))
    })
}

/// Where it is said what an environment has: written last, so that an installation cut short is done again.
fn marker(environment: &Path, requirements: &Path) -> PathBuf {
    let name = requirements.file_name().expect("a file").to_string_lossy();
    environment.join(format!("installed-{name}"))
}
