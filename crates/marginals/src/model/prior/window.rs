use std::ops::Range;

use crate::Real;
use marginals_kernels::TileMut;

use super::{Coverage, Prior, intersect, restrict};
use crate::Block;

/// log w_ij = 0 for keys from `left` behind the query's position to `right` ahead of it, both
/// included, −∞ elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How far back a query sees.
    pub left: usize,
    /// How far ahead.
    pub right: usize,
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
        "window"
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
}
