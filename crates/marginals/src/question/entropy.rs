use ndarray::{Array3, ArrayView3};

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Numbers;
use crate::infer::{Handle, Linear, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// −E[log p(φ | x)] of every factor, in nats, [B, H, F].
///
/// How uncertain a choice is: e^entropy is the effective number of edges it is spread over. For
/// independent edges, the sum over a query's edges; of a walk, that of the number of hops and of every
/// pick that is made. 0 where nothing is possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entropy;

impl<'v, T: Real> Question<'v, T> for Entropy {
    type Answer = Array3<T>;
    type Upstream = Numbers;
    type Plan = Handle;

    fn plan(
        &self,
        _: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Self::Plan, Error> {
        Ok(request.linear(Linear::LogProbability))
    }

    fn answer(&self, plan: &Self::Plan, found: &Found<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        let expected = &found.finding.expectation(*plan).values;
        Ok(found.by_factor(expected.iter().map(|&x| T::zero() - x).collect()))
    }

    fn backward<'g>(
        &self,
        plan: &Self::Plan,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: Option<ArrayView3<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        if let Some(gradient) = found.check_by_factor("entropy", upstream)? {
            slopes.add_linear(*plan, gradient.iter().map(|&g| -g).collect());
        }
        Ok(())
    }
}

impl NamedQuestion for Entropy {
    const NAME: &'static str = "entropy";
    const DEFINITION: &'static str = "−E[log p]";
    const SHAPE: &'static str = "[B, H, F]";
    const DIFFERENTIABLE: bool = true;

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(Entropy))
    }
}
