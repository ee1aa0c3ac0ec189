//! Heads: the keys and values of one head, made ready before any tile.

use std::ops::Range;

use marginals_kernels::{
    InstructionSet, Panels, Store, Strided, Tile, TileMut, accumulate_unpacked, gemm,
};
use ndarray::{Array2, CowArray, Ix2};

use super::centre::centre;
use crate::infer::problem::Problem;
use crate::infer::statistic::{Linear, Request};
use crate::potential::{Features, Place};
use crate::tensor::Stored;
use crate::{Real, parallel, tensor};

/// Up to this many query rows, packing the keys would cost more than it saves.
const FEW_QUERIES: usize = 4;

/// Care with values that are not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// None: 0 times infinity is NaN. What a fast pass finds is right where it is finite.
    Fast,
    /// An edge of weight 0 contributes nothing, whatever its key holds.
    Careful,
    /// That, and what queries gather is kept relative to their largest weight.
    Scaled,
}

/// Keys and values of one batch entry and key head, over one range of keys.
pub(crate) struct HeadKeys<'a, T> {
    /// The range.
    pub keys: Range<usize>,
    /// Features of its keys.
    pub features: Features<'a, T>,
    /// By table of the request: one set for the key head, or one per query head served.
    tables: Vec<Vec<Table<'a, T>>>,
}

/// Table of one set of values that are averaged.
pub(crate) struct Table<'a, T> {
    /// The values, where they are averaged as they are.
    pub plain: Option<Rows<'a, T>>,
    /// About a reference, for variances and covariances.
    pub centred: Option<Centred<'a, T>>,
}

/// Values about a reference r near them, so that what is common to them costs no digits.
pub(crate) struct Centred<'a, T> {
    pub reference: Vec<T>,
    /// v − r.
    pub apart: Rows<'a, T>,
    /// (v − r)², or v² where edges vary one by one: for variances.
    pub squares: Option<Rows<'a, T>>,
}

impl<'a, T> HeadKeys<'a, T> {
    /// Set of a table that query head `head` averages.
    pub fn table(&self, table: usize, head: usize) -> &Table<'a, T> {
        let sets = &self.tables[table];
        &sets[head % sets.len().max(1)]
    }
}

/// The rows of a range of keys, ready to be averaged.
pub(crate) struct Rows<'a, T> {
    packed: Packed<'a, T>,
    /// Rows that hold what is not finite, counted from the range's start; in the packed ones they are
    /// 0. Empty where no care is taken.
    spoiled: Vec<(usize, Vec<T>)>,
}

enum Packed<'a, T> {
    /// For many queries.
    Panels(Panels<T>),
    /// For few.
    Rows(CowArray<'a, T, Ix2>),
}

impl<'a, T: Real> Rows<'a, T> {
    fn new(mut rows: CowArray<'a, T, Ix2>, packed: bool, care: Care) -> Self {
        let mut spoiled = Vec::new();
        if care != Care::Fast {
            let bad: Vec<usize> = (rows.outer_iter().enumerate())
                .filter(|(_, row)| row.iter().any(|x| !x.is_finite()))
                .map(|(index, _)| index)
                .collect();
            for index in bad {
                let mut row = rows.row_mut(index);
                spoiled.push((index, row.to_vec()));
                row.fill(T::zero());
            }
        }
        if !packed {
            return Self { packed: Packed::Rows(rows), spoiled };
        }
        let (keys, width) = rows.dim();
        let set = InstructionSet::detect();
        let panels = Panels::pack(set, tensor::elements(&rows), keys, width, width, 1);
        Self { packed: Packed::Panels(panels), spoiled }
    }

    /// `into[i, ·] += Σ_j weights[i, j] v_j` over a run of keys, counted from the range's start.
    pub fn accumulate(&self, weights: Tile<'_, T>, run: Range<usize>, mut into: TileMut<'_, T>) {
        let set = InstructionSet::detect();
        for (index, row) in &self.spoiled {
            if !run.contains(index) {
                continue;
            }
            for i in 0..into.rows {
                let weight = weights.row(i)[index - run.start];
                if weight != T::zero() {
                    into.row_mut(i).iter_mut().zip(row).for_each(|(x, &v)| *x += weight * v);
                }
            }
        }
        match &self.packed {
            Packed::Panels(panels) => {
                let a = Strided { data: weights.data, row_stride: weights.stride, depth_stride: 1 };
                let width = panels.columns();
                gemm(set, Store::Add, a, panels, run, 0..width, into);
            }
            Packed::Rows(rows) => {
                let width = rows.ncols();
                accumulate_unpacked(set, weights, tensor::elements(rows), width, run, into);
            }
        }
    }

