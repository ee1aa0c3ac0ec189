//! `cargo xtask test`: every check, in the order in which a mistake is cheapest to find.

use std::process::Command;

use crate::browser;
use crate::imports;
use crate::step::{self, Failure};
use crate::wheel;

/// Runs all checks; the first that fails stops with its exit code.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    let mut times = Vec::new();
    match arguments {
        [] => {}
        [part] if part == "python" => {
            let skipped = wheel::check(&mut times)?;
            skipped.iter().for_each(|why| eprintln!("WARNING: {why}"));
            return Ok(());
        }
        [unknown, ..] => {
            return Err(Failure::usage(format!(
                "`cargo xtask test` takes no argument `{unknown}`"
            )));
        }
    }
    imports::check(step::root())?;
    for (name, mut command) in checks() {
        times.push((name, step::run(name, &mut command)?));
    }
    let skipped = [browser::check(&mut times)?, wheel::check(&mut times)?];
    println!("\nevery check passed");
    for (name, taken) in &times {
        println!("{:>8.1} s  {name}", taken.as_secs_f64());
    }
    let total: f64 = times.iter().map(|(_, taken)| taken.as_secs_f64()).sum();
    println!("{total:>8.1} s  in all");
    skipped.iter().flatten().for_each(|why| eprintln!("WARNING: {why}"));
    Ok(())
}

/// The checks and the commands that make them.
///
/// Tests run optimised: they enumerate, differentiate numerically and run pretrained models, and
/// what is built for them also serves `cargo run --release`. Lints and docs are made under the same
/// profile, so that macros and build scripts are compiled once. The kernels run once more with debug
/// assertions and overflow checks, which catch a wrong index where it happens.
fn checks() -> Vec<(&'static str, Command)> {
    let lints = ["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    let mut docs = step::cargo(["doc", "--release", "--workspace", "--no-deps"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    let mut tests = step::cargo(["test", "--release", "--workspace"]);
    tests.args(["--lib", "--bins", "--tests", "--examples"]);
    // That test runs its own suite again on the slower instructions; here they are steps.
    tests.args(["--", "--skip", "slower_paths_pass_the_whole_suite"]);
    let masked = |set| {
        // Of the whole workspace, as above: for one package Cargo would choose other features of its
        // dependencies and compile them again. What is built on the pass does not meet the
        // instructions by itself.
        let mut command = step::cargo(["test", "--release", "--workspace", "--test", "all"]);
        command.args(["--", "contract::", "coupled::", "torch_agreement::", "large_scores::"]);
        command.env("MARGINALS_INSTRUCTION_SET", set);
        command
    };
    vec![
        ("format", step::cargo(["fmt", "--all", "--check"])),
        ("lints", step::cargo(lints)),
        ("docs", docs),
        (
            "kernels with debug assertions",
            step::cargo(["test", "--package", "marginals-kernels", "--lib", "--tests"]),
        ),
        ("tests", tests),
        ("tests on plain code", masked("plain")),
        ("tests on AVX2", masked("avx2")),
        ("doc tests", step::cargo(["test", "--release", "--workspace", "--doc"])),
    ]
}
