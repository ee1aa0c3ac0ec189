//! Running maximum and sum of exponentials, by rows and by columns.

use crate::math::{exp, exp_block, zero};
use crate::simd::{Kernel, Simd, run};
use crate::{InstructionSet, Real, Tile, TileMut};

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
    /// Σ exp(θ − max)(θ − max) so far, if wanted: with `sum` it gives E\[θ\], hence the entropy.
    pub score: Option<&'a mut [T]>,
    /// Written, if wanted: the column at which this tile raised the maximum (the first, of equals);
    /// left as it is where it did not.
    pub raised: Option<&'a mut [usize]>,
}

/// One step of the streaming softmax: folds the scores θ of `tile` into `state` and replaces them
/// by exp(θ − max) with the maximum after this tile (Milakov & Gimelshein, arXiv 1805.02867, eq. 3).
///
/// Impossible edges (θ = −∞) become 0 and add nothing to any sum. A row that holds NaN ends with
/// NaN in `sum` and in its tile row. θ = +∞ counts as the largest finite number, so that two
/// overflowed scores share the mass instead of giving NaN.
pub fn online_rows<T: Real>(set: InstructionSet, tile: TileMut<'_, T>, state: OnlineRows<'_, T>) {
    match state.score {
        Some(_) => run(set, Rows::<T, true> { tile, state }),
        None => run(set, Rows::<T, false> { tile, state }),
    }
}

struct Rows<'a, T, const SCORE: bool> {
    tile: TileMut<'a, T>,
    state: OnlineRows<'a, T>,
}

/// Rows whose maxima are found before any exponential is taken: the reductions of some rows then
/// hide behind the loads of others.
const BLOCK: usize = 16;

impl<T: Real, const SCORE: bool> Kernel<T> for Rows<'_, T, SCORE> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { mut tile, state: OnlineRows { max, sum, rescale, mut score, mut raised } } =
            self;
        let rows = tile.rows;
        let mut first = 0;
        while first < rows {
            let here = BLOCK.min(rows - first);
            let mut fall = [T::zero(); BLOCK];
            for i in 0..here {
                let row = tile.row_mut(first + i);
                let mut most = row_max(simd, row);
                if most == T::infinity() {
                    most = T::max_value();
                    clamp(simd, row);
                }
                let old = max[first + i];
                let new = if most > old { most } else { old };
                // Later tiles rarely raise it, so looking for the place costs next to nothing.
                if most > old
                    && let Some(raised) = raised.as_deref_mut()
                {
                    raised[first + i] = place(simd, tile.row(first + i), most);
                }
                max[first + i] = new;
                // From −∞ nothing was accumulated, and −∞ − −∞ is NaN: the factor is then 1.
                fall[i] =
                    if old == new || old == T::neg_infinity() { T::zero() } else { old - new };
            }
            let mut factor = fall;
            for x in factor.chunks_mut(S::LANES) {
                let fill = simd.splat(zero::<S>());
                simd.write(x, exp(simd, simd.read(x, fill)));
            }
            for i in 0..here {
                let at = first + i;
                let base = if max[at] == T::neg_infinity() { T::zero() } else { max[at] };
                let row = tile.row_mut(at);
                let (total, moment) = match S::INTERLEAVED {
                    4 => exponentials::<S, SCORE, 4>(simd, row, base),
                    _ => exponentials::<S, SCORE, 2>(simd, row, base),
                };
                let before = sum[at];
                sum[at] = before * factor[i] + total;
                rescale[at] = factor[i];
                if SCORE && let Some(score) = score.as_deref_mut() {
                    // The fall is multiplied first: before an overflowed score it is as large as
                    // numbers get, and its factor 0.
                    let fallen = fall[i].max(T::min_value()) * factor[i];
                    score[at] = score[at] * factor[i] + before * fallen + moment;
                }
            }
            first += here;
        }
    }
}

/// Largest element, NaN aside; −∞ for none.
#[inline(always)]
fn row_max<S: Simd>(simd: S, row: &[S::Element]) -> S::Element {
    let lowest = simd.splat(num_traits::Float::neg_infinity());
    let mut most = [lowest; 4];
    let mut blocks = row.chunks_exact(4 * S::LANES);
    for block in &mut blocks {
        for k in 0..4 {
            // The order of the operands matters: NaN must lose.
            most[k] = simd.max(simd.read(&block[k * S::LANES..], lowest), most[k]);
        }
    }
    for x in blocks.remainder().chunks(S::LANES) {
        most[0] = simd.max(simd.read(x, lowest), most[0]);
    }
    simd.reduce_max(simd.max(simd.max(most[0], most[1]), simd.max(most[2], most[3])))
}

