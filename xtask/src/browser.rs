//! The audit's report in a browser: `crates/marginals-cli/tests/browser`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::step::{self, Failure};

/// Names that Chromium goes by.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Runs the script where there is a Chromium; otherwise says why it did not.
///
/// The program is the one that the tests before it have built.
pub fn check(times: &mut Vec<(&'static str, Duration)>) -> Result<Option<&'static str>, Failure> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    if named.or_else(|| NAMES.iter().find_map(|name| found(name))).is_none() {
        return Ok(Some(
            "there is no Chromium: the test of the report in a browser IS SKIPPED. Install it \
             (`apt-get install chromium`), or name it in the environment variable CHROMIUM",
        ));
    }
    let program = step::target().join("release").join("marginals");
    let script = step::root().join("crates/marginals-cli/tests/browser/report.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(program).current_dir(step::root());
    times.push(("report in a browser", step::run("report in a browser", &mut command)?));
    Ok(None)
}

/// A program of this name on the search path.
fn found(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_file(file))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file())
}
