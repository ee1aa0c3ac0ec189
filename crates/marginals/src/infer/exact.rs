//! Exact inference in factored structures, by streaming.
//!
//! The scores are made in tiles and never kept. A **forward** pass folds them into the
//! [`Statistics`] that the questions asked are answered from; partial statistics of two key ranges
//! merge into those of their union. Questions about single edges across factors (column mass,
//! marginals, samples of sets) take a **second pass** against the normalisers found by the first,
//! and so does the **backward** pass.
//!
//! How work is cut depends on the sizes alone, never on the number of threads, so results are the
//! same at any thread count.

mod backward;
mod by_key;
mod by_query;
mod cross_entropy;
mod edge;
mod forward;
mod heads;
mod request;
mod run;
mod scorer;
mod second_pass;
mod statistics;
mod summary;

use crate::Real;

use crate::Block;
use crate::prior::Prior;

pub use backward::{Gradients, Upstream};
pub use request::Request;
pub use statistics::{Candidate, Factors, Statistics, Totals};
pub use summary::Summary;

pub(crate) use backward::{
    QUERY_BLOCK as BACKWARD_QUERIES, Values, backward, needs, number_repeats,
};
pub(crate) use cross_entropy::cross_entropy;
pub(crate) use edge::log_probability;
pub(crate) use run::Run;
pub(crate) use scorer::Scorer;

/// The passes for any number format. They are called through [`crate::Real`], so that they are
/// compiled here.
pub(crate) mod generic {
    pub(crate) use super::backward::backward_of;
    pub(crate) use super::forward::{forward, summarise};
    pub(crate) use super::second_pass::{column_mass, draw_sets, marginals};
}

/// Queries that share a pass over the keys: their features and accumulators stay in cache.
const QUERY_BLOCK: usize = 192;
/// Keys per tile of the forward pass.
const KEY_BLOCK: usize = 512;
/// Elements from one row of a tile to the next. A power of two would put the rows a product reads
/// side by side into the same few lines of the first-level cache.
const STRIDE: usize = KEY_BLOCK + 16;
/// Most rows per tile of the forward pass, on any instruction set.
const STRIP: usize = 24;
/// Key blocks start at multiples of this, counted from the first key of a pass, so that they are
/// whole panels on every instruction set.
pub(crate) const ALIGN: usize = 64;
/// Tasks wanted before the keys are split too. A constant, so that the cut does not depend on the
/// number of threads.
pub(crate) const TASKS: usize = 16;

/// `range` in blocks of at most `size`, starting at `first` plus a multiple of [`ALIGN`].
fn blocks(
    range: std::ops::Range<usize>,
    first: usize,
    size: usize,
) -> impl Iterator<Item = std::ops::Range<usize>> {
    let start = first + (range.start - first) / ALIGN * ALIGN;
    let end = if range.is_empty() { start } else { range.end };
    (start..end).step_by(size).map(move |from| from..from.saturating_add(size).min(end))
}

/// `block` without the keys on either side that none of its queries can have, still starting
/// aligned from `first`.
fn narrowed<T: Real>(prior: &dyn Prior<T>, block: Block, first: usize) -> Block {
    let live = prior.live_keys(&block);
    let keys = blocks(live, first, usize::MAX).next().unwrap_or(block.keys.start..block.keys.start);
    Block { keys, ..block }
}

/// `range` cut into at most `parts` runs of whole multiples of [`ALIGN`].
fn split(range: std::ops::Range<usize>, parts: usize) -> Vec<std::ops::Range<usize>> {
    let size = range.len().div_ceil(parts.max(1)).next_multiple_of(ALIGN).max(ALIGN);
    if range.is_empty() {
        return vec![range];
    }
    range.clone().step_by(size).map(|from| from..(from + size).min(range.end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range((from, to): (usize, usize)) -> std::ops::Range<usize> {
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
