//! Potentials: how well the content of two nodes fits.
//!
//! A potential gives every edge a finite log ψ(q_i, k_j). It sees the nodes as **features**, made
//! once per row (scaled, normalised, rotated, projected …), and fills blocks of the score matrix
//! from them. Gradients go back the same way: from the block to the features, and from the
//! features to q, k and the parameters.
//!
//! To add one, see CONTRIBUTING.md.

mod additive;
mod contract;
mod cosine;
mod dot;
mod features;
mod from_function;
mod gaussian;
mod gaussian_density;
mod gaussian_distance;
mod rotary;
mod scores;
mod tangent;

pub use additive::{AdditiveForm, AdditiveWeights};
pub use contract::{Place, Potential, PotentialPart};
pub(crate) use features::lanes;
pub use features::{FeatureGradient, Features};
pub use from_function::FromFunction;
pub use gaussian::Precision;
pub use gaussian_density::GaussianDensity;
pub use rotary::RotaryPairs;
pub use tangent::Motion;

use super::part::{List, Named, Sizes, parts, settle};
use super::tensors::{Inputs, Tensors};
use crate::{Error, Real};

parts! {
    /// A [potential](self) as data.
    AnyPotential, "potential", each_potential:
    dot::Dot,
    cosine::Cosine,
    gaussian::Gaussian,
    additive::Additive<Named>,
    rotary::Rotary<AnyPotential>,
    scores::Scores,
}

impl PotentialPart for AnyPotential {
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Potential<T>>, Error> {
        each_potential!(self, part => part.build(&inputs.of(part)))
    }
}

impl AnyPotential {
    /// The potential of nodes of `width` numbers, with the tensors that it names and those that stand
    /// for its numbers.
    ///
    /// # Errors
    /// [`Error`], where a tensor is missing or of another shape.
    pub fn build_for<T: Real>(
        &self,
        sizes: Sizes,
        tensors: &Tensors<'_, T>,
    ) -> Result<Box<dyn Potential<T>>, Error> {
        let mut potential = self.clone();
        settle(vec![potential.part_mut()], &sizes, tensors)?;
        potential.build(&Inputs::new(sizes, tensors))
    }
}
