//! `marginals infer`: the posterior of any tensors.

mod questions;
mod tensors;

use std::path::PathBuf;

use clap::Args;
use marginals::infer::exact::Upstream;
use marginals::spec::ModelSpec;
use marginals::{Element, Real};
use ndarray::{Array3, Array4, Dimension, Ix3, Ix4};
use thiserror::Error;

use crate::output::{self, WriteError};
use questions::Questions;
use tensors::{Inputs, Output};

/// Answer questions about the posterior of given tensors.
///
/// The input holds `q [B,H,N,D]`, `k [B,Hk,M,D]`, `v [B,Hk,M,Dv]` and whatever tensors the model
/// names; f64 tensors are computed in f64, all others in f32. Where it also holds `grad.mean`,
/// `grad.entropy` and so on, the output holds the gradients with respect to everything.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The model, in TOML (or JSON, by its extension).
    #[arg(long)]
    model: PathBuf,
    /// Input tensors, in safetensors.
    #[arg(long)]
    input: PathBuf,
    /// Questions, separated by commas: mean, log-partition, log-evidence, entropy, kl,
    /// column-mass, expected-distance, value-variance, max-probability, map, top-k=K, samples=S,
    /// marginals.
    #[arg(long, default_value = "mean")]
    ask: String,
    /// Where the answers go, in safetensors.
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

/// What can go wrong.
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
    /// Anything the library refuses.
    #[error(transparent)]
    Model(#[from] marginals::Error),
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| Error::Read { path: path.clone(), source })
    };
    let text = String::from_utf8_lossy(&read(&arguments.model)?).into_owned();
    let spec = match arguments.model.extension().is_some_and(|e| e == "json") {
        true => ModelSpec::from_json(&text)?,
        false => ModelSpec::from_toml(&text)?,
    };
    let questions = Questions::parse(&arguments.ask, arguments.seed)?;
    let bytes = read(&arguments.input)?;
    let unusable = |message| Error::Tensors { path: arguments.input.clone(), message };
    let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|e| {
        unusable(format!("{e}. It may be truncated, or another kind of file; write it again"))
    })?;
    let double = file.tensor("q").is_ok_and(|q| q.dtype() == safetensors::Dtype::F64);

    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = arguments.threads {
        pool = pool.num_threads(threads.get());
    }
    let pool = pool.build().map_err(|e| Error::Threads {
        threads: arguments.threads.map_or(0, |t| t.get()),
        message: e.to_string(),
    })?;
    let answer = || -> Result<Vec<u8>, Error> {
        match double {
            true => answer::<f64>(arguments, &spec, &questions, &file),
            false => answer::<f32>(arguments, &spec, &questions, &file),
        }
    };
    let answers = pool.install(answer)?;
    Ok(output::write_whole(&arguments.output, &answers)?)
}

fn answer<T: Real + Element<Real = T>>(
    arguments: &Arguments,
    spec: &ModelSpec,
    questions: &Questions,
    file: &safetensors::SafeTensors<'_>,
) -> Result<Vec<u8>, Error> {
    let unusable = |message| Error::Tensors { path: arguments.input.clone(), message };
    let mut inputs = Inputs::<T>::read(file).map_err(unusable)?;
    let q: Array4<T> = inputs.take("q", "the queries, [B, H, N, D]")?;
    let k: Array4<T> = inputs.take("k", "the keys, [B, Hk, M, D]")?;
    let upstream = UpstreamTensors::take(&mut inputs)?;
    let averaging = questions.average_values() || upstream.average_values();
    let v: Option<Array4<T>> = match averaging {
        true => Some(inputs.take("v", "the values, [B, Hk, M, D_v], for the questions asked")?),
        false => None,
    };
    if arguments.check {
        for (name, tensor) in [("q", Some(&q)), ("k", Some(&k)), ("v", v.as_ref())] {
            if let Some(tensor) = tensor {
                marginals::refuse_nan(name, &tensor.view())?;
            }
        }
    }
    let named = inputs.into_named();
    let model = spec.build::<T>(q.dim().1, q.dim().3, &named)?;
    let posterior = model.posterior(q.view(), k.view())?;

    let mut output = Output::<T>::default();
    let pass = questions.ask(&posterior, v.as_ref(), upstream.average_values(), &mut output)?;
    if let Some(upstream) = upstream.views() {
        let gradients = pass.backward(&upstream)?;
        output.real("grad.q", gradients.q.into_dyn());
        output.real("grad.k", gradients.k.into_dyn());
        if let Some(v) = gradients.v {
            output.real("grad.v", v.into_dyn());
        }
        for parameter in gradients.parameters {
            output.real(&format!("grad.{}", parameter.name), parameter.gradient);
        }
    }
    output.write().map_err(|message| Error::Tensors { path: arguments.output.clone(), message })
}

