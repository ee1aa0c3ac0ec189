//! Exponentials of whole tiles against known normalisers.

use num_traits::Float;

use crate::math::{Elementary, exp, exp_block, log_1p_of_fraction, zero};
use crate::simd::{Kernel, Simd, run};
use crate::{InstructionSet, Real, TileMut};

/// log Z of every row (or column) of a tile, as `max` + `log_sum`.
///
/// The two are kept apart because their sum is rounded to the precision of `max`: with scores near
/// 10⁸ in `f32` it would lose all of `log_sum`, and every probability with it. θ − max is exact
/// where it matters. A `max` of −∞ means that nothing is possible.
#[derive(Clone, Copy, Debug)]
pub struct LogPartition<'a, T> {
    /// The largest score.
    pub max: &'a [T],
    /// log Σ exp(θ − max).
    pub log_sum: &'a [T],
}

/// θ ← exp(θ − log Z_i): the posterior of a tile whose rows are normalised. A row whose
/// log-partition is −∞ has no possible edge and becomes 0.
pub fn exp_rows<T: Real>(
    set: InstructionSet,
    tile: TileMut<'_, T>,
    log_partition: LogPartition<'_, T>,
) {
    run(set, ExpRows { tile, log_partition });
}

struct ExpRows<'a, T> {
    tile: TileMut<'a, T>,
    log_partition: LogPartition<'a, T>,
}

impl<T: Real> Kernel<T> for ExpRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { mut tile, log_partition } = self;
        let fill = simd.splat(T::neg_infinity());
        let LogPartition { max, log_sum } = log_partition;
        let normalisers = max[..tile.rows].iter().zip(&log_sum[..tile.rows]);
        for (i, (&max, &log_sum)) in normalisers.enumerate() {
            let row = tile.row_mut(i);
            let normaliser = Normaliser::of_row(simd, row, max, log_sum);
            let mut blocks = row.chunks_exact_mut(4 * S::LANES);
            for block in &mut blocks {
                let mut x = [fill; 4];
                for k in 0..4 {
                    x[k] = normaliser.log_p(simd, simd.read(&block[k * S::LANES..], fill));
                }
                let (p, _) = exp_block(simd, x);
                for k in 0..4 {
                    simd.write(&mut block[k * S::LANES..], p[k]);
                }
            }
            for x in blocks.into_remainder().chunks_mut(S::LANES) {
                let log_p = normaliser.log_p(simd, simd.read(x, fill));
                simd.write(x, exp(simd, log_p));
            }
        }
    }
}

/// Normaliser that the scores of one row are measured against.
pub(crate) struct Normaliser<V> {
    /// Scores above this count as this: the least of the largest finite number and of what already
    /// overflows.
    ceiling: V,
    /// Subtracted from them first.
    max: V,
    /// Subtracted from them then.
    log_sum: V,
}

impl<V: Copy> Normaliser<V> {
    /// log p of some scores.
    #[inline(always)]
    pub fn log_p<S: Simd<Vector = V>>(&self, simd: S, score: V) -> V {
        // The order of the operands matters: NaN must stay.
        simd.sub(simd.sub(simd.min(self.ceiling, score), self.max), self.log_sum)
    }

    /// Puts the rules for a log-partition that is −∞ or NaN into the scores, where the exponential
    /// follows them by itself. Such rows are rare: they pay for this pass.
    #[inline(always)]
    pub fn of_row<S: Simd<Vector = V>>(
        simd: S,
        row: &mut [S::Element],
        mut max: S::Element,
        mut log_sum: S::Element,
    ) -> Self {
        let impossible: S::Element = Float::neg_infinity();
        if max == impossible {
            // Nothing is possible, but NaN stays.
            row.iter_mut().filter(|x| !x.is_nan()).for_each(|x| *x = impossible);
            (max, log_sum) = (zero::<S>(), zero::<S>());
        } else if max.is_nan() || log_sum.is_nan() {
            // What is possible is unknown.
            row.iter_mut().filter(|x| **x != impossible).for_each(|x| *x = Float::nan());
            (max, log_sum) = (zero::<S>(), zero::<S>());
        }
        let highest: S::Element = Float::max_value();
        let ceiling = highest.min(max + (log_sum + S::Element::EXP_HIGHEST));
        Self { ceiling: simd.splat(ceiling), max: simd.splat(max), log_sum: simd.splat(log_sum) }
    }
}

/// θ ← exp(θ − log Z_j): the same with normalised columns.
pub fn exp_columns<T: Real>(
    set: InstructionSet,
    tile: TileMut<'_, T>,
    log_partition: LogPartition<'_, T>,
) {
    run(set, ExpColumns { tile, log_partition });
}

