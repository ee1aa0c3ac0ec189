//! What is made of the keys and values of one head before any tile.

use std::ops::Range;

use marginals_kernels::{
    InstructionSet, Panels, Store, Strided, Tile, TileMut, accumulate_unpacked, gemm,
};
use ndarray::{ArrayView4, CowArray, Ix2, s};
use rayon::prelude::*;

use crate::potential::{Features, Place, Potential};
use crate::{Real, Shape, tensor};

/// Up to this many query rows, packing the keys would cost more than it saves.
const FEW_QUERIES: usize = 4;

/// Keys and values of one batch entry and key head, over one range of keys.
pub(crate) struct HeadKeys<'a, T> {
    /// The range.
    pub keys: Range<usize>,
    /// Features of its keys.
    pub features: Features<'a, T>,
    /// Its values, when the request averages them: one set, or one per query head served.
    values: Vec<Values<'a, T>>,
    /// Their squares, when it wants second moments.
    squares: Vec<Values<'a, T>>,
}

impl<'a, T> HeadKeys<'a, T> {
    /// The values that query head `head` averages.
    pub fn values(&self, head: usize) -> Option<&Values<'a, T>> {
        self.values.get(head % self.values.len().max(1))
    }

    /// Their squares.
    pub fn squares(&self, head: usize) -> Option<&Values<'a, T>> {
        self.squares.get(head % self.squares.len().max(1))
    }
}

/// The values of a range of keys, ready to be averaged.
pub(crate) enum Values<'a, T> {
    /// For many queries.
    Packed(Panels<T>),
    /// For few.
    Rows(CowArray<'a, T, Ix2>),
}

impl<T: Real> Values<'_, T> {
    fn new(rows: CowArray<'_, T, Ix2>, packed: bool) -> Values<'_, T> {
        if !packed {
            return Values::Rows(rows);
        }
        let (keys, width) = rows.dim();
        let set = InstructionSet::detect();
        Values::Packed(Panels::pack(set, tensor::elements(&rows), keys, width, width, 1))
    }

    /// `into[i, ·] += Σ_j weights[i, j] v_j` over a run of keys, counted from the range's start.
    pub fn accumulate(&self, weights: Tile<'_, T>, run: Range<usize>, into: TileMut<'_, T>) {
        match self {
            Self::Packed(panels) => {
                let a = Strided { data: weights.data, row_stride: weights.stride, depth_stride: 1 };
                let width = panels.columns();
                gemm(InstructionSet::detect(), Store::Add, a, panels, run, 0..width, into);
            }
            Self::Rows(rows) => {
                let (set, width) = (InstructionSet::detect(), rows.ncols());
                accumulate_unpacked(set, weights, tensor::elements(rows), width, run, into);
            }
        }
    }

    /// The same, summing the run by itself in `part` first. Unnormalised sums grow with the number
    /// of keys; one running sum would round every product to the size of all before it.
    pub fn accumulate_apart(
        &self,
        weights: Tile<'_, T>,
        run: Range<usize>,
        mut into: TileMut<'_, T>,
        part: &mut Vec<T>,
    ) {
        let (rows, width) = (into.rows, into.columns);
        part.clear();
        part.resize(rows * width, T::zero());
        self.accumulate(weights, run, TileMut::new(part, rows, width, width));
        for (r, part) in part.chunks_exact(width.max(1)).enumerate() {
            into.row_mut(r).iter_mut().zip(part).for_each(|(x, &sum)| *x += sum);
        }
    }
}

/// One [`HeadKeys`] per batch entry and key head, batch-major.
pub(super) fn prepare<'a, T: Real>(
    shape: &Shape,
    potential: &dyn Potential<T>,
    k: &'a ArrayView4<'a, T>,
    values: Option<&'a ArrayView4<'a, T>>,
    squares: bool,
    keys: Range<usize>,
) -> Vec<HeadKeys<'a, T>> {
    (0..shape.batch * shape.key_heads)
        .into_par_iter()
        .map(|index| {
            let place = (index / shape.key_heads, index % shape.key_heads);
            HeadKeys::new(shape, potential, k, values, squares, keys.clone(), place)
        })
        .collect()
}

impl<'a, T: Real> HeadKeys<'a, T> {
    /// Prepares `keys` of one batch entry and key head, and reads no other.
    pub fn new(
        shape: &Shape,
        potential: &dyn Potential<T>,
        k: &'a ArrayView4<'a, T>,
        values: Option<&'a ArrayView4<'a, T>>,
        squares: bool,
        keys: Range<usize>,
        (batch, head): (usize, usize),
    ) -> Self {
        let packed = shape.queries * shape.group() > FEW_QUERIES;
        let place = Place { shape, batch, head, first: keys.start };
        let rows = tensor::contiguous(k.slice(s![batch, head, keys.clone(), ..]));
        let features = match rows.is_view() {
            true => potential.key_features(place, k.slice(s![batch, head, keys.clone(), ..])),
            false => potential.key_features(place, rows.view()).into_owned().into(),
        };
        let mut features = Features::new(features, keys.start);
        if potential.is_product() && packed {
            features = features.packed_across().without_rows();
        }
        // Query heads are grouped by key head, so those that share one have values in a run.
        let own = || {
            values.into_iter().flat_map(|v| {
                let sets = v.dim().1 / shape.key_heads;
                let keys = keys.clone();
                (head * sets..(head + 1) * sets)
                    .map(move |set| tensor::contiguous(v.slice(s![batch, set, keys.clone(), ..])))
            })
        };
        let square = |v: CowArray<'a, T, Ix2>| {
            let mut squares = v.into_owned();
            squares.mapv_inplace(|x| x * x);
            Values::new(squares.into(), packed)
        };
        HeadKeys {
            features,
            values: own().map(|v| Values::new(v, packed)).collect(),
            squares: if squares { own().map(square).collect() } else { Vec::new() },
            keys: keys.clone(),
        }
    }
}
