use ndarray::{Array3, ArrayView3};

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Numbers;
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// log Z(θ) of every factor, in nats, [B, H, F]: log Σ_j e^θ_ij where one key is picked.
///
/// The marginals are its gradient, P(φ_ij = 1) = ∂ log Z/∂θ_ij. −∞ where nothing is possible. What
/// PyTorch calls `logsumexp` or `lse`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPartition;

impl<'v, T: Real> Question<'v, T> for LogPartition {
    type Answer = Array3<T>;
    type Upstream = Numbers;
    type Plan = ();

    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Self::Plan, Error> {
        let _ = request;
        posterior.inference().require_log_partition("log-partition")
    }

    fn answer(&self, _: &Self::Plan, found: &Found<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        let finding = &found.finding;
        Ok(found.by_factor((0..finding.factors()).map(|f| finding.log_partition(f)).collect()))
    }

    fn backward<'g>(
        &self,
        _: &Self::Plan,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: Option<ArrayView3<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        if let Some(gradient) = found.check_by_factor("log-partition", upstream)? {
            slopes.add_log_partition(gradient);
        }
        Ok(())
    }
}

impl NamedQuestion for LogPartition {
    const NAME: &'static str = "log-partition";
    const DEFINITION: &'static str = "log Z(θ)";
    const SHAPE: &'static str = "[B, H, F]";
    const DIFFERENTIABLE: bool = true;

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(LogPartition))
    }
}
