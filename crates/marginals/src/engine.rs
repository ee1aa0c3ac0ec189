//! Engines: who carries out the passes.
//!
//! An [`Engine`] is an object, one per number format and device: another device is another
//! implementation, and nothing above it changes. [`Cpu`] computes in `f32` and `f64`, in parallel over
//! rayon's current thread pool.

use std::ops::Range;

use crate::format::in_format;
use crate::infer::streaming::{self, Rule};
use crate::infer::{Finding, Gradients, Problem, Request, Slopes, Values};
use crate::{Error, Real};

pub use crate::infer::Engine;

/// The engine used where none is named.
pub fn engine<T: Real>() -> &'static dyn Engine<T> {
    static SINGLE: &dyn Engine<f32> = &Cpu;
    static DOUBLE: &dyn Engine<f64> = &Cpu;
    in_format(&SINGLE, &DOUBLE)
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
        }
    };
}
cpu!(f32);
cpu!(f64);
