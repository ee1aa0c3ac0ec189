//! Upstream gradients named in the input.

use marginals::Real;
use marginals::infer::exact::Upstream;
use ndarray::{Array3, Array4, Ix3, Ix4};

use super::tensors::Inputs;

/// What an upstream gradient is for.
const WHY: &str = "an upstream gradient";

/// Gradients of a loss with respect to answers, as found in the input.
pub struct UpstreamTensors<T> {
    mean: Option<Array4<T>>,
    value_variance: Option<Array4<T>>,
    log_partition: Option<Array3<T>>,
    log_evidence: Option<Array3<T>>,
    entropy: Option<Array3<T>>,
    kl: Option<Array3<T>>,
    column_mass: Option<Array3<T>>,
    expected_distance: Option<Array3<T>>,
    query_mass: Option<Array3<T>>,
}

impl<T: Real> UpstreamTensors<T> {
    /// Takes every upstream gradient out of the input.
    pub fn take(inputs: &mut Inputs<'_, T>) -> Result<Self, marginals::Error> {
        let upstream = Self {
            mean: inputs.optional::<Ix4>("grad.mean", WHY)?,
            value_variance: inputs.optional::<Ix4>("grad.value-variance", WHY)?,
            log_partition: inputs.optional::<Ix3>("grad.log-partition", WHY)?,
            log_evidence: inputs.optional::<Ix3>("grad.log-evidence", WHY)?,
            entropy: inputs.optional::<Ix3>("grad.entropy", WHY)?,
            kl: inputs.optional::<Ix3>("grad.kl", WHY)?,
            column_mass: inputs.optional::<Ix3>("grad.column-mass", WHY)?,
            expected_distance: inputs.optional::<Ix3>("grad.expected-distance", WHY)?,
            query_mass: inputs.optional::<Ix3>("grad.query-mass", WHY)?,
        };
        inputs.refuse_unread_gradients(UPSTREAM_NAMES)?;
        Ok(upstream)
    }

    /// Whether one of them is of an average of values.
    pub fn average_values(&self) -> bool {
        self.mean.is_some() || self.value_variance.is_some()
    }

    /// All of them, or `None` where there are none.
    pub fn views(&self) -> Option<Upstream<'_, T>> {
        let upstream = Upstream {
            mean: self.mean.as_ref().map(|g| g.view()),
            value_variance: self.value_variance.as_ref().map(|g| g.view()),
            log_partition: self.log_partition.as_ref().map(|g| g.view()),
            log_evidence: self.log_evidence.as_ref().map(|g| g.view()),
            entropy: self.entropy.as_ref().map(|g| g.view()),
            kl: self.kl.as_ref().map(|g| g.view()),
            column_mass: self.column_mass.as_ref().map(|g| g.view()),
            expected_distance: self.expected_distance.as_ref().map(|g| g.view()),
            query_mass: self.query_mass.as_ref().map(|g| g.view()),
            ..Upstream::default()
        };
        let any = self.average_values()
            || upstream.log_partition.is_some()
            || upstream.log_evidence.is_some()
            || upstream.entropy.is_some()
            || upstream.kl.is_some()
            || upstream.column_mass.is_some()
            || upstream.expected_distance.is_some()
            || upstream.query_mass.is_some();
        any.then_some(upstream)
    }
}

/// The names upstream gradients may have.
const UPSTREAM_NAMES: &[&str] = &[
    "grad.mean",
    "grad.value-variance",
    "grad.log-partition",
    "grad.log-evidence",
    "grad.entropy",
    "grad.kl",
    "grad.column-mass",
    "grad.expected-distance",
    "grad.query-mass",
];
