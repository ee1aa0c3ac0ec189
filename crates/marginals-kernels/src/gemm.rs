//! The one matrix product everything is built from.

use std::ops::Range;

use crate::math::zero;
use crate::simd::{Kernel, Simd, run};
use crate::tile::extent;
use crate::{InstructionSet, Panels, Real, TileMut};

/// Store: whether a product replaces the destination or is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// `c = a b`
    Overwrite,
    /// `c += a b`
    Add,
}

/// The left operand: entry (r, d) is `data[r * row_stride + d * depth_stride]`. Either stride may
/// be 1, so a tile serves as itself and as its transpose.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a, T> {
    /// The elements.
    pub data: &'a [T],
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Elements from one column to the next.
    pub depth_stride: usize,
}

/// `c[r, n] (+)= Σ_{d ∈ depth} a[r, d − depth.start] · b[d, columns.start + n]` for
/// n < `columns.len()`, r < `c.rows`.
///
/// The five products of attention are this one: scores and output-gradient scores (`b` packed
/// transposed, `depth` all of it), means and query gradients (`b` packed as it is, `depth` a
/// range of keys), key and value gradients (`a` a transposed tile, `depth` a range of queries).
///
/// `columns.start` must be a multiple of [`Panels::width`], and `b` packed for the same `set`.
/// Sums run over d in increasing order with one accumulator per entry, which [`Store::Add`] starts
/// from the old value; the vector paths use fused multiply-add. Each entry's arithmetic does not
/// depend on the shape of the call, and cutting the depth into successive calls changes nothing.
///
/// Cost: 2 · rows · columns · depth operations; `a` is read once per panel, each panel once per
/// register tile of rows.
pub fn gemm<T: Real>(
    set: InstructionSet,
    store: Store,
    a: Strided<'_, T>,
    b: &Panels<T>,
    depth: Range<usize>,
    columns: Range<usize>,
    c: TileMut<'_, T>,
) {
    assert!(depth.end <= b.depth && columns.end <= b.columns, "range outside the packed matrix");
    assert_eq!(columns.len(), c.columns, "destination width");
    if c.rows == 0 || columns.is_empty() {
        return;
    }
    assert_eq!(b.width, Panels::<T>::width(set), "packed for another instruction set");
    assert_eq!(columns.start % b.width, 0, "columns must start at a panel");
    assert!(
        depth.is_empty()
            || extent(c.rows, a.row_stride, depth.len(), a.depth_stride)
                .is_some_and(|extent| extent <= a.data.len()),
        "left operand of {} × {} (strides {}, {}) does not fit in {} elements",
        c.rows,
        depth.len(),
        a.row_stride,
        a.depth_stride,
        a.data.len()
    );
    // The fields of a tile are public, so what its constructor checked may no longer hold.
    let c = TileMut::new(c.data, c.rows, c.columns, c.stride);
    run(set, Gemm { store, a, b, depth, columns, c });
}

/// Steps of the depth per turn of the loop.
const UNROLLED: usize = 4;
/// Register-tile columns, in vectors.
const VECTORS: usize = 2;
/// The largest register tile of any instruction set, in elements.
const LARGEST_TILE: usize = 12 * 32;

struct Gemm<'a, T> {
    store: Store,
    a: Strided<'a, T>,
    b: &'a Panels<T>,
    depth: Range<usize>,
    columns: Range<usize>,
    c: TileMut<'a, T>,
}

impl<T: Real> Kernel<T> for Gemm<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { store, a, b, depth, columns, c } = self;
        let group = VECTORS * S::LANES;
        let mut first = 0;
        // Panels outside, rows inside: a panel of scores stays in the first-level cache while
        // every row of the block passes over it.
        while first < columns.len() {
            let column = columns.start + first;
            let within = column % b.width;
            let live = group.min(columns.len() - first);
            // Behind the end only when the depth is empty and nothing will be read.
            let at = (column / b.width * b.depth + depth.start) * b.width + within;
            let panel = &b.data[at.min(b.data.len())..];
            debug_assert!(depth.is_empty() || (depth.len() - 1) * b.width + group <= panel.len());
            let mut row = 0;
            while row < c.rows {
                let rows = tile_rows::<S>(c.rows - row);
                let mut tile = RegisterTile {
                    a: a.data[(row * a.row_stride).min(a.data.len())..].as_ptr(),
                    row_stride: a.row_stride,
                    depth_stride: a.depth_stride,
                    b: panel.as_ptr(),
                    width: b.width,
                    depth: depth.len(),
                    c: c.data[row * c.stride + first..].as_mut_ptr(),
                    c_stride: c.stride,
                    store,
                };
                let vectors = live.div_ceil(S::LANES);
                if live == vectors * S::LANES {
                    run_tile(simd, tile, rows, vectors);
                } else {
                    // The last columns go through a whole tile beside the destination.
                    let mut whole = [T::zero(); LARGEST_TILE];
                    if store == Store::Add {
                        for r in 0..rows {
                            whole[r * group..][..live]
                                .copy_from_slice(&c.data[(row + r) * c.stride + first..][..live]);
                        }
                    }
                    (tile.c, tile.c_stride) = (whole.as_mut_ptr(), group);
                    run_tile(simd, tile, rows, vectors);
                    for r in 0..rows {
                        c.data[(row + r) * c.stride + first..][..live]
                            .copy_from_slice(&whole[r * group..][..live]);
                    }
                }
                row += rows;
            }
            first += live;
        }
    }
}

