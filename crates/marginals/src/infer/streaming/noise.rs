//! Noise of draws.

use marginals_kernels::Draw;

/// The noise of one draw: a function of its seed and its place alone.
pub(crate) fn draw(seed: u64, (batch, head): (usize, usize), query: usize, sample: usize) -> Draw {
    Draw {
        seed,
        batch: batch as u32,
        head: head as u32,
        query: query as u32,
        sample: sample as u32,
    }
}

/// The index under which having no edge draws its noise; no key reaches it.
pub(crate) const NULL_KEY: usize = u32::MAX as usize;
