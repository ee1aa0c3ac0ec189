use marginals_kernels::*;
use proptest::prelude::*;

use crate::{assert_close, columns, naive, numbers, on_every_set};

#[derive(Clone, Debug)]
struct Case {
    rows: usize,
    depth: usize,
    first: usize,
    keys: usize,
    spare: usize,
    seed: u64,
}

prop_compose! {
    fn case()(
        rows in 0usize..4, depth in columns(), first in 0usize..5, keys in 0usize..70,
        spare in 0usize..9, seed in 0..u64::MAX / 2,
    ) -> Case {
        Case { rows, depth, first, keys, spare, seed }
    }
}

fn check_scores<T: Real>(set: InstructionSet, case: &Case) {
    let Case { rows, depth, first, keys, spare, seed } = *case;
    let (stride, out_stride) = (depth + spare, keys + spare);
    let query: Vec<T> = numbers(rows * stride, seed, 1.0);
    let cache: Vec<T> = numbers((first + keys) * stride, seed + 1, 1.0);
    let queries = Tile::new(&query, rows, depth, stride);
    let mut out = vec![T::nan(); rows * out_stride];
    let tile = TileMut::new(&mut out, rows, keys, out_stride);
    scores_unpacked(set, queries, &cache, stride, first..first + keys, tile);
    for i in 0..rows {
        for j in 0..out_stride {
            let got = out[i * out_stride + j];
            if j >= keys {
                assert!(got.is_nan(), "{set:?} wrote behind the row");
                continue;
            }
            let left = |i: usize, d: usize| query[i * stride + d].f64();
            let right = |d: usize, j: usize| cache[(first + j) * stride + d].f64();
            let expected = naive::gemm(false, left, right, depth, 0.0, (i, j));
            let bound = (depth * depth) as f64 * T::epsilon().f64();
            assert_close(set, "score", got, expected, bound);
            let mut alone = [T::nan()];
            let query = Tile::new(&query[i * stride..], 1, depth, stride);
            let tile = TileMut::new(&mut alone, 1, 1, 1);
            scores_unpacked(set, query, &cache, stride, first + j..first + j + 1, tile);
            assert_eq!(alone[0], got, "{set:?} depends on how the keys are cut");
        }
    }
}

fn check_accumulate<T: Real>(set: InstructionSet, case: &Case) {
    let Case { rows, depth, first, keys, spare, seed } = *case;
    let (stride, weight_stride) = (depth + spare, keys + spare);
    let weight: Vec<T> = numbers(rows * weight_stride, seed, 1.0);
    let cache: Vec<T> = numbers((first + keys) * stride, seed + 1, 1.0);
    let old: Vec<T> = numbers(rows * stride, seed + 2, 1.0);
    let mut out = old.clone();
    let weights = Tile::new(&weight, rows, keys, weight_stride);
    let tile = TileMut::new(&mut out, rows, depth, stride);
    accumulate_unpacked(set, weights, &cache, stride, first..first + keys, tile);
    for i in 0..rows {
        for c in 0..stride {
            let (at, got) = (i * stride + c, out[i * stride + c]);
            if c >= depth {
                assert_eq!(got, old[at], "{set:?} wrote behind the row");
                continue;
            }
            let left = |i: usize, n: usize| weight[i * weight_stride + n].f64();
            let right = |n: usize, c: usize| cache[(first + n) * stride + c].f64();
            let expected = naive::gemm(true, left, right, keys, old[at].f64(), (i, c));
            let terms = (keys + 1) as f64;
            assert_close(set, "mean", got, expected, terms * terms * T::epsilon().f64());
        }
    }
    let mut cut = old.clone();
    for (start, end) in [(0, keys / 3), (keys / 3, keys)] {
        let weights =
            Tile::new(&weight[start.min(weight.len())..], rows, end - start, weight_stride);
        let tile = TileMut::new(&mut cut, rows, depth, stride);
        accumulate_unpacked(set, weights, &cache, stride, first + start..first + end, tile);
    }
    assert_eq!(cut, out, "{set:?} depends on how the keys are cut");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 200 }))]
    #[test]
    fn scores(case in case()) {
        on_every_set!(check_scores(&case));
    }

    #[test]
    fn accumulation(case in case()) {
        on_every_set!(check_accumulate(&case));
    }
}
