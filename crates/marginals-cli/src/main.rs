//! The `marginals` command: posteriors of any tensors.

mod infer;
mod output;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Attention as exact posterior inference over the edges of a latent graph.
#[derive(Debug, Parser)]
#[command(name = "marginals", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer questions about the posterior of given tensors.
    Infer(infer::Arguments),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Infer(arguments) => infer::run(&arguments).map_err(|e| e.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}
