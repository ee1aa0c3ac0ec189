use ndarray::{Array3, ArrayView3};

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Numbers;
use crate::infer::slopes::flat;
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// Σ_j p_ij of every query, [B, H, N]: how many keys it holds.
///
/// 1 where each query picks one key (0 where no key may serve it), 1 less the null edge's
/// probability where it picks at most one; where keys choose it is the soft count of a mixture's
/// component, what [`Value::Average`](crate::Value::Average) divides by. Free: every pass sums it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryMass;

impl<'v, T: Real> Question<'v, T> for QueryMass {
    type Answer = Array3<T>;
    type Upstream = Numbers;
    type Plan = ();

    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        _: &mut Request<'v, T>,
    ) -> Result<Self::Plan, Error> {
        posterior.inference().require_edges("query-mass")
    }

    fn answer(&self, _: &Self::Plan, found: &Found<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        let mass = found.finding.mass().to_vec();
        Ok(found.by_query(found.unscaled(mass)))
    }

    fn backward<'g>(
        &self,
        _: &Self::Plan,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: Option<ArrayView3<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        if let Some(gradient) = found.check_by_query("query-mass", upstream)? {
            slopes.add_mass(found.scaled(flat(gradient), 1));
        }
        Ok(())
    }
}

impl NamedQuestion for QueryMass {
    const NAME: &'static str = "query-mass";
    const DEFINITION: &'static str = "Σ_j p_ij";
    const SHAPE: &'static str = "[B, H, N]";
    const DIFFERENTIABLE: bool = true;

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(QueryMass))
    }
}
