use ndarray::{Axis, CowArray, Ix3};
use serde::{Deserialize, Serialize};

use super::bias::LogWeights;
use super::contract::{Prior, PriorPart, hand_on_prior};
use super::product::Combine;
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Error, Real};

/// log w_ij = b_j: how eligible a key is, whoever asks. A large entry is a sink, −∞ a padded key.
///
/// Shape [B, H, M], where batch and head axes may be 1. In a file it is [`Named`]: the tensor
/// `key-bias`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyBias<W> {
    #[serde(skip)]
    log_weights: W,
}

impl<'a, T: Real> KeyBias<LogWeights<'a, T>> {
    /// One log-weight per key, shared along axes of length 1.
    pub fn new(log_weights: impl Into<CowArray<'a, T, Ix3>>) -> Self {
        let every_query = log_weights.into().insert_axis(Axis(2));
        Self { log_weights: LogWeights::new(KeyBias::NAME, every_query) }
    }
}

impl<W> Combine for KeyBias<W> {}

impl Part for KeyBias<Named> {
    const NAME: &'static str = "key-bias";
    const MEANING: &'static str = "log w_ij = b_j";
    const EXAMPLE: &'static str = "\"key-bias\"";
    const TENSORS: &'static [NamedTensor] =
        &[NamedTensor::real("key-bias", "[B, H, M]", "log-weights, shared along axes of length 1")];
}

impl PriorPart for KeyBias<Named> {
    fn build<'a, T: Real>(&self, inputs: &Inputs<'a, T>) -> Result<Box<dyn Prior<T> + 'a>, Error> {
        Ok(Box::new(KeyBias::new(inputs.tensor("key-bias")?)))
    }
}

hand_on_prior!([T: Real] KeyBias<LogWeights<'_, T>>, this => this.log_weights);
