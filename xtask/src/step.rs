//! Running other programs one after another, with what ran and how long it took on the screen.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Why a task stopped, and the exit code it stops with.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong, in words.
    pub message: String,
    /// The exit code of the program that failed; 2 where the request itself was wrong.
    pub code: u8,
}

impl Failure {
    /// The task was asked for something it does not do.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }

    /// The task could not do what it was asked for.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }
}

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace's root")
}

/// Where build output goes; every task keeps what it makes in here.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs this task, in the workspace's root.
pub fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs `command`, its output going where ours goes, and says how long it took.
///
/// A program that fails passes its exit code on; one that a signal ended counts as 1.
pub fn run(name: &str, command: &mut Command) -> Result<Duration, Failure> {
    println!("\n── {name}");
    let start = Instant::now();
    let status = command.status().map_err(|error| {
        Failure::new(format!("{:?} could not be started: {error}", command.get_program()))
    })?;
    let taken = start.elapsed();
    if status.success() {
        println!("── {name}: {:.1} s", taken.as_secs_f64());
        return Ok(taken);
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Err(Failure { message: format!("{name} failed ({status})"), code })
}
