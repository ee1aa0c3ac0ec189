use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Nothing;
use crate::infer::{Extremal, Handle, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};
use ndarray::Array3;

/// The most probable edge of every factor, [B, H, F]: the index of its key (of its query where keys
/// choose), −1 for no edge.
///
/// No edge is the answer where nothing is possible, and where having none is the likeliest; it wins
/// ties, which otherwise go to the smallest index. Independent edges: the likeliest single edge. A
/// query of NaN has no most probable edge: −1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Map;

impl<'v, T: Real> Question<'v, T> for Map {
    type Answer = Array3<i64>;
    type Upstream = Nothing;
    type Plan = Handle;

    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Handle, Error> {
        posterior.inference().require_edges("map")?;
        Ok(request.extremal(Extremal::Best(1)))
    }

    fn answer(&self, plan: &Handle, found: &Found<'_, '_, 'v, T>) -> Result<Array3<i64>, Error> {
        let edges = found.finding.extremes(*plan).edges();
        Ok(found.by_factor(edges.iter().map(|edge| edge.index).collect()))
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

impl NamedQuestion for Map {
    const NAME: &'static str = "map";
    const DEFINITION: &'static str = "argmax_j p_ij, −1 for no edge";
    const SHAPE: &'static str = "[B, H, F]";

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(Map))
    }
}
