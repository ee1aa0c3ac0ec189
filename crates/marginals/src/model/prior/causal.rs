use std::ops::Range;

use crate::Real;
use marginals_kernels::TileMut;

use super::{Coverage, Prior, intersect, restrict};
use crate::Block;

/// log w_ij = 0 for keys at or behind the query's position, −∞ ahead of it.
///
/// Query i sits at position i + offset of the model, so that with offset = M − N the last query
/// sees every key (a cache), and with offset = 0 the first query sees only the first key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Causal;

impl Causal {
    fn allowed(block: &Block, i: usize) -> Range<usize> {
        0..usize::try_from(i as i64 + block.lead() + 1).unwrap_or(0)
    }
}

impl<T: Real> Prior<T> for Causal {
    fn name(&self) -> &'static str {
        "causal"
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
}
