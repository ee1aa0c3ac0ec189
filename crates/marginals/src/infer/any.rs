//! Inferences as data.

use serde::{Deserialize, Serialize};

use super::entropic::Entropic;
use super::truncated::Truncated;
use crate::posterior::{Approximation, Posterior};
use crate::{Error, Real};

/// An inference in place of the exact one, as data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnyInference {
    /// [`Truncated`].
    Truncated(Truncated),
    /// [`Entropic`].
    Entropic(Entropic),
}

impl<T: Real> Approximation<T> for AnyInference {
    fn of<'a>(self, exact: Posterior<'a, T>) -> Result<Posterior<'a, T>, Error> {
        match self {
            Self::Truncated(truncated) => truncated.of(exact),
            Self::Entropic(entropic) => entropic.of(exact),
        }
    }
}

impl From<Truncated> for AnyInference {
    fn from(truncated: Truncated) -> Self {
        Self::Truncated(truncated)
    }
}

impl From<Entropic> for AnyInference {
    fn from(entropic: Entropic) -> Self {
        Self::Entropic(entropic)
    }
}
