//! Tables of values as the backward pass reads them: packed, about references, garbage apart.

use std::ops::Range;

use marginals_kernels::{Aligned, InstructionSet, Panels, TileMut};
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut4, CowArray, Ix2};

use super::super::heads::Care;
use super::coefficients::TableSlopes;
use crate::infer::finding::weighted;
use crate::{Block, Real};

/// Values of a run of keys: themselves, and packed across for f.
pub(super) struct Table<'a, T: Real> {
    /// Absent where they are the keys, whose own panels serve.
    pub(super) across: Option<Panels<T>>,
    /// Rows that hold garbage, counted from the first; in panels it is 0. Empty where no care is taken.
    pub(super) spoiled: Vec<(usize, Vec<T>)>,
    pub(super) centred: Option<Centred<T>>,
    /// Σ p · (coefficient of v), row after row. Absent where the values are the keys: it is added to
    /// theirs.
    pub(super) gradient: Option<&'a mut [T]>,
    /// Σ p · (coefficient of (v − r)²), row after row.
    pub(super) d_square: Aligned<T>,
}

/// Values about a reference, and their squares.
pub(super) struct Centred<T: Real> {
    /// v − r; v where edges vary one by one.
    pub(super) rows: Array2<T>,
    pub(super) apart: Panels<T>,
    /// Absent where no variance is found.
    pub(super) squares: Option<Panels<T>>,
}

/// Slopes of one table by one head's queries, plain and packed along the queries.
pub(super) struct Along<'c, T> {
    pub(super) plain: Option<(&'c [T], Panels<T>)>,
    pub(super) apart: Option<(&'c [T], Panels<T>)>,
    pub(super) squares: Option<(&'c [T], Panels<T>)>,
    pub(super) products: Vec<(&'c [T], Panels<T>)>,
}

impl<'a, T: Real> Table<'a, T> {
    /// One set of values over a run of keys, where their gradient goes, and the reference that they are
    /// about. `are_keys` says that the values are the keys, which are packed already.
    pub(super) fn new(
        rows: ArrayView2<'_, T>,
        (slopes, reference): (&TableSlopes<'_, T>, Option<&[T]>),
        (are_keys, care): (bool, Care),
        gradient: Option<ArrayViewMut4<'a, T>>,
    ) -> Self {
        let instructions = InstructionSet::detect();
        let across = |rows: ArrayView2<'_, T>| {
            let (count, width) = rows.dim();
            let data = rows.to_slice().expect("contiguous rows");
            Panels::pack(instructions, data, width, 1, count, width)
        };
        let garbage = |(_, row): &(usize, ArrayView1<'_, T>)| row.iter().any(|x| !x.is_finite());
        let spoiled: Vec<(usize, Vec<T>)> = match care {
            Care::Fast => Vec::new(),
            Care::Careful | Care::Scaled => {
                let rows = rows.outer_iter().enumerate().filter(garbage);
                rows.map(|(key, row)| (key, row.to_vec())).collect()
            }
        };
        let plain = (!slopes.plain.is_empty() && (!are_keys || !spoiled.is_empty()))
            .then(|| across(without_garbage(care, rows.view().into()).view()));
        let squared = !slopes.squares.is_empty();
        let centred = slopes.is_centred().then(|| {
            let mut apart = rows.to_owned();
            if let Some(reference) = reference {
                for mut row in apart.outer_iter_mut() {
                    row.iter_mut().zip(reference).for_each(|(x, &r)| *x -= r);
                }
            }
            let clean = without_garbage(care, apart.view().into());
            let squares = squared.then(|| across(clean.mapv(|x| x * x).view()));
            let panels = across(clean.view());
            drop(clean);
            Centred { rows: apart, apart: panels, squares }
        });
        let contiguous = "a gradient of contiguous rows";
        Self {
            across: plain,
            spoiled,
            centred,
            gradient: gradient.map(|into| into.into_slice().expect(contiguous)),
            d_square: Aligned::zeros(if squared { rows.len() } else { 0 }),
        }
    }

    /// Ends the gradient of the values: (v − r)² has slope 2 (v − r). Where the values are the keys it is
    /// added to theirs.
    pub(super) fn finish(&mut self, dk: &mut [T]) {
        let Self { centred: Some(centred), gradient, d_square, .. } = self else { return };
        let into = match gradient {
            Some(gradient) => &mut **gradient,
            None => dk,
        };
        let pairs = into.iter_mut().zip(&**d_square).zip(&centred.rows);
        pairs.for_each(|((g, &s), &x)| {
            // Where nobody had mass the value may be anything.
            if s != T::zero() {
                *g += (s + s) * x;
            }
        });
    }

    /// Adds to Σ_c g_c f(v_c) what garbage is in it: nothing where its slope is 0. Where one edge is picked
    /// the mean that it is in is garbage too, and with it all that the query gives.
    pub(super) fn add_spoiled(
        &self,
        block: &Block,
        (slopes, run): (&[T], &Range<usize>),
        f: impl Fn(T) -> T,
        mut into: TileMut<'_, T>,
    ) {
        for (key, values) in self.spoiled.iter().filter(|(key, _)| run.contains(key)) {
            for (r, i) in block.queries.clone().enumerate() {
                let own = &slopes[i * values.len()..][..values.len()];
                let garbage = own.iter().zip(values).filter(|(_, x)| !x.is_finite());
                let sum: T = garbage.map(|(&g, &x)| weighted(g, f(x))).sum();
                into.row_mut(r)[key - run.start] += sum;
            }
        }
    }
}

/// Nodes as gradients are made of them: with care, 0 where they hold garbage. A gradient of 0 leaves
/// nothing of it, and garbage that takes part is in the gradient already.
pub(super) fn without_garbage<T: Real>(
    care: Care,
    nodes: CowArray<'_, T, Ix2>,
) -> CowArray<'_, T, Ix2> {
    match care {
        Care::Fast => nodes,
        Care::Careful | Care::Scaled => {
            nodes.mapv(|x| if x.is_finite() { x } else { T::zero() }).into()
        }
    }
}

/// Which set of a table's values a query head averages; `None` where the table is not used.
pub(super) fn set_of<T: Real>(
    tables: &[Vec<Table<'_, T>>],
    table: usize,
    (head, group): (usize, usize),
) -> Option<usize> {
    let sets = tables[table].len();
    (sets > 0).then(|| head % group * sets / group)
}

/// The slopes of one table by one head's queries.
pub(super) fn along<'c, T: Real>(
    table: &'c TableSlopes<'_, T>,
    first: usize,
    queries: usize,
) -> Along<'c, T> {
    let set = InstructionSet::detect();
    let own = |list: &'c [T]| {
        if list.is_empty() {
            return None;
        }
        let width = table.width;
        let own = &list[first * width..(first + queries) * width];
        Some((own, Panels::pack(set, own, queries, width, width, 1)))
    };
    Along {
        plain: own(&table.plain),
        apart: own(&table.apart),
        squares: own(&table.squares),
        products: table.products.iter().filter_map(|product| own(&product.slopes)).collect(),
    }
}
