use ndarray::Array4;

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Nothing;
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real, check_room};

/// max_{φ ∋ ij} Σ φ θ, the score of the best edge set that has each edge, [B, H, N, M], where edges depend
/// on each other.
///
/// Less the log-partition it is the largest log-probability of a set with the edge; less the largest of
/// all, what having the edge costs. −∞ for edges that no possible set has. Cost: the recursion once
/// forward and once backward, with max for addition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxMarginals;

impl<'v, T: Real> Question<'v, T> for MaxMarginals {
    type Answer = Array4<T>;
    type Upstream = Nothing;
    type Plan = ();

    fn plan(&self, posterior: &Posterior<'_, T>, _: &mut Request<'v, T>) -> Result<(), Error> {
        posterior.require_sets(Self::NAME, "`max-score` or `top-k`")?;
        let shape = posterior.shape();
        let edges = [shape.batch, shape.heads, shape.queries, shape.keys];
        check_room(Self::NAME, &edges, size_of::<T>())
    }

    fn reads_sums(&self) -> bool {
        false
    }

    fn answer(&self, _: &(), found: &Found<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        let posterior = found.posterior;
        let sets = posterior.require_sets(Self::NAME, "`max-score` or `top-k`")?;
        let all = sets.max_marginals(&posterior.problem)?;
        Ok(found.by_query_of(found.shape().keys, all))
    }

    fn backward<'g>(
        &self,
        (): &(),
        _: &'g Found<'_, '_, 'v, T>,
        (): (),
        _: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

impl NamedQuestion for MaxMarginals {
    const NAME: &'static str = "max-marginals";
    const DEFINITION: &'static str = "max over edge sets that have the edge of Σ φ θ";
    const SHAPE: &'static str = "[B, H, N, M]";

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(MaxMarginals))
    }
}
