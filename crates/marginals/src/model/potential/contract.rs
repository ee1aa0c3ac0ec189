//! Promises of a potential.

use marginals_kernels::{Tile, TileMut};
use ndarray::{ArrayView2, ArrayViewMut2, CowArray, Ix2};

use super::features::{FeatureGradient, Features};
use super::tangent::Motion;
use crate::infer::EdgeFunction;
use crate::model::tensors::Inputs;
use crate::{Block, Error, Parameter, Real, Shape};

/// Which rows are being turned into features.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The sizes of the whole problem.
    pub shape: &'a Shape,
    /// Batch entry.
    pub batch: usize,
    /// Head: a query head for queries, a key head for keys.
    pub head: usize,
    /// Index of the first row.
    pub first: usize,
}

/// A potential: log ψ by the block.
///
/// Only [`name`](Potential::name) and [`log_potential`](Potential::log_potential) must be written.
/// Without the backward methods a model still answers every question, and asking for gradients
/// says which method is missing.
pub trait Potential<T: Real>: Send + Sync {
    /// The name used in messages and model files.
    fn name(&self) -> &'static str;

    /// Refuses sizes and parameters that make no sense. Called once per posterior.
    fn check(&self, _shape: &Shape) -> Result<(), Error> {
        Ok(())
    }

    /// Features of some queries of one head, one row each; by default the queries themselves.
    fn query_features<'a>(&self, _place: Place<'_>, q: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
        q.into()
    }

    /// Features of the keys of one key head; by default the keys themselves.
    fn key_features<'a>(&self, _place: Place<'_>, k: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
        k.into()
    }

    /// The tile method: writes log ψ of `block` to `scores`.
    fn log_potential(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        k: &Features<'_, T>,
        scores: TileMut<'_, T>,
    );

    /// Whether the scores are inner products of the features, up to a function of the product. The
    /// keys are then packed for [`Features::products`] and the rows are not kept.
    fn is_product(&self) -> bool {
        false
    }

    /// An upper bound of log ψ in `head` over all queries and keys of at most these lengths, where
    /// one is known in closed form: what lets a window be certified without looking outside it.
    fn greatest(&self, _head: usize, _query_length: f64, _key_length: f64) -> Option<f64> {
        None
    }

    /// Whether [`backward`](Potential::backward) reads the values of log ψ.
    fn reads_log_potential(&self) -> bool {
        false
    }

    /// Learnable parameters, in the order of `parameters` below.
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }

    /// Adds Σ_ij g_ij ∂log ψ_ij/∂(features, parameters) over `block`. `gradient` may be
    /// overwritten; `log_potential` is given when it was asked for.
    fn backward(
        &self,
        _block: &Block,
        _q: &Features<'_, T>,
        _k: &Features<'_, T>,
        _log_potential: Option<Tile<'_, T>>,
        _gradient: TileMut<'_, T>,
        _into: &mut FeatureGradient<'_, T>,
    ) -> Result<(), Error> {
        Err(Error::NoGradient {
            part: format!("potential `{}`", self.name()),
            method: "Potential::backward",
        })
    }

    /// How fast log ψ moves as the nodes move, as a function of edges that holds what it needs of both:
    ///
    /// ```text
    /// d log ψ(q_i, k_j) = ∂log ψ/∂q · q̇_i + ∂log ψ/∂k · k̇_j.
    /// ```
    ///
    /// # Errors
    /// [`Error::NoGradient`] by default.
    fn tangent(&self, _motion: Motion<T>) -> Result<Box<dyn EdgeFunction<T>>, Error> {
        Err(Error::NoGradient {
            part: format!("potential `{}`", self.name()),
            method: "Potential::tangent",
        })
    }

    /// From the gradient of the query features to that of the queries (written to `into`, which
    /// holds zeros) and of the parameters (added). By default features are the queries.
    fn query_features_backward(
        &self,
        _place: Place<'_>,
        _q: ArrayView2<'_, T>,
        gradient: ArrayView2<'_, T>,
        mut into: ArrayViewMut2<'_, T>,
        _parameters: &mut [Vec<f64>],
    ) {
        into.assign(&gradient);
    }

    /// Whether key features are the keys themselves. Then so are their gradients, and
    /// [`key_features_backward`](Potential::key_features_backward) is not called.
    fn keys_are_features(&self) -> bool {
        false
    }

    /// From the gradient of the key features to that of the keys and of the parameters, likewise.
    fn key_features_backward(
        &self,
        _place: Place<'_>,
        _k: ArrayView2<'_, T>,
        gradient: ArrayView2<'_, T>,
        mut into: ArrayViewMut2<'_, T>,
        _parameters: &mut [Vec<f64>],
    ) {
        into.assign(&gradient);
    }
}

