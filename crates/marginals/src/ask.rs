//! Asking by name: a model file, names of questions and tensors in, tensors out.
//!
//! What the command line, Burn modules and other languages share: plain data at the edges, and nothing
//! about a model, a question or a mechanism beyond it.
//!
//! | in | |
//! |---|---|
//! | [`ModelFile`] | one posterior, or a mechanism with unknown nodes |
//! | [`Named`] | questions, each once: [`QUESTIONS`](crate::question::QUESTIONS) lists them |
//! | [`Source`] | named tensors: the nodes, what the model reads, and `grad.NAME`, the gradient of a loss in the answer called NAME |
//! | [`Settings`] | the seed, and whether NaN is refused |
//!
//! | out, [`Answers`] | |
//! |---|---|
//! | `NAME` | the answer of a question, or of the mechanism |
//! | `grad.NAME` | the gradient of the loss in everything the answers depend on |
//!
//! ```
//! use std::collections::BTreeMap;
//! use marginals::ask::{Input, Settings, ask};
//! use marginals::question::Named;
//! use marginals::spec::ModelFile;
//! # use ndarray::ArrayD;
//! # let ones = |shape: &[usize]| ArrayD::<f32>::ones(shape);
//! let file = ModelFile::from_toml("structure = \"each-query-picks-one\"\npotential = \"dot\"")?;
//! let tensors = BTreeMap::from([
//!     ("q".to_owned(), Input::from(ones(&[1, 2, 5, 4]))),
//!     ("k".to_owned(), Input::from(ones(&[1, 2, 7, 4]))),
//!     ("v".to_owned(), Input::from(ones(&[1, 2, 7, 3]))),
//!     ("grad.entropy".to_owned(), Input::from(ones(&[1, 2, 5]))),
//! ]);
//! let questions = [Named::parse("mean")?, Named::parse("top-k=2")?];
//! let answers = ask(&file, &questions, &tensors, Settings::default())?;
//! assert_eq!(answers.get("mean").unwrap().shape(), &[1, 2, 5, 3]);
//! assert_eq!(answers.get("top-k.index").unwrap().shape(), &[1, 2, 5, 2]);
//! assert_eq!(answers.get("grad.q").unwrap().shape(), &[1, 2, 5, 4]);
//! # Ok::<(), marginals::Error>(())
//! ```

mod answers;
mod expanding;
mod hopfield;
mod iteration;
mod k_means;
mod mixture;
mod posterior;
mod source;

use ndarray::ArrayView4;

use crate::format::in_format;
use crate::infer::Finding;
use crate::question::{Asked, Asking, Named};
use crate::spec::{MechanismSpec, ModelFile, Tensors};
use crate::{Error, Real};

pub use answers::Answers;
pub use source::{CowTensor, GRADIENT, Input, Inputs, Source};

/// Settings of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Seed of what is random.
    pub seed: u64,
    /// Treatment of NaN in the nodes.
    pub nan: Nan,
}

/// Treatment of NaN in the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nan {
    /// It reaches the rows that it belongs to, and no others.
    #[default]
    Propagates,
    /// It is refused, with its tensor and position.
    IsRefused,
}

/// Answers `questions` about what `file` describes, of the tensors of `source`, and differentiates the
/// answers that `source` holds an upstream gradient `grad.NAME` of.
///
/// Upstream gradients may be of any differentiable question, asked or not; mechanisms have answers of
/// their own, with and without gradients. Tensors are read as they are wanted, and those that the model
/// has nothing to do with are left alone. Cost: that of one pass over the keys for all questions and, with
/// gradients, of its backward.
///
/// # Errors
/// [`Error`], naming the tensor, question or setting at fault; [`Error::NotAnswerable`] for modules with
/// learned weights, which need automatic differentiation: `marginals_burn` has them.
pub fn ask<T: Real>(
    file: &ModelFile,
    questions: &[Named],
    source: &dyn Source<T>,
    settings: Settings,
) -> Result<Answers<T>, Error> {
    type Ask<T> = fn(&ModelFile, &[Named], &dyn Source<T>, Settings) -> Result<Answers<T>, Error>;
    static SINGLE: Ask<f32> = generic;
    static DOUBLE: Ask<f64> = generic;
    in_format::<Ask<T>>(&SINGLE, &DOUBLE)(file, questions, source, settings)
}

fn generic<T: Real>(
    file: &ModelFile,
    questions: &[Named],
    source: &dyn Source<T>,
    settings: Settings,
) -> Result<Answers<T>, Error> {
    refuse_repeats("questions", questions)?;
    let asked = Questions { named: questions, settings };
    let inputs = Inputs::new(source);
    let answers = match file {
        ModelFile::Posterior(spec) => posterior::answer(spec, asked, inputs),
        ModelFile::Mechanism { mechanism } => match mechanism {
            MechanismSpec::Hopfield(spec) => hopfield::answer(spec, asked, inputs),
            MechanismSpec::Mixture(settings) => mixture::answer(settings, asked, inputs),
            MechanismSpec::KMeans(settings) => k_means::answer(settings, asked, inputs),
            MechanismSpec::Expanding(spec) => expanding::answer(spec, asked, inputs),
            MechanismSpec::Slots(_)
            | MechanismSpec::BlockSlots(_)
            | MechanismSpec::Perceiver(_) => Err(needs_a_framework()),
        },
    };
    answers.map_err(|error| with_what_is_held(error, source))
}

