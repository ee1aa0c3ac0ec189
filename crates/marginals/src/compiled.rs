//! The engine, compiled here once for each number format.
//!
//! Generic code is compiled again in every crate that uses it. What is large goes through a method of
//! the number format instead, whose code belongs to this crate.

// Nobody outside can name `Engine`, nor therefore what its methods take.
#![allow(private_interfaces)]

use std::ops::Range;

use crate::infer::collapsed::FixedPoint;
use crate::infer::exact::{self, Gradients, Request, Statistics, Summary, Upstream, Values};
use crate::infer::expanding::{self, ExpandingGradients, ExpandingUpstream, Expansion, Problem};
use crate::spec::{ModelSpec, SpecModel, Tensors};
use crate::{Error, Posterior};

/// Number formats that the engine computes in: `f32` and `f64`.
pub trait Real: marginals_kernels::Real + Engine {}

impl Real for f32 {}
impl Real for f64 {}

/// The engine in one number format. See the functions of the same names.
#[doc(hidden)]
pub trait Engine: marginals_kernels::Real {
    fn summarise(posterior: &Posterior<'_, Self>, request: &Request<'_, Self>) -> Summary<Self>
    where
        Self: Real;
    fn forward(
        posterior: &Posterior<'_, Self>,
        request: &Request<'_, Self>,
        keys: Range<usize>,
    ) -> Statistics<Self>
    where
        Self: Real;
    fn backward(
        posterior: &Posterior<'_, Self>,
        request: &Request<'_, Self>,
        summary: &Summary<Self>,
        upstream: &Upstream<'_, Self>,
        of_values: Values,
    ) -> Result<Gradients<Self>, Error>
    where
        Self: Real;
    fn column_mass(posterior: &Posterior<'_, Self>, summary: &Summary<Self>) -> Vec<Self>
    where
        Self: Real;
    fn marginals(posterior: &Posterior<'_, Self>, summary: &Summary<Self>) -> Vec<Self>
    where
        Self: Real;
    fn draw_sets(
        posterior: &Posterior<'_, Self>,
        summary: &Summary<Self>,
        count: usize,
        seed: u64,
    ) -> Vec<u8>
    where
        Self: Real;
    fn expand(
        problem: &Problem<'_, Self>,
        ascent: Option<&FixedPoint>,
    ) -> Result<Expansion<Self>, Error>
    where
        Self: Real;
    fn expanding_backward(
        problem: &Problem<'_, Self>,
        expansion: &Expansion<Self>,
        ascent: Option<&FixedPoint>,
        upstream: &ExpandingUpstream<'_, Self>,
    ) -> Result<ExpandingGradients<Self>, Error>
    where
        Self: Real;
    fn build<'a>(
        spec: &ModelSpec,
        heads: usize,
        width: usize,
        tensors: &'a Tensors<'_, Self>,
    ) -> Result<SpecModel<'a, Self>, Error>
    where
        Self: Real;
}

macro_rules! engine {
    ($number:ty) => {
        impl Engine for $number {
            fn summarise(
                posterior: &Posterior<'_, Self>,
                request: &Request<'_, Self>,
            ) -> Summary<Self> {
                exact::generic::summarise(posterior, request)
            }
            fn forward(
                posterior: &Posterior<'_, Self>,
                request: &Request<'_, Self>,
                keys: Range<usize>,
            ) -> Statistics<Self> {
                exact::generic::forward(posterior, request, keys)
            }
            fn backward(
                posterior: &Posterior<'_, Self>,
                request: &Request<'_, Self>,
                summary: &Summary<Self>,
                upstream: &Upstream<'_, Self>,
                of_values: Values,
            ) -> Result<Gradients<Self>, Error> {
                exact::generic::backward_of(posterior, request, summary, upstream, of_values)
            }
            fn column_mass(posterior: &Posterior<'_, Self>, summary: &Summary<Self>) -> Vec<Self> {
                exact::generic::column_mass(posterior, summary)
            }
            fn marginals(posterior: &Posterior<'_, Self>, summary: &Summary<Self>) -> Vec<Self> {
                exact::generic::marginals(posterior, summary)
            }
            fn draw_sets(
                posterior: &Posterior<'_, Self>,
                summary: &Summary<Self>,
                count: usize,
                seed: u64,
            ) -> Vec<u8> {
                exact::generic::draw_sets(posterior, summary, count, seed)
            }
            fn expand(
                problem: &Problem<'_, Self>,
                ascent: Option<&FixedPoint>,
            ) -> Result<Expansion<Self>, Error> {
                expanding::expand(problem, ascent)
            }
            fn expanding_backward(
                problem: &Problem<'_, Self>,
                expansion: &Expansion<Self>,
                ascent: Option<&FixedPoint>,
                upstream: &ExpandingUpstream<'_, Self>,
            ) -> Result<ExpandingGradients<Self>, Error> {
                match ascent {
                    None => expanding::backward_exact(problem, expansion, upstream),
                    Some(engine) => {
                        expanding::backward_mean_field(problem, expansion, engine, upstream)
                    }
                }
            }
            fn build<'a>(
                spec: &ModelSpec,
                heads: usize,
                width: usize,
                tensors: &'a Tensors<'_, Self>,
            ) -> Result<SpecModel<'a, Self>, Error> {
                spec.build_generic(heads, width, tensors)
            }
        }
    };
}
engine!(f32);
engine!(f64);
