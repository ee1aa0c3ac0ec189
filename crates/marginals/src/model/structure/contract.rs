//! Promises of a structure.

use std::fmt::Debug;

use crate::infer::Inference;
use crate::model::tensors::Inputs;
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

/// A structure as data, which model files hold.
pub trait StructurePart {
    /// The structure, with the tensors that it names.
    ///
    /// # Errors
    /// [`Error`], where a tensor is missing or of another shape.
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error>;

    /// Whether the edges of a query depend on other queries, those after it among them, whatever the prior
    /// lets it see.
    fn couples_queries(&self) -> bool;
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
