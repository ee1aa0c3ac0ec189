//! Squared distances of a tile of queries and keys.

use std::ops::Range;

use marginals_kernels::TileMut;

use super::Features;
use crate::Real;

/// Keys at a time: as many sums run side by side as hide the time that one addition takes.
const KEYS: usize = 32;

/// Coordinates that one sum of `T` goes over before it is added to those before.
const COORDINATES: usize = 16;

/// Writes f(r, Σ_d λ_d (q_d − k_d)²) for every query and key of a tile, `query(r)` being q and λ of
/// its row r.
///
/// Differences are taken before they are squared: what q and k have in common costs no digits.
/// Coordinates of some keys at a time are laid side by side, and every sum adds up in an order that
/// does not depend on where its key lies.
#[inline(always)]
pub(super) fn squared_distances<'a, T: Real>(
    query: impl Fn(usize) -> (&'a [T], &'a [T]),
    k: &Features<'_, T>,
    keys: Range<usize>,
    f: impl Fn(usize, T) -> T,
    scores: &mut TileMut<'_, T>,
) {
    let mut across = vec![[T::zero(); KEYS]; k.depth()];
    for first in keys.clone().step_by(KEYS) {
        let group = first..(first + KEYS).min(keys.end);
        let columns = first - keys.start..group.end - keys.start;
        for (lane, j) in group.enumerate() {
            across.iter_mut().zip(k.row(j)).for_each(|(across, &x)| across[lane] = x);
        }
        for r in 0..scores.rows {
            let (q, precision) = query(r);
            let mut sums = [T::zero(); KEYS];
            let blocks = q.chunks(COORDINATES).zip(precision.chunks(COORDINATES));
            for ((q, precision), across) in blocks.zip(across.chunks(COORDINATES)) {
                let mut part = [T::zero(); KEYS];
                for ((&q, &precision), k) in q.iter().zip(precision).zip(across) {
                    for lane in 0..KEYS {
                        let difference = q - k[lane];
                        part[lane] += precision * difference * difference;
                    }
                }
                for lane in 0..KEYS {
                    sums[lane] += part[lane];
                }
            }
            let row = &mut scores.row_mut(r)[columns.clone()];
            row.iter_mut().zip(sums).for_each(|(x, sum)| *x = f(r, sum));
        }
    }
}
