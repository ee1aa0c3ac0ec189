//! `marginals infer`: the posterior of any tensors.

mod modules;
mod tensors;

use std::path::PathBuf;

use clap::Args;
use marginals::Real;
use marginals::ask::{self, Answers, Nan, Settings, Source};
use marginals::question::{Named, QUESTIONS};
use marginals::spec::ModelFile;
use marginals::words;
use marginals_burn::checkpoint::safetensors::shared_tensors;
use safetensors::tensor::Dtype;
use thiserror::Error;

use crate::output::{self, Destination, Input, WriteError};
use crate::{foreign, interruption, message};
use tensors::File;

/// Answer questions about the posterior of given tensors.
///
/// The input holds `q [B,H,N,D]`, `k [B,Hk,M,D]`, `v [B,Hk,M,Dv]` and whatever tensors the model
/// names; where a tensor is f64 all is computed in f64, otherwise in f32. Where it also holds `grad.mean`,
/// `grad.entropy` and so on, the output holds the gradients with respect to everything.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The model, in TOML (or JSON, by its extension).
    #[arg(long)]
    model: PathBuf,
    /// Input tensors, in safetensors.
    #[arg(long)]
    input: PathBuf,
    #[arg(long, help = asked_for())]
    ask: Option<String>,
    /// Where the answers go, in safetensors: a file, or a link to one, a pipe or a device such as
    /// /dev/stdout.
    #[arg(long)]
    output: PathBuf,
    /// Seed of the samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of threads; all by default. Answers do not depend on it.
    #[arg(long)]
    threads: Option<std::num::NonZeroUsize>,
    /// Refuse NaN in q, k and v instead of letting it through to the rows it touches.
    #[arg(long)]
    check: bool,
}

/// Help for `--ask`.
fn asked_for() -> String {
    format!(
        "Questions, separated by commas: {}. Without it the mean is asked, and of a mechanism nothing \
         beyond what it always answers",
        usages()
    )
}

/// Every question as it is asked.
fn usages() -> String {
    QUESTIONS.iter().map(|entry| entry.usage()).collect::<Vec<_>>().join(", ")
}

/// Reads a comma-separated list of questions.
fn parse(list: &str) -> Result<Vec<Named>, marginals::Error> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let named: Vec<Named> = names.map(Named::parse).collect::<Result<_, _>>()?;
    ask::refuse_repeats("--ask", &named)?;
    Ok(named)
}

