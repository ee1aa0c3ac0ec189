//! `marginals train`: language models over bytes whose attention is any model.

mod curves;
mod document;
mod error;
mod sparkline;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use marginals_burn::TrainedByteLm;
use marginals_burn::checkpoint::weights::Storage;
use marginals_burn::train::{Corpus, TrainConfig, TrainError, Training};

use self::document::{Document, TextSection};
pub use self::error::Error;
use crate::chart;
use crate::message;
use crate::output;

/// Train a language model over bytes whose attention is any model.
///
/// The state is saved on the way, on Ctrl-C and at the end; the same command goes on from it, and
/// comes to the same numbers as a run that was never stopped. In the end DIR holds run.json,
/// report.html, curves.svg, sample.txt, and in DIR/model the trained model, which `marginals audit`
/// reads.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run, in TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A text to train on, instead of those the configuration names; may be given several times
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,
    /// Where everything goes
    #[arg(long, value_name = "DIR", default_value = "run")]
    out: PathBuf,
    /// Start over, even where there is a saved state
    #[arg(long)]
    fresh: bool,
    /// Threads to use; without it, as many as there are cores. The numbers do not depend on it
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// The saved state within the output folder.
const STATE: &str = "state.safetensors";

/// Requests by signals, and the state that they find.
#[derive(Default)]
struct Signals {
    /// That the run stop after its step.
    stop: AtomicBool,
    /// Whether there is nothing to save and nothing being written: the program may end anywhere.
    idle: AtomicBool,
}

impl Signals {
    fn arrived(&self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.idle.load(Ordering::Relaxed) {
            message::error(
                "stopped after the last step, before the results were written. The state is saved: the \
                 same command without --fresh writes them",
            );
            std::process::exit(2);
        }
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let threads = arguments.threads.map_or(0, usize::from);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| Error::Threads { threads, reason: error.to_string() })?;
    let signals = Arc::new(Signals::default());
    let caught = signals.clone();
    // Where signals cannot be caught the state is as old as the last save.
    let _ = ctrlc::set_handler(move || caught.arrived());
    pool.install(|| train(arguments, &signals))
}

fn train(arguments: &Arguments, signals: &Signals) -> Result<(), Error> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
    };
    let file = &arguments.config;
    let text =
        String::from_utf8(read(file)?).map_err(|_| Error::Encoding { path: file.clone() })?;
    let refused = |source| Error::Config { path: file.clone(), source };
    let config = TrainConfig::from_toml(&text).map_err(refused)?;
    let beside = arguments.config.parent().unwrap_or(Path::new(""));
    let files: Vec<PathBuf> = match arguments.text.as_slice() {
        [] => config.text.iter().map(|file| beside.join(file)).collect(),
        given => given.to_vec(),
    };
    if files.is_empty() {
        return Err(Error::NoText { config: arguments.config.clone() });
    }
    let mut bytes = Vec::new();
    for file in &files {
        bytes.extend(read(file)?);
    }
    let names: Vec<String> = files
        .iter()
        .map(|file| file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned())
        .collect();
    let corpus = Corpus::split(bytes, config.held_out, config.batches.context)
        .map_err(|source| Error::Text { files: names.join(", "), source })?;
    output::prepare_folder(&arguments.out)?;

    let state = arguments.out.join(STATE);
    output::remove_leftovers(&state);
    let mut training = match state.exists() && !arguments.fresh {
        true => Training::resume(config, corpus, &read(&state)?)
            .map_err(|source| Error::State { path: state.clone(), source })?,
        false => Training::new(config, corpus).map_err(|error| match error {
            TrainError::Model(source) => refused(source),
            other => other.into(),
        })?,
    };
    let steps = training.config().batches.steps;
    let bar = progress_bar(training.losses().len(), steps);
    let stopped = |training: &Training| {
        let step = training.losses().len();
        Error::Stopped { step, steps, fresh: arguments.fresh }
    };
    while !training.is_done() {
        if signals.stop.load(Ordering::Relaxed) {
            output::write_whole(&state, &training.save()?)?;
            bar.finish_and_clear();
            return Err(stopped(&training));
        }
        training.step()?;
        if training.is_measured_here() {
            training.measure()?;
        }
        if training.is_saved_here() {
            output::write_whole(&state, &training.save()?)?;
        }
        if !bar.is_hidden() {
            bar.set_message(curves::progress(&training));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    // Everything there is to save is saved.
    signals.idle.store(true, Ordering::Relaxed);
    if signals.stop.load(Ordering::Relaxed) {
        return Err(stopped(&training));
    }
    let bar =
        ProgressBar::new_spinner().with_message("measuring the held-out text, writing the sample");
    bar.enable_steady_tick(Duration::from_millis(100));
    let text = TextSection {
        files: names,
        bytes_trained_on: training.corpus().train.len(),
        bytes_held_out: training.corpus().held_out.len(),
    };
    let document = Document::new(&training, text)?;
    bar.finish_and_clear();
    signals.idle.store(false, Ordering::Relaxed);
    write(&arguments.out, &training, &document)?;
    let folder = arguments.out.display().to_string();
    output::print(&format!("{}\n{}\n", document.summary(), message::on_one_line(&folder)))?;
    Ok(())
}

/// Everything a finished run leaves behind, beside its state.
fn write(out: &Path, training: &Training, document: &Document) -> Result<(), Error> {
    let unwritten = |error: &dyn ToString| Error::Report(error.to_string());
    let json = serde_json::to_vec_pretty(document).map_err(|e| unwritten(&e))?;
    let picture = curves::svg(document);
    let curves = chart::alone(&picture);
    let report = document.report(&picture).map_err(|e| unwritten(&e))?;
    let model = TrainedByteLm::new(training.config().lm(), training.model());
    let (config, weights) = model.save(Storage::F16).map_err(|e| unwritten(&e))?;
    let folder = out.join("model");
    output::prepare_folder(&folder)?;
    for (path, bytes) in [
        (folder.join("config.json"), config.as_slice()),
        (folder.join("model.safetensors"), &weights),
        (out.join("run.json"), &json),
        (out.join("curves.svg"), curves.as_bytes()),
        (out.join("sample.txt"), document.sample_text().as_bytes()),
        (out.join("report.html"), report.as_bytes()),
    ] {
        output::write_whole(&path, bytes)?;
    }
    Ok(())
}

/// Draws to standard error, and only where that is a terminal.
fn progress_bar(done: usize, steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64).with_position(done as u64);
    let template = "{bar:24} step {pos}/{len}  {msg}  {elapsed} ({eta} left)";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.reset_eta();
    bar
}
