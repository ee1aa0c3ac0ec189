//! Engines: who carries out the passes.
//!
//! An [`Engine`] is an object, one per number format and device: another device is another
//! implementation, and nothing above it changes. [`Cpu`] computes in `f32` and `f64`, in parallel over
//! rayon's current thread pool.
//!
//! Generic code is compiled again in every crate that uses it. What is large goes through the engine's
//! methods instead, whose code belongs to this crate.

use std::fmt::Debug;
use std::ops::Range;

use crate::ask::{self, Answers, Settings, Source};
use crate::infer::collapsed::FixedPoint;
use crate::infer::expanding::{self, ExpandingGradients, ExpandingUpstream, Expansion};
use crate::infer::streaming::{self, Rule};
use crate::infer::{Finding, Gradients, Problem, Request, Slopes, Values};
use crate::model::tensors::Inputs;
use crate::question::{AnyQuestion, Asking, Entry, Named};
use crate::spec::{ModelFile, ModelSpec, SpecModel};
use crate::{Element, Error};

/// Number formats that are computed in: `f32` and `f64`.
pub trait Real: marginals_kernels::Real + Element<Real = Self> {
    /// The engine used where none is named.
    fn engine() -> &'static dyn Engine<Self>;

    /// The question that `entry` lists, in this format.
    ///
    /// # Errors
    /// [`Error`], where something that it is made of is missing or does not fit.
    #[doc(hidden)]
    fn make_question<'v>(
        entry: &Entry,
        asking: &Asking<'v, Self>,
    ) -> Result<Box<dyn AnyQuestion<'v, Self> + 'v>, Error>;

    /// [`ask`](ask::ask) in this format.
    ///
    /// # Errors
    /// As there.
    #[doc(hidden)]
    fn ask(
        file: &ModelFile,
        questions: &[Named],
        source: &dyn Source<Self>,
        settings: Settings,
    ) -> Result<Answers<Self>, Error>;
}

impl Real for f32 {
    fn engine() -> &'static dyn Engine<f32> {
        &Cpu
    }
    fn make_question<'v>(
        entry: &Entry,
        asking: &Asking<'v, f32>,
    ) -> Result<Box<dyn AnyQuestion<'v, f32> + 'v>, Error> {
        entry.make_single(asking)
    }
    fn ask(
        file: &ModelFile,
        questions: &[Named],
        source: &dyn Source<f32>,
        settings: Settings,
    ) -> Result<Answers<f32>, Error> {
        ask::generic(file, questions, source, settings)
    }
}
impl Real for f64 {
    fn engine() -> &'static dyn Engine<f64> {
        &Cpu
    }
    fn make_question<'v>(
        entry: &Entry,
        asking: &Asking<'v, f64>,
    ) -> Result<Box<dyn AnyQuestion<'v, f64> + 'v>, Error> {
        entry.make_double(asking)
    }
    fn ask(
        file: &ModelFile,
        questions: &[Named],
        source: &dyn Source<f64>,
        settings: Settings,
    ) -> Result<Answers<f64>, Error> {
        ask::generic(file, questions, source, settings)
    }
}

/// The passes of streaming inference in one number format, on one device.
pub trait Engine<T: Real>: Debug + Send + Sync {
    /// What is found over a range of keys.
    fn find(
        &self,
        rule: &Rule<'_, T>,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        keys: Range<usize>,
        complete: bool,
    ) -> Finding<T>;

    /// Gradients from those in what was found.
    ///
    /// # Errors
    /// [`Error::NoGradient`] where a part of the model does not define its own.
    fn backward(
        &self,
        rule: &Rule<'_, T>,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        finding: &Finding<T>,
        slopes: &Slopes<'_, T>,
        over: (Range<usize>, Values),
    ) -> Result<Gradients<T>, Error>;

    /// Σ_i p_ij of every key.
    fn column_mass(
        &self,
        rule: &Rule<'_, T>,
        problem: &Problem<'_, T>,
        finding: &Finding<T>,
    ) -> Vec<T>;

    /// p_ij of every edge.
    fn marginals(
        &self,
        rule: &Rule<'_, T>,
        problem: &Problem<'_, T>,
        finding: &Finding<T>,
    ) -> Vec<T>;

    /// Windows that grow; see [`expanding`].
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "nobody outside can name what it takes")]
    fn expand(
        &self,
        problem: &expanding::Problem<'_, T>,
        ascent: Option<&FixedPoint>,
    ) -> Result<Expansion<T>, Error>;

    /// Their gradients.
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "nobody outside can name what it takes")]
    fn expanding_backward(
        &self,
        problem: &expanding::Problem<'_, T>,
        expansion: &Expansion<T>,
        ascent: Option<&FixedPoint>,
        upstream: &ExpandingUpstream<'_, T>,
    ) -> Result<ExpandingGradients<T>, Error>;

    /// A model from data, with the tensors that it names.
    #[doc(hidden)]
    fn build<'a>(
        &self,
        spec: &ModelSpec,
        inputs: &Inputs<'a, T>,
    ) -> Result<SpecModel<'a, T>, Error>;
}

/// The processor, with the best instructions it has.
#[derive(Clone, Copy, Debug)]
pub struct Cpu;

macro_rules! cpu {
    ($number:ty) => {
        impl Engine<$number> for Cpu {
            fn find(
                &self,
                rule: &Rule<'_, $number>,
                problem: &Problem<'_, $number>,
                request: &Request<'_, $number>,
                keys: Range<usize>,
                complete: bool,
            ) -> Finding<$number> {
                streaming::generic::find(rule, problem, request, keys, complete)
            }

            fn backward(
                &self,
                rule: &Rule<'_, $number>,
                problem: &Problem<'_, $number>,
                request: &Request<'_, $number>,
                finding: &Finding<$number>,
                slopes: &Slopes<'_, $number>,
                over: (Range<usize>, Values),
            ) -> Result<Gradients<$number>, Error> {
                streaming::generic::backward(rule, problem, request, finding, slopes, over)
            }

            fn column_mass(
                &self,
                rule: &Rule<'_, $number>,
                problem: &Problem<'_, $number>,
                finding: &Finding<$number>,
            ) -> Vec<$number> {
                streaming::column_mass(rule, problem, finding)
            }

            fn marginals(
                &self,
                rule: &Rule<'_, $number>,
                problem: &Problem<'_, $number>,
                finding: &Finding<$number>,
            ) -> Vec<$number> {
                streaming::marginals(rule, problem, finding)
            }

            #[allow(private_interfaces, reason = "nobody outside can name what it takes")]
            fn expand(
                &self,
                problem: &expanding::Problem<'_, $number>,
                ascent: Option<&FixedPoint>,
            ) -> Result<Expansion<$number>, Error> {
                expanding::expand(problem, ascent)
            }

            #[allow(private_interfaces, reason = "nobody outside can name what it takes")]
            fn expanding_backward(
                &self,
                problem: &expanding::Problem<'_, $number>,
                expansion: &Expansion<$number>,
                ascent: Option<&FixedPoint>,
                upstream: &ExpandingUpstream<'_, $number>,
            ) -> Result<ExpandingGradients<$number>, Error> {
                match ascent {
                    None => expanding::backward_exact(problem, expansion, upstream),
                    Some(engine) => {
                        expanding::backward_mean_field(problem, expansion, engine, upstream)
                    }
                }
            }

            fn build<'a>(
                &self,
                spec: &ModelSpec,
                inputs: &Inputs<'a, $number>,
            ) -> Result<SpecModel<'a, $number>, Error> {
                spec.build_generic(inputs)
            }
        }
    };
}
cpu!(f32);
cpu!(f64);
