//! Exponentials of whole tiles against known normalisers.

use crate::{InstructionSet, Real, TileMut};

#[inline(always)]
fn probability<T: Real>(score: T, log_partition: T) -> T {
    if score == T::neg_infinity() || log_partition == T::neg_infinity() {
        T::zero()
    } else {
        (score.min(T::max_value()) - log_partition).exp()
    }
}

/// θ ← exp(θ − `log_partition[i]`): the posterior of a tile whose rows are normalised. A row whose
/// log-partition is −∞ has no possible edge and becomes 0.
pub fn exp_rows<T: Real>(_set: InstructionSet, mut tile: TileMut<'_, T>, log_partition: &[T]) {
    for (i, &log_partition) in log_partition[..tile.rows].iter().enumerate() {
        for x in tile.row_mut(i) {
            *x = if x.is_nan() { *x } else { probability(*x, log_partition) };
        }
    }
}

/// θ ← exp(θ − `log_partition[j]`): the same with normalised columns.
pub fn exp_columns<T: Real>(_set: InstructionSet, mut tile: TileMut<'_, T>, log_partition: &[T]) {
    for i in 0..tile.rows {
        for (x, &log_partition) in tile.row_mut(i).iter_mut().zip(log_partition) {
            *x = if x.is_nan() { *x } else { probability(*x, log_partition) };
        }
    }
}

/// θ ← σ(θ) = 1/(1 + e^−θ), and `log_partition[i] += Σ_j log(1 + e^θ)`: the posterior and the
/// log-partition of independent edges.
pub fn logistic_rows<T: Real>(
    _set: InstructionSet,
    mut tile: TileMut<'_, T>,
    log_partition: &mut [T],
) {
    for (i, total) in log_partition[..tile.rows].iter_mut().enumerate() {
        for x in tile.row_mut(i) {
            // Both from exp(−|θ|), which never overflows.
            let e = (-x.abs()).exp();
            *total += x.max(T::zero()) + e.ln_1p();
            let p = if *x >= T::zero() { T::one() / (T::one() + e) } else { e / (T::one() + e) };
            if x.is_nan() {
                *total = *x;
            }
            *x = p;
        }
    }
}
