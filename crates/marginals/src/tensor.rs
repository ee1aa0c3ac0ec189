//! Tensors at the edge: shapes, places in them, and what they may be stored in.

use std::ops::Range;

use crate::Real;
use half::{bf16, f16};
use marginals_kernels::large_pages;
use ndarray::{Array4, ArrayView2, ArrayView4, CowArray, Ix2, Ix4, ShapeBuilder};

use crate::Error;

/// A type the tensors of a model may be stored in. The half types are computed in `f32`.
pub trait Element: Copy + Send + Sync + 'static {
    /// The type the arithmetic and the answers are in.
    type Real: Real;
    /// The tensor in the computing type: itself, or a widened copy.
    fn widen<'a>(view: ArrayView4<'a, Self>) -> CowArray<'a, Self::Real, Ix4>;
}

impl Element for f32 {
    type Real = f32;
    fn widen<'a>(view: ArrayView4<'a, f32>) -> CowArray<'a, f32, Ix4> {
        view.into()
    }
}
impl Element for f64 {
    type Real = f64;
    fn widen<'a>(view: ArrayView4<'a, f64>) -> CowArray<'a, f64, Ix4> {
        view.into()
    }
}
impl Element for bf16 {
    type Real = f32;
    fn widen<'a>(view: ArrayView4<'a, bf16>) -> CowArray<'a, f32, Ix4> {
        view.mapv(bf16::to_f32).into()
    }
}
impl Element for f16 {
    type Real = f32;
    fn widen<'a>(view: ArrayView4<'a, f16>) -> CowArray<'a, f32, Ix4> {
        view.mapv(f16::to_f32).into()
    }
}

/// Zeros to write an answer to, in large pages where it is large.
pub(crate) fn zeros<T: Real>(shape: impl ShapeBuilder<Dim = Ix4>) -> Array4<T> {
    let mut answer = Array4::zeros(shape);
    large_pages(answer.as_slice_mut().expect("fresh arrays lie in rows"));
    answer
}

/// The sizes a posterior is computed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Batch size B.
    pub batch: usize,
    /// Query heads H.
    pub heads: usize,
    /// Key and value heads Hk; divides H (grouped queries).
    pub key_heads: usize,
    /// Queries N.
    pub queries: usize,
    /// Keys M.
    pub keys: usize,
    /// Width D of a query.
    pub query_width: usize,
    /// Width of a key; equal to D for every potential that compares the two directly.
    pub key_width: usize,
    /// Query i sits at position i + `query_offset`; key j at position j.
    pub query_offset: i64,
}

impl Shape {
    /// The sizes of `q` [B, H, N, D] and `k` [B, Hk, M, D].
    pub fn of<T>(
        q: &ArrayView4<'_, T>,
        k: &ArrayView4<'_, T>,
        query_offset: i64,
    ) -> Result<Self, Error> {
        let (batch, heads, queries, query_width) = q.dim();
        let (key_batch, key_heads, keys, key_width) = k.dim();
        if key_batch != batch {
            return Err(Error::shape(
                "k",
                format!("[{batch}, Hk, M, D], the batch size of q"),
                k.shape(),
                "Repeat or drop batch entries so that q and k agree.",
            ));
        }
        if heads > 0 && (key_heads == 0 || heads % key_heads != 0) {
            return Err(Error::shape(
                "k",
                format!("[B, Hk, M, D] with Hk a divisor of the {heads} query heads"),
                k.shape(),
                "Each key head serves an equal group of query heads.",
            ));
        }
        Ok(Self { batch, heads, key_heads, queries, keys, query_width, key_width, query_offset })
    }

    /// Query heads served by one key head.
    pub fn group(&self) -> usize {
        self.heads.checked_div(self.key_heads).unwrap_or(0)
    }

    /// The key head that serves query head `head`.
    pub fn key_head(&self, head: usize) -> usize {
        head / self.group().max(1)
    }
}

/// One block of the score matrix of one batch entry and head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Batch entry.
    pub batch: usize,
    /// Query head.
    pub head: usize,
    /// Rows.
    pub queries: Range<usize>,
    /// Columns.
    pub keys: Range<usize>,
    /// Query i sits at position i + `query_offset`.
    pub query_offset: i64,
}

impl Block {
    /// Position of query `i` (an absolute index) minus position of key `j`: how far key j lies
    /// behind query i, negative when it lies ahead.
    #[inline(always)]
    pub fn distance(&self, i: usize, j: usize) -> i64 {
        i as i64 + self.query_offset - j as i64
    }

    /// The smallest and largest [`distance`](Self::distance) in the block.
    pub fn distances(&self) -> (i64, i64) {
        (
            self.distance(self.queries.start, self.keys.end.saturating_sub(1)),
            self.distance(self.queries.end.saturating_sub(1), self.keys.start),
        )
    }
}

/// The matrix as contiguous rows: itself, or a copy when its rows are strided.
pub(crate) fn contiguous<'a, T: Real>(view: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
    if view.is_standard_layout() {
        return view.into();
    }
    // `to_owned` would keep the order of columns that lie together.
    view.as_standard_layout().into_owned().into()
}

/// The elements of a matrix made by [`contiguous`].
pub(crate) fn elements<'b, T: Real>(rows: &'b CowArray<'_, T, Ix2>) -> &'b [T] {
    rows.as_slice().expect("rows made contiguous")
}

/// Refuses a tensor that holds NaN, naming where.
pub fn refuse_nan<T: Real>(name: &str, tensor: &ArrayView4<'_, T>) -> Result<(), Error> {
    match tensor.indexed_iter().find(|(_, x)| x.is_nan()) {
        None => Ok(()),
        Some(((b, h, i, d), _)) => Err(Error::not_a_number(name, vec![b, h, i, d])),
    }
}
