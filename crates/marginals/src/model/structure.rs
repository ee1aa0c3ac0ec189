//! Structures: which sets of edges are possible.
//!
//! A structure Φ is a set of edge sets φ; the posterior is p(φ | x) = exp(Σ_ij φ_ij θ_ij) / Z(θ)
//! over it. A structure says which [inference](crate::infer) is exact for it. Most fall apart into
//! independent choices, one per query, per key or per edge, and are streamed; [`Walk`] couples the
//! picks of a path and takes a streaming pass per hop.
//!
//! To add one, see CONTRIBUTING.md.

mod each_key_picks_one;
mod each_query_picks_at_most_one;
mod each_query_picks_one;
mod independent;
mod nearest_accepted;
mod walk;

pub use each_key_picks_one::EachKeyPicksOne;
pub use each_query_picks_at_most_one::EachQueryPicksAtMostOne;
pub use each_query_picks_one::EachQueryPicksOne;
pub use independent::Independent;
pub use nearest_accepted::NearestAccepted;
pub use walk::{HopDistribution, Walk};

use std::fmt::Debug;

use crate::infer::Inference;
use crate::{Error, Parameter, Real, Shape, Value};

/// A structure: a set of possible edge sets, and how its posterior is inferred exactly.
pub trait Structure<T: Real>: Debug + Send + Sync {
    /// The name used in model files.
    fn name(&self) -> &'static str;

    /// The exact inference.
    fn exact(&self) -> Box<dyn Inference<T> + '_>;

    /// Refuses sizes, values and parameters that make no sense.
    ///
    /// # Errors
    /// [`Error`], naming what does not fit.
    fn check(&self, _shape: &Shape, _value: Value) -> Result<(), Error> {
        Ok(())
    }

    /// Learnable parameters.
    fn parameters(&self) -> Vec<Parameter> {
        self.exact().parameters()
    }
}

macro_rules! forwarding {
    ($($owner:ty),+) => {$(
        impl<T: Real, S: Structure<T> + ?Sized> Structure<T> for $owner {
            fn name(&self) -> &'static str {
                (**self).name()
            }
            fn exact(&self) -> Box<dyn Inference<T> + '_> {
                (**self).exact()
            }
            fn check(&self, shape: &Shape, value: Value) -> Result<(), Error> {
                (**self).check(shape, value)
            }
            fn parameters(&self) -> Vec<Parameter> {
                (**self).parameters()
            }
        }
    )+};
}
forwarding!(Box<S>, &S);