/// Gradients of a loss with respect to answers, as found in the input.
struct UpstreamTensors<T> {
    mean: Option<Array4<T>>,
    value_variance: Option<Array4<T>>,
    log_partition: Option<Array3<T>>,
    log_evidence: Option<Array3<T>>,
    entropy: Option<Array3<T>>,
    kl: Option<Array3<T>>,
    column_mass: Option<Array3<T>>,
    expected_distance: Option<Array3<T>>,
}

impl<T: Real> UpstreamTensors<T> {
    fn take(inputs: &mut Inputs<T>) -> Result<Self, marginals::Error> {
        fn optional<T: Real, D: Dimension>(
            inputs: &mut Inputs<T>,
            name: &str,
        ) -> Result<Option<ndarray::Array<T, D>>, marginals::Error> {
            match inputs.holds(name) {
                true => inputs.take(name, "an upstream gradient").map(Some),
                false => Ok(None),
            }
        }
        let upstream = Self {
            mean: optional::<T, Ix4>(inputs, "grad.mean")?,
            value_variance: optional::<T, Ix4>(inputs, "grad.value-variance")?,
            log_partition: optional::<T, Ix3>(inputs, "grad.log-partition")?,
            log_evidence: optional::<T, Ix3>(inputs, "grad.log-evidence")?,
            entropy: optional::<T, Ix3>(inputs, "grad.entropy")?,
            kl: optional::<T, Ix3>(inputs, "grad.kl")?,
            column_mass: optional::<T, Ix3>(inputs, "grad.column-mass")?,
            expected_distance: optional::<T, Ix3>(inputs, "grad.expected-distance")?,
        };
        inputs.refuse_unread_gradients()?;
        Ok(upstream)
    }

    fn average_values(&self) -> bool {
        self.mean.is_some() || self.value_variance.is_some()
    }

    fn views(&self) -> Option<Upstream<'_, T>> {
        let upstream = Upstream {
            mean: self.mean.as_ref().map(|g| g.view()),
            value_variance: self.value_variance.as_ref().map(|g| g.view()),
            log_partition: self.log_partition.as_ref().map(|g| g.view()),
            log_evidence: self.log_evidence.as_ref().map(|g| g.view()),
            entropy: self.entropy.as_ref().map(|g| g.view()),
            kl: self.kl.as_ref().map(|g| g.view()),
            column_mass: self.column_mass.as_ref().map(|g| g.view()),
            expected_distance: self.expected_distance.as_ref().map(|g| g.view()),
            ..Upstream::default()
        };
        let any = self.average_values()
            || upstream.log_partition.is_some()
            || upstream.log_evidence.is_some()
            || upstream.entropy.is_some()
            || upstream.kl.is_some()
            || upstream.column_mass.is_some()
            || upstream.expected_distance.is_some();
        any.then_some(upstream)
    }
}

/// The names upstream gradients may have.
const UPSTREAM_NAMES: &[&str] = &[
    "grad.mean",
    "grad.value-variance",
    "grad.log-partition",
    "grad.log-evidence",
    "grad.entropy",
    "grad.kl",
    "grad.column-mass",
    "grad.expected-distance",
];
