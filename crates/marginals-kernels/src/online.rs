//! Running maximum and sum of exponentials, by rows and by columns.

use crate::{InstructionSet, Real, TileMut};

/// Running softmax statistics of the rows of a strip, one entry per row.
///
/// Start from `max = −∞`, `sum = 0`, `score = 0`.
#[derive(Debug)]
pub struct OnlineRows<'a, T> {
    /// Largest score so far.
    pub max: &'a mut [T],
    /// Σ exp(θ − max) so far.
    pub sum: &'a mut [T],
    /// Written: the factor exp(max_before − max_after) that everything accumulated against the
    /// old maximum must be multiplied by (1 where the row saw nothing possible).
    pub rescale: &'a mut [T],
    /// Σ exp(θ − max)(θ − max) so far, if wanted: with `sum` it gives E[θ], hence the entropy.
    pub score: Option<&'a mut [T]>,
}

/// One step of the streaming softmax: folds the scores θ of `tile` into `state` and replaces them
/// by exp(θ − max) with the maximum after this tile (Milakov & Gimelshein, arXiv 1805.02867, eq. 3).
///
/// Impossible edges (θ = −∞) become 0 and add nothing to any sum. A row that holds NaN ends with
/// NaN in `sum` and in its tile row. θ = +∞ counts as the largest finite number, so that two
/// overflowed scores share the mass instead of giving NaN.
pub fn online_rows<T: Real>(
    _set: InstructionSet,
    mut tile: TileMut<'_, T>,
    state: OnlineRows<'_, T>,
) {
    let OnlineRows { max, sum, rescale, mut score } = state;
    for i in 0..tile.rows {
        let row = tile.row_mut(i);
        let old = max[i];
        let mut new = old;
        for &x in row.iter() {
            // `max` would drop NaN; it comes back through the exponentials below.
            new = new.max(x.min(T::max_value()));
        }
        max[i] = new;
        let factor =
            if old == new || old == T::neg_infinity() { T::one() } else { (old - new).exp() };
        rescale[i] = factor;
        let before = sum[i];
        let (mut total, mut moment) = (T::zero(), T::zero());
        for x in row.iter_mut() {
            let shifted = x.min(T::max_value()) - new;
            let shifted = if x.is_nan() { *x } else { shifted };
            let e = if *x == T::neg_infinity() { T::zero() } else { shifted.exp() };
            total += e;
            if e != T::zero() {
                moment += e * shifted;
            }
            *x = e;
        }
        sum[i] = before * factor + total;
        if let Some(score) = score.as_deref_mut() {
            let drop = if before > T::zero() { before * (old - new) } else { T::zero() };
            score[i] = (score[i] + drop) * factor + moment;
        }
    }
}

/// Running log-sum-exp of the columns of a strip, one entry per column of the tile.
///
/// Start from `max = −∞`, `sum = 0`.
#[derive(Debug)]
pub struct OnlineColumns<'a, T> {
    /// Largest score so far.
    pub max: &'a mut [T],
    /// Σ exp(θ − max) so far.
    pub sum: &'a mut [T],
}

/// Folds the scores of `tile` into per-column statistics and leaves the tile as it is.
///
/// The rules for −∞, +∞ and NaN are those of [`online_rows`], by column.
pub fn online_columns<T: Real>(
    _set: InstructionSet,
    tile: crate::Tile<'_, T>,
    state: OnlineColumns<'_, T>,
) {
    let OnlineColumns { max, sum } = state;
    for j in 0..tile.columns {
        let old = max[j];
        let mut new = old;
        for i in 0..tile.rows {
            new = new.max(tile.row(i)[j].min(T::max_value()));
        }
        max[j] = new;
        let mut total =
            if old == new || sum[j] == T::zero() { sum[j] } else { sum[j] * (old - new).exp() };
        for i in 0..tile.rows {
            let x = tile.row(i)[j];
            if x != T::neg_infinity() {
                total += if x.is_nan() { x } else { (x.min(T::max_value()) - new).exp() };
            }
        }
        sum[j] = total;
    }
}
