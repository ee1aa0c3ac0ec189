//! Weighted sums over tiles, and the backward step of the softmax.

use crate::exponential::{LogPartition, Normaliser};
use crate::math::{exp_block, zero};
use crate::simd::{Kernel, Simd, run};
use crate::{InstructionSet, Real, Tile, TileMut};

/// `tile[i, ·] *= factor[i]`, skipping rows whose factor is 1.
pub fn scale_rows<T: Real>(set: InstructionSet, tile: TileMut<'_, T>, factor: &[T]) {
    // Once the maxima have settled nothing is left to do: say so without entering the kernel.
    if factor[..tile.rows].iter().any(|&factor| factor != T::one()) {
        run(set, ScaleRows { tile, factor });
    }
}

struct ScaleRows<'a, T> {
    tile: TileMut<'a, T>,
    factor: &'a [T],
}

impl<T: Real> Kernel<T> for ScaleRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { mut tile, factor } = self;
        for (i, &factor) in factor[..tile.rows].iter().enumerate() {
            if factor != T::one() {
                let factor = simd.splat(factor);
                for x in tile.row_mut(i).chunks_mut(S::LANES) {
                    simd.write(x, simd.mul(simd.read(x, factor), factor));
                }
            }
        }
    }
}

/// `sum[i] += Σ_j weight[i, j] · value[i, j]`, where a weight of 0 contributes 0 whatever the value.
pub fn dot_rows<T: Real>(
    set: InstructionSet,
    weight: Tile<'_, T>,
    value: Tile<'_, T>,
    sum: &mut [T],
) {
    run(set, DotRows { weight, value, sum });
}

struct DotRows<'a, T> {
    weight: Tile<'a, T>,
    value: Tile<'a, T>,
    sum: &'a mut [T],
}

/// sum + weight · value, where a weight of 0 adds nothing.
#[inline(always)]
fn add_weighted<S: Simd>(
    simd: S,
    weight: S::Vector,
    value: S::Vector,
    sum: S::Vector,
) -> S::Vector {
    let none = simd.equal(weight, simd.splat(zero::<S>()));
    simd.select(none, sum, simd.mul_add(weight, value, sum))
}

impl<T: Real> Kernel<T> for DotRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { weight, value, sum } = self;
        let zero = simd.splat(T::zero());
        for (i, sum) in sum[..weight.rows].iter_mut().enumerate() {
            let weights = weight.row(i);
            let values = &value.row(i)[..weights.len()];
            let mut total = [zero; 4];
            let whole = weights.len() / (4 * S::LANES) * (4 * S::LANES);
            let (weights, weights_tail) = weights.split_at(whole);
            let (values, values_tail) = values.split_at(whole);
            for (w, x) in weights.chunks_exact(4 * S::LANES).zip(values.chunks_exact(4 * S::LANES))
            {
                for k in 0..4 {
                    let w = simd.read(&w[k * S::LANES..], zero);
                    let x = simd.read(&x[k * S::LANES..], zero);
                    total[k] = add_weighted(simd, w, x, total[k]);
                }
            }
            for (w, x) in weights_tail.chunks(S::LANES).zip(values_tail.chunks(S::LANES)) {
                let (w, x) = (simd.read(w, zero), simd.read(x, zero));
                total[0] = add_weighted(simd, w, x, total[0]);
            }
            let total = simd.add(simd.add(total[0], total[1]), simd.add(total[2], total[3]));
            *sum += simd.reduce_add(total);
        }
    }
}

/// `sum[j] += Σ_i weight[i, j] · value[i, j]`, with the same rule for a weight of 0.
pub fn dot_columns<T: Real>(
    set: InstructionSet,
    weight: Tile<'_, T>,
    value: Tile<'_, T>,
    sum: &mut [T],
) {
    run(set, DotColumns { weight, value, sum });
}

struct DotColumns<'a, T> {
    weight: Tile<'a, T>,
    value: Tile<'a, T>,
    sum: &'a mut [T],
}

impl<T: Real> Kernel<T> for DotColumns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { weight, value, sum } = self;
        let zero = simd.splat(T::zero());
        let columns = (0..weight.columns).step_by(S::LANES);
        for (first, sum) in columns.zip(sum[..weight.columns].chunks_mut(S::LANES)) {
            let mut total = zero;
            for i in 0..weight.rows {
                let w = simd.read(&weight.row(i)[first..][..sum.len()], zero);
                let x = simd.read(&value.row(i)[first..][..sum.len()], zero);
                total = add_weighted(simd, w, x, total);
            }
            // Added last, so that products are rounded to the precision of this tile's sum.
            let total = simd.add(simd.read(sum, zero), total);
            simd.write(sum, total);
        }
    }
}