/// Error of `infer`.
#[derive(Debug, Error)]
pub enum Error {
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A model file in another encoding.
    #[error("{} is not UTF-8 text; save it in that encoding", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
    },
    /// A model file that says nothing that can be run.
    #[error("{}: {source}", path.display())]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// Fault in it.
        source: marginals::Error,
    },
    /// A file that is not what it should be.
    #[error("{} is not a safetensors file that can be used: {message}", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// A thread pool that cannot be made.
    #[error("cannot start {threads} threads: {message}. Ask for fewer with --threads")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// Why.
        message: String,
    },
    /// A file that cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Questions that the library refuses.
    #[error(transparent)]
    Model(#[from] marginals::Error),
    /// An input that the model says nothing about.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    interruption::ends_the_command("");
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| Error::Read { path: path.clone(), source })
    };
    let text = String::from_utf8(read(&arguments.model)?)
        .map_err(|_| Error::Encoding { path: arguments.model.clone() })?;
    let model = match arguments.model.extension().is_some_and(|e| e == "json") {
        true => ModelFile::from_json(&text),
        false => ModelFile::from_toml(&text),
    };
    let mut model =
        model.map_err(|source| Error::ModelFile { path: arguments.model.clone(), source })?;
    let mut inputs =
        vec![Input::new("the model", &arguments.model), Input::new("the input", &arguments.input)];
    if let (ModelFile::Mechanism { mechanism }, Some(folder)) =
        (&mut model, arguments.model.parent())
        && let Some(Some(weights)) = mechanism.weights_mut()
    {
        // A path in the model file starts where the model file is.
        *weights = folder.join(&*weights);
        if let Some(message) = foreign::advice_of_file(weights) {
            return Err(Error::Tensors { path: weights.clone(), message });
        }
        inputs.push(Input::new("the weights", &*weights));
    }
    output::refuse_inputs(std::slice::from_ref(&arguments.output), &inputs)?;
    let destination = Destination::of(&arguments.output)?;
    let usual = match model {
        ModelFile::Posterior(_) => "mean",
        ModelFile::Mechanism { .. } => "",
    };
    let questions = parse(arguments.ask.as_deref().unwrap_or(usual))?;
    if questions.is_empty() && matches!(model, ModelFile::Posterior(_)) {
        let expected = format!("one or more of {}", usages());
        return Err(marginals::Error::value("--ask", expected, "empty").into());
    }
    let bytes = read(&arguments.input)?;
    let unusable = |message| Error::Tensors { path: arguments.input.clone(), message };
    let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|e| {
        let advice = foreign::advice_beside(&arguments.input, &bytes);
        unusable(advice.unwrap_or_else(|| {
            format!("{e}. It may be truncated, or another kind of file; write it again")
        }))
    })?;
    let shared = shared_tensors(&bytes).map_err(|e| unusable(e.to_string()))?;
    let double = file.iter().any(|(_, tensor)| tensor.dtype() == Dtype::F64);

    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = arguments.threads {
        pool = pool.num_threads(threads.get());
    }
    let pool = pool.build().map_err(|e| Error::Threads {
        threads: arguments.threads.map_or(0, |t| t.get()),
        message: e.to_string(),
    })?;
    let nan = if arguments.check { Nan::IsRefused } else { Nan::Propagates };
    let settings = Settings { seed: arguments.seed, nan };
    let tensors = File::of(&file, &shared);
    let found = pool.install(|| match double {
        true => answer::<f64>(&model, &questions, &tensors, settings).map(|a| written(&a)),
        false => answer::<f32>(&model, &questions, &tensors, settings).map(|a| written(&a)),
    });
    let found = found.map_err(|error| match error {
        AnswerError::Model(error) => AnswerError::Model(tensors::with_types(error, &file)),
        other => other,
    })?;
    // An error has said so where it matters.
    note_unread(&model, &file);
    let path = arguments.output.clone();
    let (bytes, names) = found.map_err(|message| Error::Tensors { path, message })?;
    destination.write(&bytes)?;
    if destination.file().is_some() {
        message::tell(&format!("{}: {names}", message::path(&arguments.output)));
    }
    Ok(())
}

/// Says of tensors that have a meaning elsewhere and none here that they are left alone.
fn note_unread(model: &ModelFile, file: &safetensors::SafeTensors<'_>) {
    let ModelFile::Posterior(_) = model else { return };
    for name in file.names() {
        if let Some(advice) = words::advice("tensor", name, &[]) {
            message::note(&format!("the tensor `{name}` is not read. {advice}"));
        }
    }
}

/// The bytes of the answers' file, and the names and shapes in it; what was taken to be so is said.
fn written<T: Real>(answers: &Answers<T>) -> Result<(Vec<u8>, String), String> {
    answers.notes().iter().for_each(|note| message::note(note));
    let names: Vec<String> =
        answers.iter().map(|(name, tensor)| format!("{name} {:?}", tensor.shape())).collect();
    Ok((tensors::written(answers)?, names.join(", ")))
}

/// Why a model file says nothing about an input.
#[derive(Debug, Error)]
pub enum AnswerError {
    /// Anything the library refuses.
    #[error(transparent)]
    Model(#[from] marginals::Error),
    /// Weights that cannot be used.
    #[error(transparent)]
    Weights(#[from] marginals_burn::ModelError),
}

/// Answers of a model file about the tensors of an input.
pub fn answer<T: Real>(
    model: &ModelFile,
    questions: &[Named],
    source: &dyn Source<T>,
    settings: Settings,
) -> Result<Answers<T>, AnswerError> {
    if let ModelFile::Mechanism { mechanism } = model
        && let Some(answers) = modules::answer(mechanism, questions, source, settings)
    {
        return answers;
    }
    Ok(ask::ask(model, questions, source, settings)?)
}
