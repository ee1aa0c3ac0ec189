//! The one matrix product everything is built from.

use std::ops::Range;

use crate::{InstructionSet, Panels, Real, TileMut};

/// What happens to the destination.
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
/// `columns.start` must be a multiple of [`Panels::width`]. Sums run over d in increasing order
/// with one accumulator per entry; the vector paths use fused multiply-add. Each entry's
/// arithmetic does not depend on the shape of the call other than through `depth`.
pub fn gemm<T: Real>(
    _set: InstructionSet,
    store: Store,
    a: Strided<'_, T>,
    b: &Panels<T>,
    depth: Range<usize>,
    columns: Range<usize>,
    c: TileMut<'_, T>,
) {
    assert!(depth.end <= b.depth && columns.end <= b.columns, "range outside the packed matrix");
    assert_eq!(columns.start % b.width, 0, "columns must start at a panel");
    assert_eq!(columns.len(), c.columns, "destination width");
    let TileMut { data: c, rows, stride, .. } = c;
    for r in 0..rows {
        for (n, column) in columns.clone().enumerate() {
            let mut sum = match store {
                Store::Overwrite => T::zero(),
                Store::Add => c[r * stride + n],
            };
            for (k, d) in depth.clone().enumerate() {
                sum += a.data[r * a.row_stride + k * a.depth_stride] * b.get(d, column);
            }
            c[r * stride + n] = sum;
        }
    }
}
