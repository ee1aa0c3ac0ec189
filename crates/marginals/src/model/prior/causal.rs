use std::ops::Range;

use marginals_kernels::TileMut;
use serde::{Deserialize, Serialize};

use super::contract::{Coverage, Prior, PriorPart, intersect, log_count, restrict};
use super::product::Combine;
use crate::model::part::Part;
use crate::model::tensors::Inputs;
use crate::{Block, Error, Real};

/// log w_ij = 0 for keys at or behind the query's position, −∞ ahead of it.
///
/// Query i sits at position i + offset of the model, so that with offset = M − N the last query
/// sees every key (a cache), and with offset = 0 the first query sees only the first key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Causal;

impl Combine for Causal {}

impl Part for Causal {
    const NAME: &'static str = "causal";
    const MEANING: &'static str = "log w_ij = 0 for j ≤ i, −∞ ahead";
    const EXAMPLE: &'static str = "\"causal\"";
}

impl PriorPart for Causal {
    fn build<'a, T: Real>(&self, _inputs: &Inputs<'a, T>) -> Result<Box<dyn Prior<T> + 'a>, Error> {
        Ok(Box::new(*self))
    }
    fn sees_ahead(&self) -> bool {
        false
    }
}

impl Causal {
    fn allowed(block: &Block, i: usize) -> Range<usize> {
        0..usize::try_from(i as i64 + block.lead() + 1).unwrap_or(0)
    }
}

impl<T: Real> Prior<T> for Causal {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn add_log_weights(&self, block: &Block, scores: TileMut<'_, T>) {
        restrict(block, scores, |i| Self::allowed(block, i));
    }
    fn coverage(&self, block: &Block) -> Coverage {
        match block.distances() {
            (_, farthest) if farthest < 0 => Coverage::Empty,
            (nearest, _) if nearest >= 0 => Coverage::Free,
            _ => Coverage::Weighted,
        }
    }
    fn live_keys(&self, block: &Block) -> Range<usize> {
        let last = block.queries.end.saturating_sub(1);
        intersect(block.keys.clone(), Self::allowed(block, last))
    }
    fn is_mask(&self) -> bool {
        true
    }
    fn log_tail(&self, block: &Block) -> Option<f64> {
        Some(log_count(block, |i| Self::allowed(block, i)))
    }
}