macro_rules! forwarding {
    ($($owner:ty),+) => {$(
        impl<T: Real, P: Potential<T> + ?Sized> Potential<T> for $owner {
            fn name(&self) -> &'static str {
                (**self).name()
            }
            fn check(&self, shape: &Shape) -> Result<(), Error> {
                (**self).check(shape)
            }
            fn query_features<'a>(&self, place: Place<'_>, q: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
                (**self).query_features(place, q)
            }
            fn key_features<'a>(&self, place: Place<'_>, k: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
                (**self).key_features(place, k)
            }
            fn log_potential(
                &self,
                block: &Block,
                q: &Features<'_, T>,
                k: &Features<'_, T>,
                scores: TileMut<'_, T>,
            ) {
                (**self).log_potential(block, q, k, scores)
            }
            fn is_product(&self) -> bool {
                (**self).is_product()
            }
            fn greatest(&self, head: usize, query_length: f64, key_length: f64) -> Option<f64> {
                (**self).greatest(head, query_length, key_length)
            }
            fn reads_log_potential(&self) -> bool {
                (**self).reads_log_potential()
            }
            fn parameters(&self) -> Vec<Parameter> {
                (**self).parameters()
            }
            fn backward(
                &self,
                block: &Block,
                q: &Features<'_, T>,
                k: &Features<'_, T>,
                log_potential: Option<Tile<'_, T>>,
                gradient: TileMut<'_, T>,
                into: &mut FeatureGradient<'_, T>,
            ) -> Result<(), Error> {
                (**self).backward(block, q, k, log_potential, gradient, into)
            }
            fn tangent(&self, motion: Motion<T>) -> Result<Box<dyn EdgeFunction<T>>, Error> {
                (**self).tangent(motion)
            }
            fn query_features_backward(
                &self,
                place: Place<'_>,
                q: ArrayView2<'_, T>,
                gradient: ArrayView2<'_, T>,
                into: ArrayViewMut2<'_, T>,
                parameters: &mut [Vec<f64>],
            ) {
                (**self).query_features_backward(place, q, gradient, into, parameters)
            }
            fn keys_are_features(&self) -> bool {
                (**self).keys_are_features()
            }
            fn key_features_backward(
                &self,
                place: Place<'_>,
                k: ArrayView2<'_, T>,
                gradient: ArrayView2<'_, T>,
                into: ArrayViewMut2<'_, T>,
                parameters: &mut [Vec<f64>],
            ) {
                (**self).key_features_backward(place, k, gradient, into, parameters)
            }
        }
    )+};
}
forwarding!(Box<P>, &P);

/// A potential as data, which model files hold.
pub trait PotentialPart {
    /// The potential, with the tensors it names.
    ///
    /// # Errors
    /// [`Error`], where a tensor is missing or of another shape.
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Potential<T>>, Error>;
}

/// Refuses queries and keys of different width, for potentials that compare them directly.
pub(crate) fn check_equal_widths(name: &str, shape: &Shape) -> Result<(), Error> {
    if shape.query_width == shape.key_width {
        return Ok(());
    }
    Err(Error::Shape {
        argument: "k".to_owned(),
        expected: format!("rows of {} numbers, as q has", shape.query_width),
        found: format!("rows of {}", shape.key_width),
        advice: format!("`{name}` compares queries and keys directly."),
    })
}
