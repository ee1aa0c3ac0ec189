//! Log-weights added to scores.

use crate::simd::{Kernel, Simd, run};
use crate::{InstructionSet, Real, TileMut};

/// score + weight, and −∞ where the weight is −∞: an impossible edge stays so whatever its nodes
/// hold, NaN and +∞ included.
#[inline(always)]
pub fn add_log_weight<T: Real>(score: T, weight: T) -> T {
    if weight == T::neg_infinity() { weight } else { score + weight }
}

/// [`add_log_weight`] over a tile: row i takes up the first entries of `weights(i)`, of which there
/// must be one per column.
pub fn add_log_weights<'w, T: Real>(
    set: InstructionSet,
    scores: TileMut<'_, T>,
    weights: impl Fn(usize) -> &'w [T],
) {
    run(set, AddLogWeights { scores, weights });
}

struct AddLogWeights<'a, T, W> {
    scores: TileMut<'a, T>,
    weights: W,
}

impl<'w, T: Real, W: Fn(usize) -> &'w [T]> Kernel<T> for AddLogWeights<'_, T, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { mut scores, weights } = self;
        let impossible = simd.splat(T::neg_infinity());
        for i in 0..scores.rows {
            let row = scores.row_mut(i);
            let weights = &weights(i)[..row.len()];
            for (x, w) in row.chunks_mut(S::LANES).zip(weights.chunks(S::LANES)) {
                let (score, weight) = (simd.read(x, impossible), simd.read(w, impossible));
                let sum = simd.add(score, weight);
                simd.write(x, simd.select(simd.equal(weight, impossible), weight, sum));
            }
        }
    }
}
