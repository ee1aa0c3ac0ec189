//! How a pass is cut: into tasks, blocks, strips and tiles.

use std::ops::Range;

use crate::prior::Prior;
use crate::{Block, Real};

/// Keys below which a range of them is not worth splitting.
pub(in crate::infer) const FEWEST_KEYS: usize = 2048;

/// Queries that share a pass over the keys: their features and accumulators stay in cache.
pub(in crate::infer) const QUERY_BLOCK: usize = 192;
/// Keys per tile of the forward pass.
pub(in crate::infer) const KEY_BLOCK: usize = 512;
/// Elements from one row of a tile to the next. A power of two would put the rows a product reads
/// side by side into the same few lines of the first-level cache.
pub(in crate::infer) const STRIDE: usize = KEY_BLOCK + 16;
/// Most rows per tile of the forward pass, on any instruction set.
pub(in crate::infer) const STRIP: usize = 24;
/// Key blocks start at multiples of this, counted from the first key of a pass, so that they are
/// whole panels on every instruction set.
pub(crate) const ALIGN: usize = 64;
/// Tasks wanted before the keys are split too. A constant, so that the cut does not depend on the
/// number of threads.
pub(crate) const TASKS: usize = 16;

/// `range` in blocks of at most `size`, starting at `first` plus a multiple of [`ALIGN`].
pub(in crate::infer) fn blocks(
    range: Range<usize>,
    first: usize,
    size: usize,
) -> impl Iterator<Item = Range<usize>> {
    let start = first + (range.start - first) / ALIGN * ALIGN;
    let end = if range.is_empty() { start } else { range.end };
    (start..end).step_by(size).map(move |from| from..from.saturating_add(size).min(end))
}

/// `block` without the keys on either side that none of its queries can have, still starting
/// aligned from `first`.
pub(in crate::infer) fn narrowed<T: Real>(
    prior: &dyn Prior<T>,
    block: Block,
    first: usize,
) -> Block {
    let live = prior.live_keys(&block);
    let keys = blocks(live, first, usize::MAX).next().unwrap_or(block.keys.start..block.keys.start);
    Block { keys, ..block }
}

/// `range` cut into at most `parts` runs of whole multiples of [`ALIGN`].
pub(in crate::infer) fn split(range: Range<usize>, parts: usize) -> Vec<Range<usize>> {
    let size = range.len().div_ceil(parts.max(1)).next_multiple_of(ALIGN).max(ALIGN);
    if range.is_empty() {
        return vec![range];
    }
    range.clone().step_by(size).map(|from| from..(from + size).min(range.end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range((from, to): (usize, usize)) -> Range<usize> {
        from..to
    }

    #[test]
    fn blocks_cover_a_range_and_start_aligned() {
        let got: Vec<_> = blocks(70..200, 0, 64).collect();
        assert_eq!(got, [64..128, 128..192, 192..200]);
        assert_eq!(blocks(70..70, 0, 64).count(), 0);
        let got: Vec<_> = blocks(10..100, 10, 256).collect();
        assert_eq!(got, [(10, 100)].map(range));
    }

    #[test]
    fn splits_cover_a_range() {
        assert_eq!(split(0..200, 2), [0..128, 128..200]);
        assert_eq!(split(5..5, 4), [(5, 5)].map(range));
        assert_eq!(split(0..10, 16), [(0, 10)].map(range));
    }
}
