//! `marginals train`: language models over bytes whose attention is any model.

mod curves;
mod document;
mod error;
mod shared;
mod sparkline;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use clap::Args;
use marginals_burn::train::{Corpus, TrainConfig, TrainError, Training};

use self::document::{Document, TextSection};
pub use self::error::Error;
use self::shared::{Locked, Run};
use crate::output::{Input, STATE};
use crate::{chart, interruption, message, output, progress};

/// Train a language model over bytes whose attention is any model.
///
/// The state is saved on the way, on Ctrl-C and at the end; the same command goes on from it, and
/// comes to the same numbers as a run that was never stopped. With more steps in the configuration it goes
/// on to those. `marginals audit DIR` reads the model as it was last saved; in the end DIR holds run.json,
/// report.html, curves.svg and sample.txt too.
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

/// Files that a finished run leaves behind, beside those that it saves on the way.
const RESULTS: [&str; 4] = ["run.json", "curves.svg", "sample.txt", "report.html"];

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let threads = arguments.threads.map_or(0, usize::from);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| Error::Threads { threads, reason: error.to_string() })?;
    let run = Arc::new(OnceLock::<Run>::new());
    let found = run.clone();
    interruption::on_request(move || match found.get() {
        Some(run) => run.stop(),
        None => {
            progress::clear();
            message::say("stopped before the first step; nothing was written");
            std::process::exit(interruption::STOPPED.into());
        }
    });
    pool.install(|| train(arguments, &run))
}

fn train(arguments: &Arguments, begun: &OnceLock<Run>) -> Result<(), Error> {
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
    let outputs = Run::files(&arguments.out).into_iter();
    let outputs: Vec<PathBuf> =
        outputs.chain(RESULTS.map(|name| arguments.out.join(name))).collect();
    let inputs: Vec<Input> = std::iter::once(Input::new("the configuration", file))
        .chain(files.iter().map(|file| Input::new("a text", file)))
        .collect();
    output::refuse_inputs(&outputs, &inputs)?;
    output::refuse_report_of_others(&arguments.out, RESULTS[0])?;
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
    let _alone = Locked::of(&arguments.out)?;

    let state = arguments.out.join(STATE);
    let training = match state.exists() && !arguments.fresh {
        true => Training::resume(config, corpus, &read(&state)?)
            .map_err(|source| Error::State { path: state.clone(), source })?,
        false => Training::new(config, corpus).map_err(|error| match error {
            TrainError::Model(source) => refused(source),
            other => other.into(),
        })?,
    };
    if let Some(raised) =
        training.raised().last().filter(|raised| raised.at == training.losses().len())
    {
        message::note(&format!(
            "{} steps instead of {}: from step {} on the rate follows the curve of {}, and the numbers are not \
             those of a run of so many steps from the beginning",
            raised.to, raised.from, raised.at, raised.to
        ));
    }
    let run = begun.get_or_init(|| Run::new(&arguments.out, arguments.fresh, training));
    make_steps(run)?;
    let bar = progress::working("measuring the held-out text, writing the sample");
    let training = run.read();
    let text = TextSection {
        files: names,
        bytes_trained_on: training.corpus().train.len(),
        bytes_held_out: training.corpus().held_out.len(),
    };
    let document = Document::new(&training, text)?;
    bar.finish_and_clear();
    // It is not ended any more: what is left takes no time, and is whole or not there.
    std::mem::forget(run.hold());
    write_results(&arguments.out, &document)?;
    let folder = arguments.out.display().to_string();
    output::print(&format!("{}\n{}\n", document.summary(), message::on_one_line(&folder)))?;
    Ok(())
}

/// Makes every step that there is still to make, and saves the state and the model on the way.
fn make_steps(run: &Run) -> Result<(), Error> {
    let measure = || -> Result<(), Error> {
        if run.read().is_measured_here() {
            let found = run.read().measure()?;
            run.write().record(found);
        }
        Ok(())
    };
    if !run.read().losses().is_empty() {
        // It was stopped between a step and its measurement, or has no model yet.
        measure()?;
        run.save()?;
    }
    let bar = {
        let training = run.read();
        let (done, of) = (training.losses().len(), training.config().batches.steps);
        progress::resume(done, of, "step", training.spent())
    };
    while !run.read().is_done() {
        // Nearly all of the time goes by in here, and the state can be saved meanwhile.
        let step = run.read().prepare()?;
        run.take(step)?;
        measure()?;
        if run.read().is_saved_here() {
            run.save()?;
        }
        if !bar.is_hidden() {
            bar.set_message(curves::progress(&run.read()));
        }
        bar.inc(1);
    }
    progress::clear();
    Ok(())
}

/// Everything a finished run leaves behind, beside its state and its model.
fn write_results(out: &Path, document: &Document) -> Result<(), Error> {
    let unwritten = |error: &dyn ToString| Error::Report(error.to_string());
    let json = serde_json::to_vec_pretty(document).map_err(|e| unwritten(&e))?;
    let picture = curves::svg(document);
    let curves = chart::alone(&picture);
    let report = document.report(&picture).map_err(|e| unwritten(&e))?;
    let contents =
        [json, curves.into_bytes(), document.sample_text().into_bytes(), report.into_bytes()];
    for (name, bytes) in RESULTS.iter().zip(contents) {
        output::write_whole(&out.join(name), &bytes)?;
    }
    Ok(())
}
