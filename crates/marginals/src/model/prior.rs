//! Structural priors: what is known about an edge before looking at the content.
//!
//! A prior gives every edge a log-weight log w_ij ∈ [−∞, ∞). It needs no normalisation, and −∞
//! means impossible. Priors combine by product: log-weights add.
//!
//! To add one, see CONTRIBUTING.md.

mod adjacency;
mod alibi;
mod beta_geometric;
mod bias;
mod causal;
mod contract;
mod from_function;
mod generalized_gaussian;
mod geometric;
mod key_bias;
mod laplace;
mod of_distance;
mod product;
mod relative_buckets;
mod segments;
mod survival;
mod uniform;
mod window;

pub use adjacency::Graph;
pub use bias::LogWeights;
pub use contract::{Coverage, Prior, PriorPart};
pub(crate) use contract::{intersect, restrict};
pub use from_function::FromFunction;
pub use of_distance::{OfDistance, Over};
pub use product::{And, Combine, Product};
pub use relative_buckets::Directions;
pub use segments::SegmentNumbers;

pub use super::nodes::{Allowed, NodeGradient, Nodes};
use super::part::{List, Named, Sizes, parts, settle};
use super::tensors::{Inputs, Tensors};
use crate::{Error, Real};

parts! {
    /// A [prior](self) as data.
    AnyPrior, "prior", each_prior:
    uniform::Uniform,
    causal::Causal,
    window::Window,
    segments::Segments<Named>,
    adjacency::Adjacency<Named>,
    bias::Bias<Named>,
    geometric::Geometric,
    alibi::Alibi,
    laplace::Laplace,
    generalized_gaussian::GeneralizedGaussian,
    relative_buckets::RelativeBuckets<Named>,
    key_bias::KeyBias<Named>,
    beta_geometric::BetaGeometric,
    survival::Survival<Named>,
}

impl PriorPart for AnyPrior {
    fn build<'a, T: Real>(&self, inputs: &Inputs<'a, T>) -> Result<Box<dyn Prior<T> + 'a>, Error> {
        each_prior!(self, part => part.build(&inputs.of(part)))
    }
    fn sees_ahead(&self) -> bool {
        each_prior!(self, part => part.sees_ahead())
    }
}

impl AnyPrior {
    /// The product of priors for `heads` query heads, with the tensors that they name and those that
    /// stand for their numbers.
    ///
    /// # Errors
    /// [`Error`], where a tensor is missing or of another shape.
    pub fn product<'a, T: Real>(
        priors: &[Self],
        sizes: Sizes,
        tensors: &'a Tensors<'_, T>,
    ) -> Result<Product<'a, T>, Error> {
        let mut priors = priors.to_vec();
        settle(priors.iter_mut().map(List::part_mut).collect(), &sizes, tensors)?;
        let inputs = Inputs::new(sizes, tensors);
        let built: Result<Vec<_>, Error> =
            priors.iter().map(|prior| prior.build(&inputs)).collect();
        Ok(Product(built?))
    }
}
