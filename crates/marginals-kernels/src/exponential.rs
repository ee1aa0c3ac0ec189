//! Exponentials of whole tiles against known normalisers.

use num_traits::Float;

use crate::math::{Elementary, exp, exp_block, log_1p_of_fraction, zero};
use crate::simd::{Kernel, Simd, run};
use crate::{InstructionSet, Real, TileMut};

/// θ ← exp(θ − `log_partition[i]`): the posterior of a tile whose rows are normalised. A row whose
/// log-partition is −∞ has no possible edge and becomes 0.
pub fn exp_rows<T: Real>(set: InstructionSet, tile: TileMut<'_, T>, log_partition: &[T]) {
    run(set, ExpRows { tile, log_partition });
}

struct ExpRows<'a, T> {
    tile: TileMut<'a, T>,
    log_partition: &'a [T],
}

impl<T: Real> Kernel<T> for ExpRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { mut tile, log_partition } = self;
        let fill = simd.splat(T::neg_infinity());
        for (i, &log_partition) in log_partition[..tile.rows].iter().enumerate() {
            let row = tile.row_mut(i);
            let Normaliser { ceiling, log_partition } =
                Normaliser::of_row(simd, row, log_partition);
            let mut blocks = row.chunks_exact_mut(4 * S::LANES);
            for block in &mut blocks {
                let mut x = [fill; 4];
                for k in 0..4 {
                    let score = simd.min(ceiling, simd.read(&block[k * S::LANES..], fill));
                    x[k] = simd.sub(score, log_partition);
                }
                let (p, _) = exp_block(simd, x);
                for k in 0..4 {
                    simd.write(&mut block[k * S::LANES..], p[k]);
                }
            }
            for x in blocks.into_remainder().chunks_mut(S::LANES) {
                let score = simd.min(ceiling, simd.read(x, fill));
                simd.write(x, exp(simd, simd.sub(score, log_partition)));
            }
        }
    }
}

/// What the scores of one row are measured against.
pub(crate) struct Normaliser<V> {
    /// Scores above this count as this: the least of the largest finite number and of what already
    /// overflows.
    pub ceiling: V,
    /// Subtracted from them.
    pub log_partition: V,
}

impl<V> Normaliser<V> {
    /// Puts the rules for a log-partition that is −∞ or NaN into the scores, where the exponential
    /// follows them by itself. Such rows are rare: they pay for this pass.
    #[inline(always)]
    pub fn of_row<S: Simd<Vector = V>>(
        simd: S,
        row: &mut [S::Element],
        log_partition: S::Element,
    ) -> Self {
        let impossible: S::Element = Float::neg_infinity();
        let mut log_partition = log_partition;
        if log_partition == impossible {
            // Nothing is possible, but NaN stays.
            row.iter_mut().filter(|x| !x.is_nan()).for_each(|x| *x = impossible);
            log_partition = zero::<S>();
        } else if log_partition.is_nan() {
            // What is possible is unknown.
            row.iter_mut().filter(|x| **x != impossible).for_each(|x| *x = log_partition);
            log_partition = zero::<S>();
        }
        let highest: S::Element = Float::max_value();
        let ceiling = highest.min(log_partition + S::Element::EXP_HIGHEST);
        Self { ceiling: simd.splat(ceiling), log_partition: simd.splat(log_partition) }
    }
}

/// θ ← exp(θ − `log_partition[j]`): the same with normalised columns.
pub fn exp_columns<T: Real>(set: InstructionSet, tile: TileMut<'_, T>, log_partition: &[T]) {
    run(set, ExpColumns { tile, log_partition });
}

struct ExpColumns<'a, T> {
    tile: TileMut<'a, T>,
    log_partition: &'a [T],
}

/// exp(score − log-partition) with the crate's rules: 0 for an impossible edge and for a
/// log-partition of −∞, NaN for a score of NaN.
#[inline(always)]
fn probability<S: Simd>(simd: S, score: S::Vector, log_partition: S::Vector) -> S::Vector {
    let impossible = simd.splat(Float::neg_infinity());
    let highest = simd.splat(Float::max_value());
    let zero = simd.splat(zero::<S>());
    let log_p = simd.sub(simd.min(highest, score), log_partition);
    let p = exp(simd, simd.min(simd.splat(S::Element::EXP_HIGHEST), log_p));
    let nothing = simd.select(simd.equal(score, score), zero, score);
    let p = simd.select(simd.equal(log_partition, impossible), nothing, p);
    simd.select(simd.equal(score, impossible), zero, p)
}

impl<T: Real> Kernel<T> for ExpColumns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { mut tile, log_partition } = self;
        let log_partition = &log_partition[..tile.columns];
        let fill = simd.splat(T::neg_infinity());
        for i in 0..tile.rows {
            let row = tile.row_mut(i).chunks_mut(S::LANES);
            for (x, log_partition) in row.zip(log_partition.chunks(S::LANES)) {
                let log_partition = simd.read(log_partition, fill);
                simd.write(x, probability(simd, simd.read(x, fill), log_partition));
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
