//! A Python interpreter with pinned packages, in an environment of the workspace's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{self, Failure};

/// The interpreter that has what `requirements` lists.
///
/// The environment variable `MARGINALS_BENCH_PYTHON` may name one that has it already. Otherwise
/// an environment `name` is made in the target folder the first time, and again whenever the
/// requirements change.
pub fn interpreter(name: &str, requirements: &Path) -> Result<PathBuf, Failure> {
    if let Some(given) = std::env::var_os("MARGINALS_BENCH_PYTHON") {
        return Ok(given.into());
    }
    let wanted = std::fs::read_to_string(requirements).map_err(|error| {
        Failure::new(format!("{} cannot be read: {error}", requirements.display()))
    })?;
    let environment = step::target().join(name);
    let interpreter = environment.join("bin").join("python");
    // Written last, so that an installation cut short is done again.
    let installed = environment.join("installed-requirements.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|listed| listed == wanted) {
        return Ok(interpreter);
    }
    let mut create = Command::new("python3");
    step::run("make a Python environment", create.args(["-m", "venv"]).arg(&environment))?;
    let mut install = Command::new(&interpreter);
    install.args(["-m", "pip", "install", "--requirement"]).arg(requirements);
    step::run("install the pinned Python packages (several gigabytes)", &mut install)?;
    std::fs::write(&installed, wanted).map_err(|error| {
        Failure::new(format!("{} cannot be written: {error}", installed.display()))
    })?;
    Ok(interpreter)
}