/// The backward step of a row-normalised posterior on one tile.
///
/// On entry `score` holds θ and `quantity` holds f, the upstream-weighted quantity averaged. With
/// p = exp(θ − log Z_i) (0 on rows whose log-partition is −∞), on return
///
/// - `quantity` holds p, which weights the value gradient;
/// - `score` holds p · (f + `score_weight[i]` · (θ − log Z_i) − `centre[i]`), which is
///   ∂L/∂θ when `centre[i]` is the posterior mean of what precedes it (less any upstream on the
///   log-partition itself).
///
/// `score_weight` is given when a question that averages θ was asked (entropy). Impossible edges
/// give exactly 0 in both.
pub fn softmax_backward<T: Real>(
    set: InstructionSet,
    score: TileMut<'_, T>,
    quantity: TileMut<'_, T>,
    log_partition: LogPartition<'_, T>,
    score_weight: Option<&[T]>,
    centre: &[T],
) {
    let rows = score.rows;
    assert!(quantity.rows == rows && quantity.columns == score.columns, "shape of the quantity");
    let LogPartition { max, log_sum } = log_partition;
    let log_partition = LogPartition { max: &max[..rows], log_sum: &log_sum[..rows] };
    let centre = &centre[..rows];
    match score_weight {
        Some(weight) => {
            let score_weight = &weight[..rows];
            run(set, Backward::<T, true> { score, quantity, log_partition, score_weight, centre });
        }
        None => {
            let score_weight = &[];
            run(set, Backward::<T, false> { score, quantity, log_partition, score_weight, centre });
        }
    }
}

struct Backward<'a, T, const WEIGHTED: bool> {
    score: TileMut<'a, T>,
    quantity: TileMut<'a, T>,
    log_partition: LogPartition<'a, T>,
    score_weight: &'a [T],
    centre: &'a [T],
}

impl<T: Real, const WEIGHTED: bool> Kernel<T> for Backward<'_, T, WEIGHTED> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { mut score, mut quantity, log_partition, score_weight, centre } = self;
        let zero = simd.splat(T::zero());
        let impossible = simd.splat(T::neg_infinity());
        for i in 0..score.rows {
            let (scores, quantities) = (score.row_mut(i), quantity.row_mut(i));
            let (max, log_sum) = (log_partition.max[i], log_partition.log_sum[i]);
            if max == T::neg_infinity() {
                scores.fill(T::zero());
                quantities.fill(T::zero());
                continue;
            }
            let row = Row {
                normaliser: Normaliser::of_row(simd, scores, max, log_sum),
                weight: WEIGHTED.then(|| simd.splat(score_weight[i])),
                centre: simd.splat(centre[i]),
            };
            let mut scores = scores.chunks_exact_mut(4 * S::LANES);
            let mut quantities = quantities.chunks_exact_mut(4 * S::LANES);
            for (score, quantity) in (&mut scores).zip(&mut quantities) {
                let (mut x, mut f) = ([impossible; 4], [zero; 4]);
                for k in 0..4 {
                    x[k] = simd.read(&score[k * S::LANES..], impossible);
                    f[k] = simd.read(&quantity[k * S::LANES..], zero);
                }
                let (p, gradient) = row.backward(simd, x, f);
                for k in 0..4 {
                    simd.write(&mut score[k * S::LANES..], gradient[k]);
                    simd.write(&mut quantity[k * S::LANES..], p[k]);
                }
            }
            let scores = scores.into_remainder().chunks_mut(S::LANES);
            for (score, quantity) in scores.zip(quantities.into_remainder().chunks_mut(S::LANES)) {
                let x = [simd.read(score, impossible)];
                let ([p], [gradient]) = row.backward(simd, x, [simd.read(quantity, zero)]);
                simd.write(score, gradient);
                simd.write(quantity, p);
            }
        }
    }
}

/// Numbers that the entries of a row share on the way back.
struct Row<V> {
    normaliser: Normaliser<V>,
    weight: Option<V>,
    centre: V,
}

impl<V: Copy> Row<V> {
    /// The posterior and the gradient of the score, from score and quantity.
    #[inline(always)]
    fn backward<S: Simd<Vector = V>, const N: usize>(
        &self,
        simd: S,
        score: [V; N],
        quantity: [V; N],
    ) -> ([V; N], [V; N]) {
        let zero = simd.splat(zero::<S>());
        let mut log_p = score;
        for k in 0..N {
            log_p[k] = self.normaliser.log_p(simd, score[k]);
        }
        let (p, possible) = exp_block(simd, log_p);
        let mut gradient = quantity;
        for k in 0..N {
            let mut f = simd.sub(quantity[k], self.centre);
            if let Some(weight) = self.weight {
                f = simd.mul_add(weight, log_p[k], f);
            }
            gradient[k] = simd.select(possible[k], simd.mul(p[k], f), zero);
        }
        (p, gradient)
    }
}
