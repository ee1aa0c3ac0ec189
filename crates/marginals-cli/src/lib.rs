//! The `marginals` command: posteriors of any tensors, audits of trained transformers, training, what
//! mechanisms are made of, and the paper's experiments again.
//!
//! Exit codes: 0 done; 2 anything that went wrong, with one paragraph on standard error; 130 stopped by
//! Ctrl-C or a request to end, with one line there.

mod audit;
mod broken;
mod chart;
mod explain;
mod foreign;
mod infer;
mod interruption;
mod message;
mod named_model;
mod output;
mod progress;
mod quantile;
mod reproduce;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Attention as exact posterior inference over the edges of a latent graph.
#[derive(Debug, Parser)]
#[command(name = "marginals", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Audit(audit::Arguments),
    Explain(explain::Arguments),
    /// Answer questions about the posterior of given tensors.
    Infer(infer::Arguments),
    Reproduce(reproduce::Arguments),
    Train(train::Arguments),
}

/// Runs the command that the arguments of the process name, and says how it ended.
pub fn main() -> ExitCode {
    let Cli { command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return usage(&told),
    };
    let result = match command {
        Command::Audit(arguments) => audit::run(&arguments).map_err(|e| e.to_string()),
        Command::Explain(arguments) => explain::run(&arguments).map_err(|e| e.to_string()),
        Command::Infer(arguments) => infer::run(&arguments).map_err(|e| e.to_string()),
        Command::Reproduce(arguments) => reproduce::run(&arguments).map_err(|e| e.to_string()),
        Command::Train(arguments) => train::run(&arguments).map_err(|e| e.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            message::error(&message);
            ExitCode::from(2)
        }
    }
}

/// Says how the command is used, and where it was used otherwise what was not understood.
fn usage(told: &clap::Error) -> ExitCode {
    let text = told.render().to_string();
    match text.strip_prefix("error: ") {
        // It quotes the arguments, which may be names that a pattern found.
        Some(fault) if !message::is_shown_as_it_is(&text) => message::error(fault),
        _ => told.exit(),
    }
    ExitCode::from(2)
}
