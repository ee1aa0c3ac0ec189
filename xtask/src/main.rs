//! Project tasks: `cargo xtask TASK …`, one module per task.

mod bench;
mod browser;
mod fetch;
mod imports;
mod python;
mod step;
mod test;
mod wheel;

use std::process::ExitCode;

use step::Failure;

const USAGE: &str = "\
usage: cargo xtask TASK

  test                     run every check: circles of imports, format, lints, docs, tests, doc
                           tests, the report in a browser, the package for Python
  test python              the last of them alone
  fetch NAME               bring a pinned model or data set into models/; without a name it lists them
  bench peers [--quick]    measure this engine and PyTorch in alternation
  bench structured         the same where edges depend on each other: chains, trees, subsets
  bench peers --table      print README's table from the newest results
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = match arguments.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("help", [].as_slice()),
    };
    let outcome = match task {
        "test" => test::run(rest),
        "fetch" => fetch::run(rest).map_err(Failure::usage),
        "bench" => bench::run(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        unknown => Err(Failure::usage(format!("there is no task `{unknown}`\n\n{USAGE}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}