/// Accumulators held in registers over the whole depth, and what they are summed from.
#[derive(Clone, Copy)]
struct RegisterTile<T> {
    a: *const T,
    row_stride: usize,
    depth_stride: usize,
    b: *const T,
    width: usize,
    depth: usize,
    c: *mut T,
    c_stride: usize,
    store: Store,
}

/// A register tile of a size known to the compiler, a function of its own for each. So is whether
/// the rows of `a` are contiguous, as in a transposed tile: no address arithmetic is then needed.
struct Sized<T, const ROWS: usize, const VECTORS: usize, const CONTIGUOUS: bool>(RegisterTile<T>);

/// The register-tile heights there are: what is left below the tallest goes in few pieces.
#[inline(always)]
fn tile_rows<S: Simd>(left: usize) -> usize {
    for rows in [12, 8, 6, 4, 2] {
        if rows <= S::TILE_ROWS && rows <= left {
            return rows;
        }
    }
    1
}

#[inline(always)]
fn run_tile<S: Simd>(simd: S, tile: RegisterTile<S::Element>, rows: usize, vectors: usize) {
    macro_rules! pick {
        ($($rows:literal)*) => {
            match (rows, vectors, tile.row_stride == 1) {
                $(($rows, 2, false) if $rows <= S::TILE_ROWS => {
                    simd.vectorize(Sized::<_, $rows, 2, false>(tile))
                }
                ($rows, 1, false) if $rows <= S::TILE_ROWS => {
                    simd.vectorize(Sized::<_, $rows, 1, false>(tile))
                }
                ($rows, 2, true) if $rows <= S::TILE_ROWS => {
                    simd.vectorize(Sized::<_, $rows, 2, true>(tile))
                }
                ($rows, 1, true) if $rows <= S::TILE_ROWS => {
                    simd.vectorize(Sized::<_, $rows, 1, true>(tile))
                })*
                _ => unreachable!("register tile of {rows} rows and {vectors} vectors"),
            }
        };
    }
    pick!(12 8 6 4 2 1)
}

impl<T: Real, const ROWS: usize, const VECTORS: usize, const CONTIGUOUS: bool> Kernel<T>
    for Sized<T, ROWS, VECTORS, CONTIGUOUS>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let mut tile = self.0;
        if CONTIGUOUS {
            tile.row_stride = 1;
        }
        let RegisterTile { depth, c, c_stride, store, .. } = tile;
        let mut sums = [[simd.splat(zero::<S>()); VECTORS]; ROWS];
        // SAFETY: `gemm` checked that all rows of `a` and `c` and all `depth` rows of the panel lie
        // within their slices; a partial last vector is sent to a buffer of whole tiles.
        unsafe {
            if store == Store::Add {
                for r in 0..ROWS {
                    for v in 0..VECTORS {
                        sums[r][v] = simd.load(c.add(r * c_stride + v * S::LANES));
                    }
                }
            }
            let mut k = 0;
            while k + UNROLLED <= depth {
                for step in 0..UNROLLED {
                    tile.multiply_add(simd, k + step, &mut sums);
                }
                k += UNROLLED;
            }
            while k < depth {
                tile.multiply_add(simd, k, &mut sums);
                k += 1;
            }
            for r in 0..ROWS {
                for v in 0..VECTORS {
                    simd.store(c.add(r * c_stride + v * S::LANES), sums[r][v]);
                }
            }
        }
    }
}

impl<T: Real> RegisterTile<T> {
    /// Adds the outer product of column `k` of `a` and row `k` of `b`.
    ///
    /// # Safety
    /// Both must lie within memory that may be read.
    #[inline(always)]
    unsafe fn multiply_add<S: Simd<Element = T>, const ROWS: usize, const VECTORS: usize>(
        self,
        simd: S,
        k: usize,
        sums: &mut [[S::Vector; VECTORS]; ROWS],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let a = self.a.add(k * self.depth_stride);
            let b = self.b.add(k * self.width);
            let mut right = [simd.splat(zero::<S>()); VECTORS];
            for v in 0..VECTORS {
                right[v] = simd.load(b.add(v * S::LANES));
            }
            for r in 0..ROWS {
                // The depth stride must stay a variable here: told that it is 1, the compiler
                // reads four steps at once and then shuffles them apart, at half the speed.
                let left = simd.splat(*a.add(r * self.row_stride));
                for v in 0..VECTORS {
                    sums[r][v] = simd.mul_add(left, right[v], sums[r][v]);
                }
            }
        }
    }
}
