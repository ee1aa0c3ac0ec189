//! Distances: how far a key lies behind a query, which priors of distance are functions of.
//!
//! To add one, see CONTRIBUTING.md.

mod contextual;
mod contract;
mod index;
mod survival;

pub use contract::{Distance, DistancePart};
pub use survival::ForgetGates;

use super::part::{Named, parts};
use super::tensors::Inputs;
use crate::{Error, Real};

parts! {
    /// A [distance](self) as data.
    AnyDistance, "distance", each_distance:
    index::Index,
    contextual::Contextual,
    survival::Survival<Named>,
}

impl DistancePart for AnyDistance {
    fn build<'a, T: Real>(
        &self,
        inputs: &Inputs<'a, T>,
    ) -> Result<Box<dyn Distance<T> + 'a>, Error> {
        each_distance!(self, part => part.build(&inputs.of(part)))
    }
    fn sees_ahead(&self) -> bool {
        each_distance!(self, part => DistancePart::sees_ahead(part))
    }
}

impl AnyDistance {
    /// Of what a prior of distance is a function unless it says otherwise.
    pub(crate) const INDEX: Self = Self::Index(Index);

    /// Whether it is the usual one.
    pub(crate) fn is_index(&self) -> bool {
        *self == Self::INDEX
    }
}

impl Default for AnyDistance {
    fn default() -> Self {
        Self::INDEX
    }
}
