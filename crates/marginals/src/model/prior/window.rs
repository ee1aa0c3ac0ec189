use std::ops::Range;

use marginals_kernels::TileMut;
use serde::{Deserialize, Serialize};

use super::contract::{Coverage, Prior, PriorPart, intersect, log_count, restrict};
use super::product::Combine;
use crate::model::part::Part;
use crate::model::tensors::Inputs;
use crate::{Block, Error, Real};

/// log w_ij = 0 for keys from `left` behind the query's position to `right` ahead of it, both
/// included, −∞ elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Window {
    /// How far back a query sees.
    pub left: usize,
    /// How far ahead.
    pub right: usize,
}

impl Combine for Window {}

impl Part for Window {
    const NAME: &'static str = "window";
    const MEANING: &'static str = "log w_ij = 0 for i − left ≤ j ≤ i + right, −∞ elsewhere";
    const EXAMPLE: &'static str = "{ window = { left = 127, right = 0 } }";
}

impl PriorPart for Window {
    fn build<'a, T: Real>(&self, _inputs: &Inputs<'a, T>) -> Result<Box<dyn Prior<T> + 'a>, Error> {
        Ok(Box::new(*self))
    }
    fn sees_ahead(&self) -> bool {
        self.right > 0
    }
}

impl Window {
    fn allowed(&self, block: &Block, i: usize) -> Range<usize> {
        let position = i as i64 + block.lead();
        let from = position.saturating_sub_unsigned(self.left as u64).max(0);
        let to = position.saturating_add_unsigned(self.right as u64).saturating_add(1).max(0);
        from as usize..to as usize
    }
}

impl<T: Real> Prior<T> for Window {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn add_log_weights(&self, block: &Block, scores: TileMut<'_, T>) {
        restrict(block, scores, |i| self.allowed(block, i));
    }
    fn coverage(&self, block: &Block) -> Coverage {
        let (nearest, farthest) = block.distances();
        let left = i64::try_from(self.left).unwrap_or(i64::MAX);
        let right = -i64::try_from(self.right).unwrap_or(i64::MAX);
        if nearest > left || farthest < right {
            Coverage::Empty
        } else if farthest <= left && nearest >= right {
            Coverage::Free
        } else {
            Coverage::Weighted
        }
    }
    fn live_keys(&self, block: &Block) -> Range<usize> {
        let last = block.queries.end.saturating_sub(1);
        let hull = self.allowed(block, block.queries.start).start..self.allowed(block, last).end;
        intersect(block.keys.clone(), hull)
    }
    fn is_mask(&self) -> bool {
        true
    }
    fn log_tail(&self, block: &Block) -> Option<f64> {
        Some(log_count(block, |i| self.allowed(block, i)))
    }
}
