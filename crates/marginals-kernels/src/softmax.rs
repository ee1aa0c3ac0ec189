//! Weighted sums over tiles, and the backward step of the softmax.

use crate::{InstructionSet, Real, Tile, TileMut};

/// `tile[i, ·] *= factor[i]`, skipping rows whose factor is 1.
pub fn scale_rows<T: Real>(_set: InstructionSet, mut tile: TileMut<'_, T>, factor: &[T]) {
    for (i, &factor) in factor[..tile.rows].iter().enumerate() {
        if factor != T::one() {
            tile.row_mut(i).iter_mut().for_each(|x| *x *= factor);
        }
    }
}

/// `sum[i] += Σ_j weight[i, j] · value[i, j]`, where a weight of 0 contributes 0 whatever the value.
pub fn dot_rows<T: Real>(
    _set: InstructionSet,
    weight: Tile<'_, T>,
    value: Tile<'_, T>,
    sum: &mut [T],
) {
    for (i, sum) in sum[..weight.rows].iter_mut().enumerate() {
        let mut total = T::zero();
        for (&w, &x) in weight.row(i).iter().zip(value.row(i)) {
            total += if w == T::zero() { T::zero() } else { w * x };
        }
        *sum += total;
    }
}

/// `sum[j] += Σ_i weight[i, j] · value[i, j]`, with the same rule for a weight of 0.
pub fn dot_columns<T: Real>(
    _set: InstructionSet,
    weight: Tile<'_, T>,
    value: Tile<'_, T>,
    sum: &mut [T],
) {
    for i in 0..weight.rows {
        for ((sum, &w), &x) in sum.iter_mut().zip(weight.row(i)).zip(value.row(i)) {
            *sum += if w == T::zero() { T::zero() } else { w * x };
        }
    }
}

/// The backward step of a row-normalised posterior on one tile.
///
/// On entry `score` holds θ and `quantity` holds f, the upstream-weighted quantity averaged. With
/// p = exp(θ − `log_partition[i]`) (0 on rows whose log-partition is −∞), on return
///
/// - `quantity` holds p, which weights the value gradient;
/// - `score` holds p · (f + `score_weight[i]` · (θ − `log_partition[i]`) − `centre[i]`), which is
///   ∂L/∂θ when `centre[i]` is the posterior mean of what precedes it (less any upstream on the
///   log-partition itself).
///
/// `score_weight` is given when a question that averages θ was asked (entropy). Impossible edges
/// give exactly 0 in both.
pub fn softmax_backward<T: Real>(
    _set: InstructionSet,
    mut score: TileMut<'_, T>,
    mut quantity: TileMut<'_, T>,
    log_partition: &[T],
    score_weight: Option<&[T]>,
    centre: &[T],
) {
    for i in 0..score.rows {
        let weight = score_weight.map(|w| w[i]);
        for (x, f) in score.row_mut(i).iter_mut().zip(quantity.row_mut(i)) {
            let possible = *x != T::neg_infinity() && log_partition[i] != T::neg_infinity();
            if !possible {
                (*x, *f) = (T::zero(), T::zero());
                continue;
            }
            let log_p = if x.is_nan() { *x } else { x.min(T::max_value()) - log_partition[i] };
            let p = log_p.exp();
            let mut f_total = *f - centre[i];
            if let Some(weight) = weight {
                f_total += weight * log_p;
            }
            *x = if p == T::zero() { T::zero() } else { p * f_total };
            *f = p;
        }
    }
}