/// The first place of `wanted`, which is in the row: whole vectors are asked first.
#[inline(always)]
fn place<S: Simd>(simd: S, row: &[S::Element], wanted: S::Element) -> usize {
    let (each, nothing) = (simd.splat(wanted), simd.splat(num_traits::Float::nan()));
    let mut vectors = row.chunks(S::LANES).enumerate();
    let has = |x: &[S::Element]| simd.any(simd.equal(simd.read(x, nothing), each));
    let (index, x) = vectors.find(|(_, x)| has(x)).expect("the element is in the row");
    index * S::LANES + x.iter().position(|&x| x == wanted).expect("it is in this vector")
}

/// +∞ ← the largest finite number. Rows that overflowed are rare: they pay for this pass.
#[inline(always)]
fn clamp<S: Simd>(simd: S, row: &mut [S::Element]) {
    let highest = simd.splat(num_traits::Float::max_value());
    for x in row.chunks_mut(S::LANES) {
        simd.write(x, simd.min(highest, simd.read(x, highest)));
    }
}

/// θ ← e = exp(θ − base); returns Σ e and, if wanted, Σ e (θ − base). `N` vectors
/// at a time, as many as the registers hold.
#[inline(always)]
fn exponentials<S: Simd, const SCORE: bool, const N: usize>(
    simd: S,
    row: &mut [S::Element],
    base: S::Element,
) -> (S::Element, S::Element) {
    let nothing = simd.splat(zero::<S>());
    let base = simd.splat(base);
    let mut total = [nothing; N];
    let mut moment = [nothing; N];
    let mut blocks = row.chunks_exact_mut(N * S::LANES);
    for block in &mut blocks {
        let mut shifted = [nothing; N];
        for k in 0..N {
            shifted[k] = simd.sub(simd.read(&block[k * S::LANES..], nothing), base);
        }
        let (e, possible) = exp_block(simd, shifted);
        for k in 0..N {
            simd.write(&mut block[k * S::LANES..], e[k]);
            total[k] = simd.add(total[k], e[k]);
            if SCORE {
                // Where e is 0 the difference may be −∞: their product must not count.
                let sum = simd.mul_add(e[k], shifted[k], moment[k]);
                moment[k] = simd.select(possible[k], sum, moment[k]);
            }
        }
    }
    for x in blocks.into_remainder().chunks_mut(S::LANES) {
        let impossible = simd.splat(num_traits::Float::neg_infinity());
        let shifted = simd.sub(simd.read(x, impossible), base);
        let ([e], [possible]) = exp_block(simd, [shifted]);
        simd.write(x, e);
        total[0] = simd.add(total[0], e);
        if SCORE {
            moment[0] = simd.select(possible, simd.mul_add(e, shifted, moment[0]), moment[0]);
        }
    }
    for k in 1..N {
        total[0] = simd.add(total[0], total[k]);
        moment[0] = simd.add(moment[0], moment[k]);
    }
    (simd.reduce_add(total[0]), if SCORE { simd.reduce_add(moment[0]) } else { zero::<S>() })
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
    set: InstructionSet,
    tile: Tile<'_, T>,
    state: OnlineColumns<'_, T>,
) {
    run(set, Columns { tile, state });
}

struct Columns<'a, T> {
    tile: Tile<'a, T>,
    state: OnlineColumns<'a, T>,
}

impl<T: Real> Kernel<T> for Columns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { tile, state: OnlineColumns { max, sum } } = self;
        let lowest = simd.splat(T::neg_infinity());
        let highest = simd.splat(T::max_value());
        let nothing = simd.splat(T::zero());
        let (max, sum) = (&mut max[..tile.columns], &mut sum[..tile.columns]);
        let columns = (0..tile.columns).step_by(S::LANES);
        for ((first, max), sum) in
            columns.zip(max.chunks_mut(S::LANES)).zip(sum.chunks_mut(S::LANES))
        {
            let width = max.len();
            let old = simd.read(max, lowest);
            let mut new = old;
            for i in 0..tile.rows {
                new = simd.max(simd.read(&tile.row(i)[first..][..width], lowest), new);
            }
            new = simd.min(new, highest);
            simd.write(max, new);
            let base = simd.select(simd.equal(new, lowest), nothing, new);
            let mut total = simd.read(sum, nothing);
            total = simd.mul(total, exp(simd, simd.sub(old, base)));
            for i in 0..tile.rows {
                let score = simd.read(&tile.row(i)[first..][..width], lowest);
                total = simd.add(total, exp(simd, simd.sub(simd.min(highest, score), base)));
            }
            simd.write(sum, total);
        }
    }
}
