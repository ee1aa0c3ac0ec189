//! Tensors at the edge: shapes, places in them, and what they may be stored in.

use std::ops::Range;

use half::{bf16, f16};
use marginals_kernels::{InstructionSet, large_pages};
use ndarray::{
    Array2, Array4, ArrayBase, ArrayView, ArrayView2, ArrayView4, CowArray, CowRepr, Dimension,
    Ix2, Ix4, ShapeBuilder, ViewRepr, s,
};

use crate::Error;

/// Number formats that are computed in: `f32` and `f64`.
pub trait Real: marginals_kernels::Real + Element<Real = Self> {}
impl Real for f32 {}
impl Real for f64 {}

/// Whether every number is finite. Runs of them are looked at as a whole, many numbers at a time.
pub(crate) fn all_finite<T: Real>(numbers: &[T]) -> bool {
    const RUN: usize = 1024;
    InstructionSet::detect().run(
        #[inline(always)]
        || numbers.chunks(RUN).all(|run| run.iter().fold(true, |all, x| all & x.is_finite())),
    )
}

/// A type the tensors of a model may be stored in. The half types are computed in `f32`.
pub trait Element: Copy + Send + Sync + 'static {
    /// The type the arithmetic and the answers are in.
    type Real: Real;
    /// The tensor as it is, to be read in the computing type.
    fn store<'a>(view: ArrayView4<'a, Self>) -> Stored<'a, Self::Real>;
}

impl Element for f32 {
    type Real = f32;
    fn store<'a>(view: ArrayView4<'a, f32>) -> Stored<'a, f32> {
        Stored::Real(view.into())
    }
}
impl Element for f64 {
    type Real = f64;
    fn store<'a>(view: ArrayView4<'a, f64>) -> Stored<'a, f64> {
        Stored::Real(view.into())
    }
}
impl Element for bf16 {
    type Real = f32;
    fn store<'a>(view: ArrayView4<'a, bf16>) -> Stored<'a, f32> {
        Stored::Bf16(view)
    }
}
impl Element for f16 {
    type Real = f32;
    fn store<'a>(view: ArrayView4<'a, f16>) -> Stored<'a, f32> {
        Stored::F16(view)
    }
}

/// A tensor [B, heads, nodes, width] in the format it is stored in. Rows are read in the computing
/// type, those of the half types converted as they are read: no widened copy of the whole is made.
#[derive(Clone, Debug)]
pub enum Stored<'a, T> {
    // The aliases of these types would make the lifetime invariant.
    /// In the computing type.
    Real(ArrayBase<CowRepr<'a, T>, Ix4, T>),
    /// In bfloat16.
    Bf16(ArrayBase<ViewRepr<&'a bf16>, Ix4, bf16>),
    /// In half precision.
    F16(ArrayBase<ViewRepr<&'a f16>, Ix4, f16>),
}

/// Some rows of one head, converted.
fn widened<T: Real, S: marginals_kernels::Stored>(
    view: &ArrayView4<'_, S>,
    (batch, head): (usize, usize),
    nodes: Range<usize>,
) -> CowArray<'static, T, Ix2> {
    let rows = view.slice(s![batch, head, nodes, ..]);
    let mut wide = Array2::zeros(rows.raw_dim());
    for (mut into, from) in wide.rows_mut().into_iter().zip(rows.rows()) {
        into.iter_mut().zip(from).for_each(|(into, &x)| *into = x.widen());
    }
    wide.into()
}

impl<T: Real> Stored<'_, T> {
    pub(crate) fn dim(&self) -> (usize, usize, usize, usize) {
        match self {
            Self::Real(tensor) => tensor.dim(),
            Self::Bf16(tensor) => tensor.dim(),
            Self::F16(tensor) => tensor.dim(),
        }
    }

    /// Some nodes of one head as contiguous rows: borrowed where they lie so.
    pub(crate) fn rows(&self, head: (usize, usize), nodes: Range<usize>) -> CowArray<'_, T, Ix2> {
        match self {
            Self::Real(tensor) => contiguous(tensor.slice(s![head.0, head.1, nodes, ..])),
            Self::Bf16(tensor) => widened(tensor, head, nodes),
            Self::F16(tensor) => widened(tensor, head, nodes),
        }
    }

    /// The whole tensor in the computing type.
    pub(crate) fn to_array(&self) -> Array4<T> {
        let (batch, heads, nodes, width) = self.dim();
        let mut all = Array4::zeros((batch, heads, nodes, width));
        for head in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            all.slice_mut(s![head.0, head.1, .., ..]).assign(&self.rows(head, 0..nodes));
        }
        all
    }

    /// Some nodes of one head as contiguous rows that live as long as the tensor; `None` where they are
    /// to be copied or converted.
    pub(crate) fn borrowed_rows(
        &self,
        head: (usize, usize),
        nodes: Range<usize>,
    ) -> Option<ArrayView2<'_, T>> {
        let Self::Real(tensor) = self else { return None };
        let rows = tensor.slice(s![head.0, head.1, nodes, ..]);
        rows.is_standard_layout().then_some(rows)
    }

    /// The tensor with each head repeated, so that it has `heads` of them.
    pub(crate) fn with_heads(&self, heads: usize) -> Stored<'static, T> {
        let (batch, own, nodes, width) = self.dim();
        let mut all = Array4::zeros((batch, heads, nodes, width));
        for b in 0..batch {
            for h in 0..heads {
                let rows = self.rows((b, h * own / heads), 0..nodes);
                all.slice_mut(s![b, h, .., ..]).assign(&rows);
            }
        }
        Stored::Real(all.into())
    }

    /// A view that borrows from this one.
    pub(crate) fn reborrow(&self) -> Stored<'_, T> {
        match self {
            Self::Real(tensor) => Stored::Real(tensor.view().into()),
            Self::Bf16(tensor) => Stored::Bf16(*tensor),
            Self::F16(tensor) => Stored::F16(*tensor),
        }
    }

    /// The address and the strides of a tensor that is not converted.
    pub(crate) fn layout(&self) -> Option<(*const T, &[isize])> {
        match self {
            Self::Real(tensor) => Some((tensor.as_ptr(), tensor.strides())),
            _ => None,
        }
    }

    /// Index of the first NaN.
    pub(crate) fn nan(&self) -> Option<[usize; 4]> {
        let (batch, heads, nodes, _) = self.dim();
        let heads = (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h)));
        heads.into_iter().find_map(|head| {
            let rows = self.rows(head, 0..nodes);
            let (place, _) = rows.indexed_iter().find(|(_, x)| x.is_nan())?;
            Some([head.0, head.1, place.0, place.1])
        })
    }
}

