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
    /// Query i sits at position i + `query_offset`.
    pub query_offset: i64,
    /// Key j sits at position j + `key_offset`: a shard that holds the keys from 4096 on says so.
    pub key_offset: i64,
    /// What log-weights are relative to.
    pub reference: Reference,
}

/// What the log-weights that a prior adds are relative to.
///
/// Far from a query all of its log-weights can be large and nearly equal: −0.7 · 10⁹ and a little more
/// or less leaves `f32` no digits for the difference, which is all that a posterior depends on. What
/// edges that share a normaliser have in common may therefore be taken out of their log-weights: the
/// prior's [reference](crate::prior::Prior::add_references), whose log-weight the remaining ones are
/// relative to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reference {
    /// Nothing: log-weights are added as they are.
    #[default]
    Nothing,
    /// A constant of every query, where queries choose.
    OfQuery,
    /// A constant of every key, where keys choose.
    OfKey,
}

/// Where the nodes of a problem stand, whatever block of it is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// How many queries there are.
    pub queries: usize,
    /// How many keys there are.
    pub keys: usize,
    /// Query i sits at position i + `query_offset`.
    pub query_offset: i64,
    /// Key j sits at position j + `key_offset`.
    pub key_offset: i64,
    /// What log-weights are relative to.
    pub reference: Reference,
}

impl Shape {
    /// The sizes of `q` [B, H, N, D] and `k` [B, Hk, M, D], key j at position j.
    ///
    /// # Errors
    /// [`Error::Shape`] where they do not fit each other, and [`Error::Value`] for an offset that
    /// distances have no exact numbers for.
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
        check_offset("query-offset", query_offset)?;
        if heads > 0 && (key_heads == 0 || heads % key_heads != 0) {
            return Err(Error::shape(
                "k",
                format!("[B, Hk, M, D] with Hk a divisor of the {heads} query heads"),
                k.shape(),
                "Each key head serves an equal group of query heads.",
            ));
        }
        Ok(Self {
            batch,
            heads,
            key_heads,
            queries,
            keys,
            query_width,
            key_width,
            query_offset,
            key_offset: 0,
            reference: Reference::Nothing,
        })
    }

    /// The same with key j at position j + `offset`.
    ///
    /// # Errors
    /// [`Error::Value`] for offsets that distances have no exact numbers for.
    pub fn with_key_offset(self, offset: i64) -> Result<Self, Error> {
        check_offset("key-offset", offset)?;
        Ok(Self { key_offset: offset, ..self })
    }

    /// Where the nodes stand.
    pub fn positions(&self) -> Positions {
        let Self { queries, keys, query_offset, key_offset, reference, .. } = *self;
        Positions { queries, keys, query_offset, key_offset, reference }
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

/// Positions are counted as far as `f64` has a number for each.
const FARTHEST: u64 = 1 << 52;

fn check_offset(name: &str, offset: i64) -> Result<(), Error> {
    match offset.unsigned_abs() <= FARTHEST {
        true => Ok(()),
        false => Err(Error::value(name, "at most 2⁵² either way", offset)),
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
    /// Where the nodes of the whole problem stand.
    pub positions: Positions,
}

impl Block {
    /// Position of query `i` (an absolute index) minus position of key `j`: how far key j lies
    /// behind query i, negative when it lies ahead.
    #[inline(always)]
    pub fn distance(&self, i: usize, j: usize) -> i64 {
        i as i64 + self.lead() - j as i64
    }

    /// How many keys lie behind query 0.
    #[inline(always)]
    pub fn lead(&self) -> i64 {
        self.positions.query_offset - self.positions.key_offset
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
