use std::ops::Range;

use marginals_kernels::*;
use proptest::prelude::*;

use crate::{assert_close, columns, naive, numbers, on_every_set, rows};

#[derive(Clone, Debug)]
struct Case {
    rows: usize,
    depth: Range<usize>,
    packed_depth: usize,
    columns: usize,
    first_panel: usize,
    transposed: bool,
    spare: usize,
    add: bool,
    seed: u64,
}

prop_compose! {
    fn case()(
        rows in rows(), depth in columns(), before in 0usize..4, after in 0usize..4,
        columns in columns(), first_panel in 0usize..2, transposed: bool, spare in 0usize..20,
        add: bool, seed: u64,
    ) -> Case {
        Case {
            rows, depth: before..before + depth, packed_depth: before + depth + after, columns,
            first_panel, transposed, spare, add, seed,
        }
    }
}

fn check<T: Real>(set: InstructionSet, case: &Case) {
    let Case { rows, ref depth, packed_depth, columns, first_panel, transposed, spare, add, seed } =
        *case;
    let first = first_panel * Panels::<T>::width(set);
    let all = first + columns;
    let b: Vec<T> = numbers(packed_depth * all, seed, 1.0);
    let packed = Panels::pack(set, &b, packed_depth, all, all, 1);
    let (row_stride, depth_stride) =
        if transposed { (1, rows + spare) } else { (depth.len() + spare, 1) };
    let a: Vec<T> = numbers((rows + spare) * (depth.len() + spare), seed + 1, 1.0);
    let left = Strided { data: &a, row_stride, depth_stride };
    let stride = columns + spare;
    let old: Vec<T> = numbers(rows * stride, seed + 2, 1.0);
    let store = if add { Store::Add } else { Store::Overwrite };
    let mut c = old.clone();
    let tile = TileMut::new(&mut c, rows, columns, stride);
    gemm(set, store, left, &packed, depth.clone(), first..all, tile);
    for i in 0..rows {
        for j in 0..stride {
            let (at, got) = (i * stride + j, c[i * stride + j]);
            if j >= columns {
                assert_eq!(got, old[at], "{set:?} wrote behind the row");
                continue;
            }
            let left = |i: usize, d: usize| a[i * row_stride + d * depth_stride].f64();
            let right = |d: usize, j: usize| b[(depth.start + d) * all + first + j].f64();
            let expected = naive::gemm(add, left, right, depth.len(), old[at].f64(), (i, j));
            // Higham, Accuracy and Stability of Numerical Algorithms, (3.5); all |entries| ≤ 1.
            let terms = (depth.len() + 1) as f64;
            let bound = terms * terms * T::epsilon().f64();
            assert_close(set, "product", got, expected, bound);
        }
    }
    // Rows and depth cut in two give the same bits.
    let mut cut = old.clone();
    let (top, middle) = (rows / 3, depth.start + depth.len() / 3);
    for (first_row, last_row) in [(0, top), (top, rows)] {
        for (k, piece) in [depth.start..middle, middle..depth.end].into_iter().enumerate() {
            let skipped = first_row * row_stride + (piece.start - depth.start) * depth_stride;
            let left = Strided { data: &a[skipped.min(a.len())..], row_stride, depth_stride };
            let data = &mut cut[first_row * stride..last_row * stride];
            let tile = TileMut::new(data, last_row - first_row, columns, stride);
            let store = if k == 0 { store } else { Store::Add };
            gemm(set, store, left, &packed, piece, first..all, tile);
        }
    }
    assert_eq!(c, cut, "{set:?} depends on how the product is cut");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 300 }))]
    #[test]
    fn product(case in case()) {
        on_every_set!(check(&case));
    }
}

fn check_nan<T: Real>(set: InstructionSet) {
    let mut a: Vec<T> = numbers(25 * 8, 1, 1.0);
    a[7 * 8 + 3] = T::nan();
    let b: Vec<T> = numbers(8 * 70, 2, 1.0);
    let packed = Panels::pack(set, &b, 8, 70, 70, 1);
    let mut c = vec![T::zero(); 25 * 70];
    let left = Strided { data: &a, row_stride: 8, depth_stride: 1 };
    gemm(set, Store::Overwrite, left, &packed, 0..8, 0..70, TileMut::new(&mut c, 25, 70, 70));
    for (at, x) in c.iter().enumerate() {
        assert_eq!(x.is_nan(), at / 70 == 7, "{set:?}: NaN in row 7 only, entry {at}");
    }
}

fn check_empty<T: Real>(set: InstructionSet) {
    for packed_depth in [0, 3] {
        let b = vec![T::one(); packed_depth * 70];
        let packed = Panels::pack(set, &b, packed_depth, 70, 70, 1);
        let left = Strided { data: &[], row_stride: 0, depth_stride: 1 };
        for (store, expected) in [(Store::Add, T::one()), (Store::Overwrite, T::zero())] {
            let mut c = vec![T::one(); 13 * 70];
            let tile = TileMut::new(&mut c, 13, 70, 70);
            gemm(set, store, left, &packed, packed_depth..packed_depth, 0..70, tile);
            assert!(c.iter().all(|&x| x == expected), "{set:?}");
        }
    }
}

#[test]
fn empty_sums_are_zero() {
    on_every_set!(check_empty());
}

#[test]
fn nan_stays_in_its_row() {
    on_every_set!(check_nan());
}

#[test]
#[should_panic(expected = "does not fit")]
fn short_left_operand_is_refused() {
    let packed = Panels::pack(InstructionSet::Plain, &[0f32; 16], 4, 4, 4, 1);
    let left = Strided { data: &[0f32; 15], row_stride: 4, depth_stride: 1 };
    let mut c = [0f32; 16];
    let tile = TileMut::new(&mut c, 4, 4, 4);
    gemm(InstructionSet::Plain, Store::Overwrite, left, &packed, 0..4, 0..4, tile);
}

#[test]
#[should_panic(expected = "does not fit")]
fn forged_tile_is_refused() {
    let packed = Panels::pack(InstructionSet::Plain, &[0f32; 16], 4, 4, 4, 1);
    let left = Strided { data: &[0f32; 64], row_stride: 4, depth_stride: 1 };
    let mut c = [0f32; 16];
    let tile = TileMut { data: &mut c, rows: 9, columns: 4, stride: 4 };
    gemm(InstructionSet::Plain, Store::Overwrite, left, &packed, 0..4, 0..4, tile);
}

#[test]
#[should_panic(expected = "does not fit")]
fn strides_that_overflow_are_refused() {
    let packed = Panels::pack(InstructionSet::Plain, &[0f32; 16], 4, 4, 4, 1);
    let left = Strided { data: &[0f32; 64], row_stride: usize::MAX / 2 + 1, depth_stride: 1 };
    let mut c = [0f32; 16];
    let tile = TileMut::new(&mut c, 3, 4, 4);
    gemm(InstructionSet::Plain, Store::Overwrite, left, &packed, 0..4, 0..4, tile);
}
