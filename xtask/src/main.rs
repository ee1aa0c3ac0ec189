//! Project tasks: `cargo xtask TASK …`, one module per task.

mod fetch;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask TASK

  fetch MODEL    bring a pinned pretrained model into models/ (minilm, smollm2)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((task, rest)) if task == "fetch" => fetch::run(rest),
        Some((task, _)) => Err(format!("unknown task `{task}`\n\n{USAGE}")),
        None => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}
