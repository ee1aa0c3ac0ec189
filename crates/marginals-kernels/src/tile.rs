//! Row-major views of a block of the score matrix.

use std::ops::Range;

/// A read-only tile: `rows` × `columns`, row `i` at `data[i * stride..][..columns]`.
#[derive(Clone, Copy, Debug)]
pub struct Tile<'a, T> {
    /// The elements.
    pub data: &'a [T],
    /// Number of rows (queries).
    pub rows: usize,
    /// Number of columns (keys).
    pub columns: usize,
    /// Elements from one row to the next; at least `columns`.
    pub stride: usize,
}

/// A tile that is written to; laid out as [`Tile`].
#[derive(Debug)]
pub struct TileMut<'a, T> {
    /// The elements.
    pub data: &'a mut [T],
    /// Number of rows (queries).
    pub rows: usize,
    /// Number of columns (keys).
    pub columns: usize,
    /// Elements from one row to the next; at least `columns`.
    pub stride: usize,
}

/// Elements from the first entry of a strided block to behind its last; `None` when no memory could
/// hold it. An overflow that wrapped would let the unchecked reads of the products escape.
pub(crate) fn extent(
    rows: usize,
    row_stride: usize,
    columns: usize,
    stride: usize,
) -> Option<usize> {
    if rows == 0 {
        return Some(0);
    }
    let last_row = (rows - 1).checked_mul(row_stride)?;
    if columns == 0 {
        return Some(last_row);
    }
    last_row.checked_add((columns - 1).checked_mul(stride)?)?.checked_add(1)
}

fn assert_fits(len: usize, rows: usize, columns: usize, stride: usize) {
    assert!(columns <= stride, "tile of {columns} columns has a row stride of {stride}");
    assert!(
        extent(rows, stride, columns, 1).is_some_and(|extent| extent <= len),
        "tile of {rows} × {columns} (stride {stride}) does not fit in {len} elements"
    );
}

impl<'a, T> Tile<'a, T> {
    /// A view of `data`. Panics when it does not fit.
    #[inline]
    pub fn new(data: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        assert_fits(data.len(), rows, columns, stride);
        Self { data, rows, columns, stride }
    }

    /// Row `i`.
    #[inline(always)]
    pub fn row(&self, i: usize) -> &'a [T] {
        &self.data[i * self.stride..][..self.columns]
    }

    /// Some of the columns. Panics when there are not so many.
    #[inline]
    pub fn columns(&self, columns: Range<usize>) -> Tile<'a, T> {
        assert!(columns.end <= self.columns, "columns {columns:?} of {}", self.columns);
        let data = if self.rows == 0 { self.data } else { &self.data[columns.start..] };
        Tile { data, rows: self.rows, columns: columns.len(), stride: self.stride }
    }
}

impl<'a, T> TileMut<'a, T> {
    /// A view of `data`. Panics when it does not fit.
    #[inline]
    pub fn new(data: &'a mut [T], rows: usize, columns: usize, stride: usize) -> Self {
        assert_fits(data.len(), rows, columns, stride);
        Self { data, rows, columns, stride }
    }

    /// Row `i`.
    #[inline(always)]
    pub fn row(&self, i: usize) -> &[T] {
        &self.data[i * self.stride..][..self.columns]
    }

    /// Row `i`, to write.
    #[inline(always)]
    pub fn row_mut(&mut self, i: usize) -> &mut [T] {
        &mut self.data[i * self.stride..][..self.columns]
    }

    /// The same tile, read-only.
    #[inline]
    pub fn as_tile(&self) -> Tile<'_, T> {
        Tile { data: self.data, rows: self.rows, columns: self.columns, stride: self.stride }
    }

    /// The same tile for a shorter time.
    #[inline]
    pub fn reborrow(&mut self) -> TileMut<'_, T> {
        TileMut { data: self.data, rows: self.rows, columns: self.columns, stride: self.stride }
    }
}
