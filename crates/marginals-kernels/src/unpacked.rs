//! Products of a few rows with matrices that are not worth packing.
//!
//! A query that meets a long cache of keys and values reads each of them once. Packing would read
//! and write them first; these kernels read them where they lie, and what bounds them is memory.

use std::ops::Range;

use crate::math::zero;
use crate::simd::{Kernel, Simd, run};
use crate::{InstructionSet, Real, Tile, TileMut};

/// Elements ahead of the one being read that are asked for: far enough to cover the latency of
/// memory, within a page or two of what the hardware has already seen coming.
const AHEAD: usize = 1024;

/// A row-major matrix of `columns` columns, restricted to a range of rows.
fn assert_rows_fit<T>(what: &str, data: &[T], stride: usize, rows: &Range<usize>, columns: usize) {
    assert!(
        rows.is_empty() || (rows.end - 1) * stride + columns <= data.len(),
        "{what}: rows {rows:?} of {columns} (stride {stride}) do not fit in {} elements",
        data.len()
    );
}

/// `out[r, n] = Σ_d queries[r, d] · keys[(range.start + n) * key_stride + d]` for n < `range.len()`.
///
/// An entry depends on its query and key only, not on how the keys are cut into calls. Its terms
/// are summed in as many interleaved parts as a vector has lanes.
pub fn scores_unpacked<T: Real>(
    set: InstructionSet,
    queries: Tile<'_, T>,
    keys: &[T],
    key_stride: usize,
    range: Range<usize>,
    out: TileMut<'_, T>,
) {
    assert_rows_fit("keys", keys, key_stride, &range, queries.columns);
    assert!(out.rows == queries.rows && out.columns == range.len(), "shape of the destination");
    let queries = Tile::new(queries.data, queries.rows, queries.columns, queries.stride);
    run(set, Scores { queries, keys, key_stride, range, out });
}

struct Scores<'a, T> {
    queries: Tile<'a, T>,
    keys: &'a [T],
    key_stride: usize,
    range: Range<usize>,
    out: TileMut<'a, T>,
}

impl<T: Real> Kernel<T> for Scores<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { queries, keys, key_stride, range, mut out } = self;
        // Four keys at once, as their four sums do not wait for each other, and from four places
        // far apart: memory serves several streams faster than one.
        let quarter = range.len() / 4;
        for n in 0..quarter {
            let key = (range.start + n) * key_stride;
            for k in 0..4 {
                let next = keys.as_ptr().wrapping_add(key + k * quarter * key_stride + AHEAD);
                for d in (0..queries.columns).step_by(64 / size_of::<T>()) {
                    simd.prefetch(next.wrapping_add(d));
                }
            }
            for r in 0..queries.rows {
                let sums = dot::<S, 4>(simd, queries.row(r), &keys[key..], quarter * key_stride);
                let row = out.row_mut(r);
                for k in 0..4 {
                    row[n + k * quarter] = sums[k];
                }
            }
        }
        for n in 4 * quarter..range.len() {
            for r in 0..queries.rows {
                let key = (range.start + n) * key_stride;
                let [sum] = dot::<S, 1>(simd, queries.row(r), &keys[key..], key_stride);
                out.row_mut(r)[n] = sum;
            }
        }
    }
}

/// The products of `query` with `KEYS` rows of `keys`, `stride` apart.
#[inline(always)]
fn dot<S: Simd, const KEYS: usize>(
    simd: S,
    query: &[S::Element],
    keys: &[S::Element],
    stride: usize,
) -> [S::Element; KEYS] {
    let nothing = simd.splat(zero::<S>());
    let mut sums = [nothing; KEYS];
    let whole = query.len() / S::LANES * S::LANES;
    for d in (0..whole).step_by(S::LANES) {
        let q = simd.read(&query[d..], nothing);
        for k in 0..KEYS {
            let key = simd.read(&keys[k * stride + d..][..S::LANES], nothing);
            sums[k] = simd.mul_add(q, key, sums[k]);
        }
    }
    if whole < query.len() {
        let q = simd.read(&query[whole..], nothing);
        for k in 0..KEYS {
            let key = simd.read(&keys[k * stride + whole..][..query.len() - whole], nothing);
            sums[k] = simd.mul_add(q, key, sums[k]);
        }
    }
    let mut out = [zero::<S>(); KEYS];
    for k in 0..KEYS {
        out[k] = simd.reduce_add(sums[k]);
    }
    out
}

/// `out[r, c] += Σ_n weights[r, n] · values[(range.start + n) * value_stride + c]` for n < `range.len()`,
/// summed in increasing n from the old value, so that cutting the keys into calls changes nothing.
pub fn accumulate_unpacked<T: Real>(
    set: InstructionSet,
    weights: Tile<'_, T>,
    values: &[T],
    value_stride: usize,
    range: Range<usize>,
    out: TileMut<'_, T>,
) {
    assert_rows_fit("values", values, value_stride, &range, out.columns);
    assert!(weights.rows == out.rows && weights.columns == range.len(), "shape of the weights");
    let weights = Tile::new(weights.data, weights.rows, weights.columns, weights.stride);
    run(set, Accumulate { weights, values, value_stride, first: range.start, out });
}

struct Accumulate<'a, T> {
    weights: Tile<'a, T>,
    values: &'a [T],
    value_stride: usize,
    first: usize,
    out: TileMut<'a, T>,
}

/// Keys whose values stay in the first-level cache while every row uses them.
const KEYS_PER_BLOCK: usize = 32;

impl<T: Real> Kernel<T> for Accumulate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { weights, values, value_stride, first, mut out } = self;
        for start in (0..weights.columns).step_by(KEYS_PER_BLOCK) {
            let end = weights.columns.min(start + KEYS_PER_BLOCK);
            for r in 0..weights.rows {
                let weights = &weights.row(r)[start..end];
                let values = &values[(first + start) * value_stride..];
                let row = out.row_mut(r);
                let mut c = 0;
                while c + 4 * S::LANES <= row.len() {
                    add_rows::<S, 4>(simd, weights, &values[c..], value_stride, &mut row[c..]);
                    c += 4 * S::LANES;
                }
                while c < row.len() {
                    let end = row.len().min(c + S::LANES);
                    add_rows::<S, 1>(simd, weights, &values[c..], value_stride, &mut row[c..end]);
                    c = end;
                }
            }
        }
    }
}

/// `out += Σ_n weights[n] · values[n, ..]` over `VECTORS` vectors, the last of which may be partial
/// when it is the only one.
#[inline(always)]
fn add_rows<S: Simd, const VECTORS: usize>(
    simd: S,
    weights: &[S::Element],
    values: &[S::Element],
    stride: usize,
    out: &mut [S::Element],
) {
    let nothing = simd.splat(zero::<S>());
    let live = out.len().min(VECTORS * S::LANES);
    let out = &mut out[..live];
    let mut sums = [nothing; VECTORS];
    for v in 0..VECTORS {
        sums[v] = simd.read(&out[v * S::LANES..], nothing);
    }
    for (n, &weight) in weights.iter().enumerate() {
        let row = &values[n * stride..][..live];
        for v in 0..VECTORS {
            simd.prefetch(row.as_ptr().wrapping_add(AHEAD + v * S::LANES));
        }
        let weight = simd.splat(weight);
        for v in 0..VECTORS {
            sums[v] = simd.mul_add(weight, simd.read(&row[v * S::LANES..], nothing), sums[v]);
        }
    }
    for v in 0..VECTORS {
        simd.write(&mut out[v * S::LANES..], sums[v]);
    }
}
