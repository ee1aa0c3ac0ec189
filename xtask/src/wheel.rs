//! The package for Python: built as users build it, installed, and tested.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::python;
use crate::step::{self, Failure};

/// Bytes of a wheel at most.
const LARGEST: u64 = 8 << 20;

/// Builds the wheel, installs it in an environment under the target folder, and runs its tests.
///
/// The environment is kept between runs, PyTorch with it. Where that cannot be installed, its tests are
/// skipped, and the answer says so.
pub fn check(times: &mut Vec<(&'static str, Duration)>) -> Result<Option<&'static str>, Failure> {
    let package = step::root().join("bindings").join("python");
    let tests = package.join("tests");
    let given = std::env::var_os("MARGINALS_TEST_PYTHON").map(PathBuf::from);
    let (interpreter, has_torch) = match given {
        Some(given) => (given, true),
        None => {
            let interpreter = python::environment("test-python", &tests.join("requirements.txt"))?;
            let torch = python::also(&interpreter, &tests.join("requirements-torch.txt"));
            if let Err(failure) = &torch {
                eprintln!("WARNING: {}", failure.message);
            }
            (interpreter, torch.is_ok())
        }
    };
    remove(&wheels())?;
    let taken = step::run("wheel for Python", &mut build(&interpreter, &package))?;
    times.push(("wheel for Python", taken));
    let wheel = built()?;
    let mut install = Command::new(&interpreter);
    install.args(["-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps"]).arg(&wheel);
    step::run("install the wheel", &mut install)?;
    let mut pytest = Command::new(&interpreter);
    // Compiled beside nothing: the tests are of what was installed.
    pytest.args(["-m", "pytest", "-p", "no:cacheprovider"]).current_dir(&package);
    if has_torch {
        pytest.env("MARGINALS_TESTS_NEED_TORCH", "1");
    }
    times.push(("tests in Python", step::run("tests in Python", &mut pytest)?));
    Ok((!has_torch).then_some(
        "PyTorch could not be installed: the tests of the package for Python on its tensors ARE SKIPPED. \
         `MARGINALS_TEST_PYTHON` may name an interpreter that has it, with maturin and pytest",
    ))
}

/// The folder that the wheel is built in, and nothing else.
fn wheels() -> PathBuf {
    step::target().join("tested-wheel")
}

/// Removes a folder: what an earlier version has left there would be taken for what is built.
fn remove(folder: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::new(format!("{} cannot be removed: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

/// The command that builds it, with what the tests before it have compiled.
fn build(interpreter: &Path, package: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command.args(["-m", "maturin", "build", "--release", "--locked", "--manifest-path"]);
    command.arg(package.join("Cargo.toml")).arg("--interpreter").arg(interpreter);
    command.arg("--out").arg(wheels()).current_dir(step::root());
    command.env("CARGO_TARGET_DIR", step::target());
    command
}

/// The wheel that was built, which is refused where it is too large to be handed around.
fn built() -> Result<PathBuf, Failure> {
    let unread = |error: std::io::Error| Failure::new(format!("wheels cannot be read: {error}"));
    let entries = std::fs::read_dir(wheels()).map_err(unread)?;
    let paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>().map_err(unread)?;
    let is_wheel = |path: &&PathBuf| path.extension().is_some_and(|end| end == "whl");
    let wheel = paths.iter().find(is_wheel).ok_or_else(|| Failure::new("no wheel was built"))?;
    match wheel.metadata().map_err(unread)?.len() {
        size if size > LARGEST => {
            Err(Failure::new(format!("the wheel has {size} bytes, at most {LARGEST} are wanted")))
        }
        _ => Ok(wheel.clone()),
    }
}
