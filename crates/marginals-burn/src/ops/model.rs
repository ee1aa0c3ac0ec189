//! Models with types, in both number formats.

use std::fmt::Debug;

use marginals::potential::Potential;
use marginals::prior::Prior;
use marginals::structure::Structure;
use marginals::{Error, Model, Posterior};
use ndarray::ArrayView4;

/// A model in every number format that tensors have, as one object.
pub trait AnyModel: Debug + Send + Sync {
    /// Its posterior in `f32`.
    ///
    /// # Errors
    /// As [`Model::posterior`].
    fn single<'a>(
        &'a self,
        q: ArrayView4<'a, f32>,
        k: ArrayView4<'a, f32>,
    ) -> Result<Posterior<'a, f32>, Error>;

    /// Its posterior in `f64`.
    ///
    /// # Errors
    /// As [`Model::posterior`].
    fn double<'a>(
        &'a self,
        q: ArrayView4<'a, f64>,
        k: ArrayView4<'a, f64>,
    ) -> Result<Posterior<'a, f64>, Error>;
}

impl<S, P, U> AnyModel for Model<S, P, U>
where
    S: Structure<f32> + Structure<f64>,
    P: Prior<f32> + Prior<f64> + Debug,
    U: Potential<f32> + Potential<f64> + Debug,
{
    fn single<'a>(
        &'a self,
        q: ArrayView4<'a, f32>,
        k: ArrayView4<'a, f32>,
    ) -> Result<Posterior<'a, f32>, Error> {
        self.posterior(q, k)
    }

    fn double<'a>(
        &'a self,
        q: ArrayView4<'a, f64>,
        k: ArrayView4<'a, f64>,
    ) -> Result<Posterior<'a, f64>, Error> {
        self.posterior(q, k)
    }
}
