//! Numbers that may differ by head.

use serde::{Deserialize, Serialize};

use crate::{Error, Shape};

/// One number for every head, or one for each.
///
/// ```
/// use marginals::PerHead;
/// let shared = PerHead::from(0.5);
/// let own = PerHead::from([0.5, 0.25]);
/// assert_eq!((shared.of(1), own.of(1)), (0.5, 0.25));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number, or a list of one number per head: `0.1` or `[0.1, 0.2]`")]
pub enum PerHead {
    /// One number for all heads.
    One(f64),
    /// One per head.
    Each(Vec<f64>),
}

impl PerHead {
    /// The numbers, one or one per head.
    pub fn values(&self) -> &[f64] {
        match self {
            Self::One(x) => std::slice::from_ref(x),
            Self::Each(list) => list,
        }
    }

    /// Index of the number of `head`.
    #[inline(always)]
    pub fn index(&self, head: usize) -> usize {
        head_index(self.values().len(), head)
    }

    /// The number of `head`.
    #[inline(always)]
    pub fn of(&self, head: usize) -> f64 {
        of_head(self.values(), head)
    }
}

impl From<f64> for PerHead {
    fn from(number: f64) -> Self {
        Self::One(number)
    }
}

impl From<Vec<f64>> for PerHead {
    fn from(list: Vec<f64>) -> Self {
        Self::Each(list)
    }
}

impl From<&[f64]> for PerHead {
    fn from(list: &[f64]) -> Self {
        Self::Each(list.to_vec())
    }
}

impl<const N: usize> From<[f64; N]> for PerHead {
    fn from(list: [f64; N]) -> Self {
        Self::Each(list.to_vec())
    }
}

/// Index of `head` in a parameter that has one entry per head, or one for all.
#[inline(always)]
pub(crate) fn head_index(entries: usize, head: usize) -> usize {
    if entries == 1 { 0 } else { head }
}

/// Entry of `head` in such a parameter.
#[inline(always)]
pub(crate) fn of_head(values: &[f64], head: usize) -> f64 {
    values[head_index(values.len(), head)]
}

/// Refuses a parameter that has neither one entry nor one per head.
pub(crate) fn check_per_head(name: &str, values: &[f64], shape: &Shape) -> Result<(), Error> {
    if values.len() == 1 || values.len() == shape.heads {
        return Ok(());
    }
    Err(Error::shape(
        name,
        format!("[1] or [{}], one per head", shape.heads),
        &[values.len()],
        "Give one number for all heads, or one for each.",
    ))
}
