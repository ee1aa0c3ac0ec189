use ndarray::Array3;

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Nothing;
use crate::infer::{Extremal, Handle, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// The probability of the most probable choice (see [`Map`](super::Map)) of every factor, [B, H, F]; 0
/// where nothing is possible.
///
/// Having no edge is a choice too where the structure allows it: the largest probability of
/// at-most-one may be that of none, as MAP −1 then says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxProbability;

impl<'v, T: Real> Question<'v, T> for MaxProbability {
    type Answer = Array3<T>;
    type Upstream = Nothing;
    type Plan = Handle;

    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Handle, Error> {
        posterior.inference().require_edges("max-probability")?;
        Ok(request.extremal(Extremal::Best(1)))
    }

    fn answer(&self, plan: &Handle, found: &Found<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        let edges = found.finding.extremes(*plan).edges().iter().enumerate();
        Ok(found.by_factor(edges.map(|(f, &edge)| found.finding.probability(f, edge)).collect()))
    }

    fn backward<'g>(
        &self,
        _: &Handle,
        _: &'g Found<'_, '_, 'v, T>,
        (): (),
        _: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

impl NamedQuestion for MaxProbability {
    const NAME: &'static str = "max-probability";
    const DEFINITION: &'static str = "max_j p_ij, having no edge among the choices";
    const SHAPE: &'static str = "[B, H, F]";

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(MaxProbability))
    }
}
