use ndarray::{Array3, ArrayView3};

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Numbers;
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// Σ_i p_ij of every key, [B, H, M]: how much attention it receives.
///
/// Needs every normaliser before it can start, so it costs one more pass over the scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnMass;

impl<'v, T: Real> Question<'v, T> for ColumnMass {
    type Answer = Array3<T>;
    type Upstream = Numbers;
    type Plan = ();

    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        _: &mut Request<'v, T>,
    ) -> Result<Self::Plan, Error> {
        posterior.inference().require_edges("column-mass")
    }

    fn answer(&self, _: &Self::Plan, found: &Found<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        let posterior = found.posterior;
        let mass = found.edges("column-mass")?.column_mass(&posterior.problem, &found.finding);
        let shape = found.shape();
        let sizes = (shape.batch, shape.heads, shape.keys);
        Ok(Array3::from_shape_vec(sizes, mass).expect("one mass per key"))
    }

    fn backward<'g>(
        &self,
        _: &Self::Plan,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: Option<ArrayView3<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        if let Some(gradient) = found.check_by_key("column-mass", upstream)? {
            slopes.add_column_mass(gradient);
        }
        Ok(())
    }
}

impl NamedQuestion for ColumnMass {
    const NAME: &'static str = "column-mass";
    const DEFINITION: &'static str = "Σ_i p_ij";
    const SHAPE: &'static str = "[B, H, M]";
    const DIFFERENTIABLE: bool = true;

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(ColumnMass))
    }
}
