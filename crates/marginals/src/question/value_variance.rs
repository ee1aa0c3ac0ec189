use ndarray::{Array4, ArrayView4};

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Vectors;
use crate::infer::slopes::flat;
use crate::infer::{Handle, Linear, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Element, Error, Real, Value};

/// E\[v²\] − E\[v\]² of every query and coordinate, [B, H, N, D_v]. Holds the values v [B, Hk, M, D_v],
/// or [B, H, M, D_v].
///
/// How far single draws scatter about the mean: the mean of S draws has variance this / S. Where a
/// query may have several edges, which are then independent, Σ_j p_ij (1 − p_ij) v_j². An average
/// divides by the mass squared. 0 for a query without mass. Values are taken about a reference near
/// their mean, so that what is common to them costs no digits; never negative. Cost: two more products
/// with the values.
#[derive(Clone, Copy, Debug)]
pub struct ValueVariance<'v, E>(pub ArrayView4<'v, E>);

impl<'v, T: Real, E: Element<Real = T>> Question<'v, T> for ValueVariance<'v, E> {
    type Answer = Array4<T>;
    type Upstream = Vectors;
    type Plan = Handle;

    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Handle, Error> {
        posterior.inference().require_edges("value-variance")?;
        let values = request.values(self.0)?;
        Ok(request.linear(Linear::ValueVariance(values)))
    }

    fn answer(&self, plan: &Handle, found: &Found<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        let variance = found.finding.expectation(*plan).values.clone();
        let variance = found.by_query_of(self.0.dim().3, variance);
        let average = found.posterior.problem.value == Value::Average;
        if !average {
            return Ok(found.gathered(variance));
        }
        // Σ p (1 − p) v² over the mass squared; both are in the scale of the query.
        let mut variance = found.gathered(found.gathered(variance));
        for (mut row, scale) in variance.rows_mut().into_iter().zip(&found.finding.log_scale) {
            let scale = (-*scale).exp();
            row.mapv_inplace(|x| if x == T::zero() { x } else { x * scale });
        }
        Ok(variance)
    }

    fn backward<'g>(
        &self,
        plan: &Handle,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: Option<ArrayView4<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        let width = self.0.dim().3;
        let checked = found.check_by_query_of("value-variance", upstream, width)?;
        let Some(gradient) = checked else { return Ok(()) };
        if found.posterior.problem.value == Value::Gather {
            slopes.add_linear(*plan, found.scaled(flat(gradient), width));
            return Ok(());
        }
        let variance = &found.finding.expectation(*plan).values;
        let (mut on_sum, mut on_mass) = (flat(gradient).into_owned(), Vec::new());
        for (i, &mass) in found.finding.mass().iter().enumerate() {
            let scale = found.finding.log_scale.get(i).map_or(T::one(), |s| (-*s).exp());
            let mut through = T::zero();
            for c in i * width..(i + 1) * width {
                // The square of a small mass is 0 long before the mass is. A gradient of 0 takes no part,
                // whatever the query holds.
                let idle = mass == T::zero() || on_sum[c] == T::zero();
                let g = if idle { T::zero() } else { on_sum[c] / mass / mass * scale };
                on_sum[c] = g;
                if g != T::zero() {
                    through -= (g + g) * variance[c] / mass;
                }
            }
            on_mass.push(through);
        }
        slopes.add_linear(*plan, on_sum.into());
        slopes.add_mass(on_mass.into());
        Ok(())
    }
}

impl<E> NamedQuestion for ValueVariance<'_, E> {
    const NAME: &'static str = "value-variance";
    const DEFINITION: &'static str = "E[v²] − E[v]²";
    const SHAPE: &'static str = "[B, H, N, D_v]";
    const DIFFERENTIABLE: bool = true;
    const AVERAGES_VALUES: bool = true;

    fn make<'v, T: Real>(
        asking: &Asking<'v, T>,
    ) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(ValueVariance(asking.values(Self::NAME)?)))
    }
}
