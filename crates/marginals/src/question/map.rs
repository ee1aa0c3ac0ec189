use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Nothing;
use crate::infer::{Extremal, Handle, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};
use ndarray::Array3;

/// The most probable edge of every factor, [B, H, F]: the index of its key (of its query where keys
/// choose), −1 for no edge. Where edges depend on each other, the most probable edge set: the key of
/// every query in it, [B, H, N].
///
/// No edge is the answer where nothing is possible, and where having none is the likeliest; it wins
/// ties, which otherwise go to the smallest index. Independent edges: the likeliest single edge. A
/// query of NaN has no most probable edge: −1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Map;

impl<'v, T: Real> Question<'v, T> for Map {
    type Answer = Array3<i64>;
    type Upstream = Nothing;
    /// Where the best edges stand; edge sets are searched in a pass of their own.
    type Plan = Option<Handle>;

    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Option<Handle>, Error> {
        let inference = posterior.inference();
        inference.require_edges("map")?;
        let by_choice = inference.sets().is_none();
        Ok(by_choice.then(|| request.extremal(Extremal::Best(1))))
    }

    fn reads_sums(&self) -> bool {
        false
    }

    fn answer(
        &self,
        plan: &Option<Handle>,
        found: &Found<'_, '_, 'v, T>,
    ) -> Result<Array3<i64>, Error> {
        let Some(plan) = plan else { return best_set(found) };
        let edges = found.finding.extremes(*plan).edges();
        Ok(found.by_factor(edges.iter().map(|edge| edge.index).collect()))
    }

    fn backward<'g>(
        &self,
        _: &Option<Handle>,
        _: &'g Found<'_, '_, 'v, T>,
        (): (),
        _: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

/// Key of every query in the best edge set of its head.
fn best_set<T: Real>(found: &Found<'_, '_, '_, T>) -> Result<Array3<i64>, Error> {
    let (shape, posterior) = (found.shape(), found.posterior);
    let sets = posterior.inference().sets().expect("planned for edge sets");
    let best = sets.best(&posterior.problem, 1)?;
    let per_head = best.len() / (shape.batch * shape.heads).max(1);
    let mut keys = vec![-1; shape.batch * shape.heads * shape.queries];
    for (factor, sets) in best.iter().enumerate() {
        let first = factor / per_head * shape.queries + factor % per_head;
        for edge in sets.iter().flat_map(|set| &set.edges) {
            keys[first + edge / shape.keys] = (edge % shape.keys) as i64 + shape.key_offset;
        }
    }
    Ok(found.by_query(keys))
}

impl NamedQuestion for Map {
    const NAME: &'static str = "map";
    const DEFINITION: &'static str = "argmax_j p_ij, −1 for no edge";
    const SHAPE: &'static str = "[B, H, F]; of edge sets [B, H, N]";

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(Map))
    }
}
