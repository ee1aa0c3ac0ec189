use ndarray::{Array4, ArrayView4};

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Vectors;
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real, check_room};

/// p_ij = P(φ_ij = 1 | x), [B, H, N, M]: the whole matrix, for those who want it.
///
/// The one answer whose memory grows with N×M; more than there is memory for is refused. What transformers calls `attentions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marginals;

impl<'v, T: Real> Question<'v, T> for Marginals {
    type Answer = Array4<T>;
    type Upstream = Vectors;
    type Plan = ();

    fn plan(&self, posterior: &Posterior<'_, T>, _: &mut Request<'v, T>) -> Result<(), Error> {
        posterior.inference().require_edges("marginals")?;
        let shape = posterior.shape();
        let edges = [shape.batch, shape.heads, shape.queries, shape.keys];
        check_room("marginals", &edges, size_of::<T>())
    }

    fn answer(&self, _: &(), found: &Found<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        let edges = found.edges("marginals")?;
        let all = edges.marginals(&found.posterior.problem, &found.finding);
        Ok(found.by_query_of(found.shape().keys, all))
    }

    fn backward<'g>(
        &self,
        _: &(),
        found: &'g Found<'_, '_, 'v, T>,
        upstream: Option<ArrayView4<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        let keys = found.shape().keys;
        if let Some(gradient) = found.check_by_query_of("marginals", upstream, keys)? {
            slopes.add_marginals(gradient);
        }
        Ok(())
    }
}

impl NamedQuestion for Marginals {
    const NAME: &'static str = "marginals";
    const DEFINITION: &'static str = "p_ij = P(φ_ij = 1)";
    const SHAPE: &'static str = "[B, H, N, M]";
    const DIFFERENTIABLE: bool = true;

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(Marginals))
    }
}