    /// The same sum, the run summed by itself in `part` first. Unnormalised sums grow with the number
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

/// How the tables of a request are used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Use {
    pub plain: bool,
    pub centred: bool,
    pub squares: bool,
}

/// Uses that a request makes of each of its tables.
pub(crate) fn uses<T: Real>(request: &Request<'_, T>) -> Vec<Use> {
    let mut uses = vec![Use::default(); request.values.len()];
    for statistic in &request.linear {
        let Some(table) = statistic.table() else { continue };
        let used = &mut uses[table];
        match statistic {
            Linear::Value(_) => used.plain = true,
            Linear::ValueVariance(_) => (used.centred, used.squares) = (true, true),
            _ => used.centred = true,
        }
    }
    uses
}

/// How keys are prepared for a pass.
#[derive(Clone, Copy)]
pub(crate) struct Preparation<'r, T: Real> {
    pub problem: &'r Problem<'r, T>,
    pub care: Care,
    /// Whether edges vary one by one: then variances take v² and not the spread about a mean.
    pub many_edges: bool,
}

impl<T: Real> Preparation<'_, T> {
    /// One [`HeadKeys`] per batch entry and key head, batch-major.
    pub fn all<'a>(
        &self,
        k: &'a Stored<'a, T>,
        request: Option<&'a Request<'_, T>>,
        keys: Range<usize>,
    ) -> Vec<HeadKeys<'a, T>> {
        let shape = &self.problem.shape;
        let key_heads = shape.key_heads;
        parallel::map(shape.batch * key_heads, &|index| {
            let head = (index / key_heads, index % key_heads);
            self.head(k, request, keys.clone(), head)
        })
    }

    /// Prepares `keys` of one batch entry and key head, and reads no other.
    pub fn head<'a>(
        &self,
        k: &'a Stored<'a, T>,
        request: Option<&'a Request<'_, T>>,
        keys: Range<usize>,
        (batch, head): (usize, usize),
    ) -> HeadKeys<'a, T> {
        let (shape, potential) = (&self.problem.shape, self.problem.potential);
        let packed = shape.queries * shape.group() > FEW_QUERIES;
        let place = Place { shape, batch, head, first: keys.start };
        let features = match k.borrowed_rows((batch, head), keys.clone()) {
            Some(rows) => potential.key_features(place, rows),
            None => {
                let rows = k.rows((batch, head), keys.clone());
                potential.key_features(place, rows.view()).into_owned().into()
            }
        };
        let mut features = Features::new(features, keys.start);
        if potential.is_product() && packed {
            features = features.packed_across().without_rows();
        }
        let tables = request.map_or_else(Vec::new, |request| {
            let tables = request.values.iter().zip(uses(request));
            tables
                .map(|(values, used)| {
                    // Query heads are grouped by key head, so those that share one have values in a run.
                    let sets = values.tensor.dim().1 / shape.key_heads.max(1);
                    (head * sets..(head + 1) * sets)
                        .map(|set| {
                            let rows = values.tensor.rows((batch, set), keys.clone());
                            let centre = used.centred.then(|| match self.many_edges {
                                true => vec![T::zero(); rows.ncols()],
                                false => {
                                    // A query head that averages this set.
                                    let own = set * shape.heads / values.tensor.dim().1;
                                    centre(self.problem, (batch, own), keys.clone(), &rows)
                                }
                            });
                            self.table(rows, used, centre, packed)
                        })
                        .collect()
                })
                .collect()
        });
        HeadKeys { features, tables, keys }
    }

    fn table<'a>(
        &self,
        rows: CowArray<'a, T, Ix2>,
        used: Use,
        reference: Option<Vec<T>>,
        packed: bool,
    ) -> Table<'a, T> {
        let centred = reference.map(|reference| {
            let mut apart: Array2<T> = rows.to_owned();
            for mut row in apart.outer_iter_mut() {
                row.iter_mut().zip(&reference).for_each(|(x, &r)| *x -= r);
            }
            let squares = used.squares.then(|| apart.mapv(|x| x * x));
            Centred {
                reference,
                apart: Rows::new(apart.into(), packed, self.care),
                squares: squares.map(|rows| Rows::new(rows.into(), packed, self.care)),
            }
        });
        let plain = used.plain.then(|| Rows::new(rows, packed, self.care));
        Table { plain, centred }
    }
}