/// The answers, and what a [backward](Kept::backward) in another place needs: for a framework that
/// differentiates later, on a tape of its own.
///
/// Cost: that of [`ask`], and O(B H N D_v) memory for as long as what is kept lives.
///
/// # Errors
/// As [`ask`]; [`Error::Value`] where there is an upstream gradient already.
pub fn ask_and_keep<T: Real>(
    file: &ModelFile,
    questions: &[Named],
    source: &dyn Source<T>,
    settings: Settings,
) -> Result<(Answers<T>, Kept<T>), Error> {
    type Forward<T> =
        fn(&ModelFile, &[Named], &dyn Source<T>, Settings) -> Result<(Answers<T>, Kept<T>), Error>;
    static SINGLE: Forward<f32> = forward;
    static DOUBLE: Forward<f64> = forward;
    in_format::<Forward<T>>(&SINGLE, &DOUBLE)(file, questions, source, settings)
}

fn forward<T: Real>(
    file: &ModelFile,
    questions: &[Named],
    source: &dyn Source<T>,
    settings: Settings,
) -> Result<(Answers<T>, Kept<T>), Error> {
    if let Some(gradient) = source.names().iter().find(|name| name.starts_with(GRADIENT)) {
        let expected = "no upstream gradient in a forward, which has none yet";
        return Err(Error::value(gradient, expected, "one"));
    }
    let ModelFile::Posterior(spec) = file else {
        return Ok((generic(file, questions, source, settings)?, Kept(None)));
    };
    refuse_repeats("questions", questions)?;
    let asked = Questions { named: questions, settings };
    let forward = posterior::forward(spec, asked, Inputs::new(source));
    let (answers, finding) = forward.map_err(|error| with_what_is_held(error, source))?;
    Ok((answers, Kept(Some(finding))))
}

/// State that [`ask_and_keep`] leaves for the backward: the finding of a posterior's pass, and nothing of a
/// mechanism, which runs again.
#[derive(Clone, Debug)]
pub struct Kept<T>(Option<Finding<T>>);

impl<T: Real> Kept<T> {
    /// The gradients `grad.NAME` in everything the answers depend on, of a loss whose gradients in the
    /// answers are the tensors `grad.NAME` of `source`.
    ///
    /// File, questions, settings and the other tensors are those of the forward. It may be called again.
    /// Cost: that of the backward, and for a mechanism of the forward too.
    ///
    /// # Errors
    /// [`Error`], naming the tensor at fault; [`Error::NotAnswerable`] for an upstream gradient of an answer
    /// that the forward did not give or that has none.
    pub fn backward(
        &mut self,
        file: &ModelFile,
        questions: &[Named],
        source: &dyn Source<T>,
        settings: Settings,
    ) -> Result<Answers<T>, Error> {
        type Backward<T> = fn(
            &mut Kept<T>,
            &ModelFile,
            &[Named],
            &dyn Source<T>,
            Settings,
        ) -> Result<Answers<T>, Error>;
        static SINGLE: Backward<f32> = backward;
        static DOUBLE: Backward<f64> = backward;
        in_format::<Backward<T>>(&SINGLE, &DOUBLE)(self, file, questions, source, settings)
    }
}

fn backward<T: Real>(
    kept: &mut Kept<T>,
    file: &ModelFile,
    questions: &[Named],
    source: &dyn Source<T>,
    settings: Settings,
) -> Result<Answers<T>, Error> {
    let (ModelFile::Posterior(spec), Some(finding)) = (file, kept.0.take()) else {
        // What was asked beside has no gradients: it need not be answered again.
        let mut answers = generic(file, &[], source, settings)?;
        answers.retain(|name| name.starts_with(GRADIENT));
        return Ok(answers);
    };
    let asked = Questions { named: questions, settings };
    let found = posterior::backward(spec, asked, Inputs::new(source), finding);
    let (answers, finding) = found.map_err(|error| with_what_is_held(error, source))?;
    kept.0 = Some(finding);
    Ok(answers)
}

/// Refuses to ask a question twice, whose answers would have one name.
///
/// # Errors
/// [`Error::Value`] of `argument`.
pub fn refuse_repeats(argument: &str, questions: &[Named]) -> Result<(), Error> {
    let names = || questions.iter().map(|named| named.entry.name);
    let repeated = |(index, name): (usize, &str)| names().take(index).any(|other| other == name);
    if !names().enumerate().any(repeated) {
        return Ok(());
    }
    let all: Vec<&str> = names().collect();
    Err(Error::value(argument, "each question once", all.join(",")))
}

fn needs_a_framework() -> Error {
    Error::NotAnswerable {
        question: "a module with learned weights".into(),
        why: "its layers are those of a framework with automatic differentiation".into(),
        instead: "Run it with `marginals infer`, or build it with `marginals_burn`.".into(),
    }
}

/// Completes the error of a missing tensor by all the names there are: a model is shown a part of them.
fn with_what_is_held<T>(error: Error, source: &dyn Source<T>) -> Error {
    match error {
        Error::MissingTensor { name, why, .. } => {
            let mut present = source.names();
            present.sort_unstable();
            Error::MissingTensor { name, why, present }
        }
        other => other,
    }
}

/// Questions by name, and how they are answered.
#[derive(Clone, Copy, Debug)]
struct Questions<'n> {
    named: &'n [Named],
    settings: Settings,
}

impl Questions<'_> {
    /// Whether values are averaged.
    fn average_values(&self) -> bool {
        self.named.iter().any(|named| named.entry.averages_values)
    }

    /// The questions, to be asked of a posterior with these values and tensors.
    fn of<'v, T: Real>(
        &self,
        v: Option<ArrayView4<'v, T>>,
        tensors: &'v Tensors<'v, T>,
    ) -> Result<Asked<'v, T>, Error> {
        let seed = self.settings.seed;
        Asked::new(self.named, Asking { v, tensors, argument: None, seed })
    }
}
