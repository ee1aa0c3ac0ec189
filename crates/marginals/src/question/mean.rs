use ndarray::{Array4, ArrayView4};

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Vectors;
use crate::infer::{Handle, Linear, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Element, Error, Real};

/// E\[v\] of every query, [B, H, N, D_v]: what attention outputs. Holds the values v [B, Hk, M, D_v],
/// or [B, H, M, D_v] where query heads that share keys average values of their own.
///
/// Σ_j p_ij v_j for [`Value::Gather`](crate::Value::Gather); that over Σ_j p_ij for [`Value::Average`](crate::Value::Average), which has its digits
/// however small the mass is. 0 for a query without mass. Cost: one product of the posterior and the
/// values.
#[derive(Clone, Copy, Debug)]
pub struct Mean<'v, E>(pub ArrayView4<'v, E>);

impl<'v, T: Real, E: Element<Real = T>> Question<'v, T> for Mean<'v, E> {
    type Answer = Array4<T>;
    type Upstream = Vectors;
    type Plan = Handle;

    fn plan(&self, _: &Posterior<'_, T>, request: &mut Request<'v, T>) -> Result<Handle, Error> {
        let values = request.values(self.0)?;
        Ok(request.linear(Linear::Value(values)))
    }

    fn answer(&self, plan: &Handle, found: &Found<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        let gathered = found.finding.expectation(*plan).values.clone();
        Ok(found.gathered(found.by_query_of(self.0.dim().3, gathered)))
    }

    fn take(&self, plan: &Handle, found: &mut Found<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        if found.request.readers(*plan) > 1 {
            return self.answer(plan, found);
        }
        let gathered = found.finding.take_expectation(*plan);
        Ok(found.gathered(found.by_query_of(self.0.dim().3, gathered)))
    }

    fn backward<'g>(
        &self,
        plan: &Handle,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: Option<ArrayView4<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        let width = self.0.dim().3;
        let Some(gradient) = found.check_by_query_of("mean", upstream, width)? else {
            return Ok(());
        };
        found.add_gathered_gradient(*plan, gradient, slopes);
        Ok(())
    }
}

impl<E> NamedQuestion for Mean<'_, E> {
    const NAME: &'static str = "mean";
    const DEFINITION: &'static str = "E[v]";
    const SHAPE: &'static str = "[B, H, N, D_v]";
    const DIFFERENTIABLE: bool = true;
    const AVERAGES_VALUES: bool = true;

    fn make<'v, T: Real>(
        asking: &Asking<'v, T>,
    ) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(Mean(asking.values(Self::NAME)?)))
    }
}