/// Refuses a stored tensor that holds NaN, naming where.
pub(crate) fn refuse_stored_nan<T: Real>(name: &str, tensor: &Stored<'_, T>) -> Result<(), Error> {
    match tensor.nan() {
        None => Ok(()),
        Some(index) => Err(Error::not_a_number(name, index.to_vec())),
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
    /// Reference that log-weights are relative to.
    pub reference: Reference,
}

/// Reference that the log-weights added by a prior are relative to.
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
    /// Reference that log-weights are relative to.
    pub reference: Reference,
}

impl Shape {
    /// The sizes of `q` [B, H, N, D] and `k` [B, Hk, M, D], key j at position j.
    ///
    /// # Errors
    /// [`Error::Shape`] where they do not fit each other, and [`Error::Value`] for an offset that
    /// distances have no exact numbers for.
    pub fn of<T, S>(
        q: &ArrayView4<'_, T>,
        k: &ArrayView4<'_, S>,
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

    /// A block of the scores of one batch entry and head.
    pub fn block(&self, head: (usize, usize), queries: Range<usize>, keys: Range<usize>) -> Block {
        Block { batch: head.0, head: head.1, queries, keys, positions: self.positions() }
    }

    /// Every batch entry and head, in order.
    pub(crate) fn all_heads(&self) -> impl Iterator<Item = (usize, usize)> + Clone + use<> {
        let (batch, heads) = (self.batch, self.heads);
        (0..batch).flat_map(move |b| (0..heads).map(move |h| (b, h)))
    }

    /// Number of a batch entry and head among all of them.
    pub(crate) fn head_number(&self, (batch, head): (usize, usize)) -> usize {
        batch * self.heads + head
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

    /// Number of key `j` in answers: its position.
    #[inline(always)]
    pub fn number(&self, j: usize) -> i64 {
        j as i64 + self.positions.key_offset
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
pub fn refuse_nan<T: Real, D: Dimension>(
    name: &str,
    tensor: &ArrayView<'_, T, D>,
) -> Result<(), Error> {
    let Some(mut at) = tensor.iter().position(|x| x.is_nan()) else { return Ok(()) };
    let mut position = vec![0; tensor.ndim()];
    for (index, &length) in position.iter_mut().zip(tensor.shape()).rev() {
        *index = at % length;
        at /= length;
    }
    Err(Error::not_a_number(name, position))
}
