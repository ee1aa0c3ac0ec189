use ndarray::Array3;

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Nothing;
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// log |Φ|, the logarithm of the number of possible edge sets of every factor, [B, H, F], where edges
/// depend on each other.
///
/// Possible are those whose score is above −∞; log-weights of −∞ take edges out. −∞ where there is none.
/// It is the recursion of the log-partition with every score 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCount;

impl<'v, T: Real> Question<'v, T> for LogCount {
    type Answer = Array3<T>;
    type Upstream = Nothing;
    type Plan = ();

    fn plan(&self, posterior: &Posterior<'_, T>, _: &mut Request<'v, T>) -> Result<(), Error> {
        posterior.require_sets(Self::NAME, "the marginals, and count").map(|_| ())
    }

    fn answer(&self, _: &(), found: &Found<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        let posterior = found.posterior;
        let sets = posterior.require_sets(Self::NAME, "the marginals, and count")?;
        Ok(found.by_factor(sets.log_count(&posterior.problem)))
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

impl NamedQuestion for LogCount {
    const NAME: &'static str = "log-count";
    const DEFINITION: &'static str = "log |Φ|, where edges depend on each other";
    const SHAPE: &'static str = "[B, H, F]";

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(LogCount))
    }
}
