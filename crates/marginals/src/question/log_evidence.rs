use ndarray::{Array3, ArrayView3};

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Numbers;
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// log Z(θ) − log Z(log w) = log Σ_φ π(φ) ψ(φ) of every factor, in nats, [B, H, F].
///
/// How well the content fits, averaged over the normalised prior π. −∞ where nothing is possible.
/// Cost: one more exponential per edge of blocks whose log-weights are not all 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEvidence;

impl<'v, T: Real> Question<'v, T> for LogEvidence {
    type Answer = Array3<T>;
    type Upstream = Numbers;
    type Plan = ();

    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Self::Plan, Error> {
        request.prior_log_partition();
        posterior.inference().require_log_partition("log-evidence")
    }

    fn answer(&self, _: &Self::Plan, found: &Found<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        let finding = &found.finding;
        Ok(found.by_factor((0..finding.factors()).map(|f| finding.log_evidence(f)).collect()))
    }

    fn backward<'g>(
        &self,
        _: &Self::Plan,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: Option<ArrayView3<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        if let Some(gradient) = found.check_by_factor("log-evidence", upstream)? {
            slopes.add_log_partition(gradient);
            slopes.add_prior_log_partition(gradient.iter().map(|&g| -g).collect());
        }
        Ok(())
    }
}

impl NamedQuestion for LogEvidence {
    const NAME: &'static str = "log-evidence";
    const DEFINITION: &'static str = "log Z(θ) − log Z(log w) = log Σ_φ π(φ) ψ(φ)";
    const SHAPE: &'static str = "[B, H, F]";
    const DIFFERENTIABLE: bool = true;

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(LogEvidence))
    }
}
