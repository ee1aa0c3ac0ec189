use ndarray::{Array3, ArrayView3};

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Numbers;
use crate::infer::slopes::flat;
use crate::infer::{Handle, Linear, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// KL(posterior ‖ π) = E[log p − log π] of every factor, in nats, [B, H, F].
///
/// How much was learned from the content, π being the normalised prior; never negative, and 0 where
/// nothing is possible. Equal to E[log ψ] − log-evidence, without its cancellation: log-weights are
/// taken relative to the largest of their factor, so that masks of −10⁹ cost no digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kl;

impl<'v, T: Real> Question<'v, T> for Kl {
    type Answer = Array3<T>;
    type Upstream = Numbers;
    type Plan = Handle;

    fn plan(
        &self,
        _: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Self::Plan, Error> {
        Ok(request.linear(Linear::LogRatio))
    }

    fn answer(&self, plan: &Self::Plan, found: &Found<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        Ok(found.by_factor(found.finding.expectation(*plan).values.clone()))
    }

    fn backward<'g>(
        &self,
        plan: &Self::Plan,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: Option<ArrayView3<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        if let Some(gradient) = found.check_by_factor("kl", upstream)? {
            slopes.add_linear(*plan, flat(gradient));
        }
        Ok(())
    }
}

impl NamedQuestion for Kl {
    const NAME: &'static str = "kl";
    const DEFINITION: &'static str = "KL(posterior ‖ prior)";
    const SHAPE: &'static str = "[B, H, F]";
    const DIFFERENTIABLE: bool = true;

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(Kl))
    }
}
