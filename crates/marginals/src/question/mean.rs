use std::borrow::Cow;

use ndarray::{Array4, ArrayView4};

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Vectors;
use crate::infer::{Handle, Linear, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Element, Error, Real, Value};

/// E\[v\] of every query, [B, H, N, D_v]: what attention outputs. Holds the values v [B, Hk, M, D_v],
/// or [B, H, M, D_v] where query heads that share keys average values of their own.
///
/// Σ_j p_ij v_j for [`Value::Gather`]; that over Σ_j p_ij for [`Value::Average`], which has its digits
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
        let gradient = crate::infer::slopes::flat(gradient);
        if found.posterior.problem.value == Value::Gather {
            slopes.add_linear(*plan, found.scaled(gradient, width));
            return Ok(());
        }
        // A gathered sum over the mass: g/m on the sum, and the rest on the mass.
        let gathered = &found.finding.expectation(*plan).values;
        let (mut on_sum, mut on_mass) = (gradient.into_owned(), Vec::new());
        for (i, &mass) in found.finding.mass().iter().enumerate() {
            let mut through = T::zero();
            for c in i * width..(i + 1) * width {
                // A gradient of 0 takes no part, whatever the query holds.
                let idle = mass == T::zero() || on_sum[c] == T::zero();
                let g = if idle { T::zero() } else { on_sum[c] / mass };
                on_sum[c] = g;
                if g != T::zero() {
                    through -= g * gathered[c] / mass;
                }
            }
            on_mass.push(through);
        }
        slopes.add_linear(*plan, Cow::Owned(on_sum));
        slopes.add_mass(Cow::Owned(on_mass));
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