struct ExpColumns<'a, T> {
    tile: TileMut<'a, T>,
    log_partition: LogPartition<'a, T>,
}

/// exp(score − log-partition) with the crate's rules: 0 for an impossible edge and for a
/// log-partition of −∞, NaN for a score of NaN.
#[inline(always)]
fn probabilities<S: Simd, const N: usize>(
    simd: S,
    score: [S::Vector; N],
    max: [S::Vector; N],
    log_sum: [S::Vector; N],
) -> [S::Vector; N] {
    let impossible = simd.splat(Float::neg_infinity());
    let highest = simd.splat(Float::max_value());
    let zero = simd.splat(zero::<S>());
    let mut log_p = score;
    for k in 0..N {
        let difference = simd.sub(simd.sub(simd.min(highest, score[k]), max[k]), log_sum[k]);
        log_p[k] = simd.min(simd.splat(S::Element::EXP_HIGHEST), difference);
    }
    let (mut p, _) = exp_block(simd, log_p);
    for k in 0..N {
        let nothing = simd.select(simd.equal(score[k], score[k]), zero, score[k]);
        p[k] = simd.select(simd.equal(max[k], impossible), nothing, p[k]);
        p[k] = simd.select(simd.equal(score[k], impossible), zero, p[k]);
    }
    p
}

impl<T: Real> Kernel<T> for ExpColumns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { mut tile, log_partition } = self;
        let (max, log_sum) =
            (&log_partition.max[..tile.columns], &log_partition.log_sum[..tile.columns]);
        let fill = simd.splat(T::neg_infinity());
        for i in 0..tile.rows {
            let mut blocks = tile.row_mut(i).chunks_exact_mut(4 * S::LANES);
            let mut maxima = max.chunks_exact(4 * S::LANES);
            let mut log_sums = log_sum.chunks_exact(4 * S::LANES);
            for ((block, max), log_sum) in (&mut blocks).zip(&mut maxima).zip(&mut log_sums) {
                let [mut score, mut m, mut l] = [[fill; 4]; 3];
                for k in 0..4 {
                    score[k] = simd.read(&block[k * S::LANES..], fill);
                    m[k] = simd.read(&max[k * S::LANES..], fill);
                    l[k] = simd.read(&log_sum[k * S::LANES..], fill);
                }
                let p = probabilities(simd, score, m, l);
                for k in 0..4 {
                    simd.write(&mut block[k * S::LANES..], p[k]);
                }
            }
            let rest = blocks.into_remainder().chunks_mut(S::LANES);
            let maxima = maxima.remainder().chunks(S::LANES);
            let log_sums = log_sums.remainder().chunks(S::LANES);
            for ((x, max), log_sum) in rest.zip(maxima).zip(log_sums) {
                let score = [simd.read(x, fill)];
                let (max, log_sum) = ([simd.read(max, fill)], [simd.read(log_sum, fill)]);
                let [p] = probabilities(simd, score, max, log_sum);
                simd.write(x, p);
            }
        }
    }
}

/// θ ← σ(θ) = 1/(1 + e^−θ), and `log_partition[i] += Σ_j log(1 + e^θ)`: the posterior and the
/// log-partition of independent edges.
pub fn logistic_rows<T: Real>(set: InstructionSet, tile: TileMut<'_, T>, log_partition: &mut [T]) {
    run(set, LogisticRows { tile, log_partition });
}

struct LogisticRows<'a, T> {
    tile: TileMut<'a, T>,
    log_partition: &'a mut [T],
}

impl<T: Real> Kernel<T> for LogisticRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { mut tile, log_partition } = self;
        let (zero, one) = (simd.splat(T::zero()), simd.splat(T::one()));
        let impossible = simd.splat(T::neg_infinity());
        for (i, log_partition) in log_partition[..tile.rows].iter_mut().enumerate() {
            let mut total = zero;
            for x in tile.row_mut(i).chunks_mut(S::LANES) {
                let score = simd.read(x, impossible);
                // Both from e^−|θ|, which never overflows.
                let e = exp(simd, simd.min(score, simd.sub(zero, score)));
                total =
                    simd.add(total, simd.add(simd.max(zero, score), log_1p_of_fraction(simd, e)));
                let numerator = simd.select(simd.not_less(score, zero), one, e);
                let p = simd.div(numerator, simd.add(one, e));
                simd.write(x, p);
            }
            *log_partition += simd.reduce_add(total);
        }
    }
}
