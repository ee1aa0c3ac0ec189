use marginals_kernels::*;
use proptest::prelude::*;

use crate::{Special, assert_close, columns, naive, on_every_set, rows, scores, special, widened};

struct State<T> {
    max: Vec<T>,
    sum: Vec<T>,
    rescale: Vec<T>,
    score: Vec<T>,
}

impl<T: Real> State<T> {
    fn new(n: usize) -> Self {
        Self {
            max: vec![T::neg_infinity(); n],
            sum: vec![T::zero(); n],
            rescale: vec![T::nan(); n],
            score: vec![T::zero(); n],
        }
    }

    fn rows(&mut self, want_score: bool) -> OnlineRows<'_, T> {
        let Self { max, sum, rescale, score } = self;
        OnlineRows { max, sum, rescale, score: want_score.then_some(score), raised: None }
    }
}

/// Three tiles one after the other, the second with the largest scores, so that maxima rise,
/// stay, and start late.
fn check_rows<T: Real>(
    set: InstructionSet,
    rows: usize,
    columns: usize,
    spare: usize,
    seed: u64,
    special: Special,
) {
    let stride = columns + spare;
    let epsilon = T::epsilon().f64();
    let (mut with, mut without) = (State::<T>::new(rows), State::<T>::new(rows));
    let mut naive =
        vec![naive::Online { max: f64::NEG_INFINITY, sum: 0.0, rescale: 1.0, score: 0.0 }; rows];
    for (step, range) in [3.0, 40.0, 15.0].into_iter().enumerate() {
        let data: Vec<T> = scores(rows, stride, seed.wrapping_add(step as u64), range, special);
        let (mut tile, mut other) = (data.clone(), data.clone());
        let mut raised = vec![usize::MAX; rows];
        let state = OnlineRows { raised: Some(&mut raised), ..with.rows(true) };
        online_rows(set, TileMut::new(&mut tile, rows, columns, stride), state);
        online_rows(set, TileMut::new(&mut other, rows, columns, stride), without.rows(false));
        let mut expected = widened(&data);
        for i in 0..rows {
            let before = naive[i].max;
            let scores = expected[i * stride..][..columns].to_vec();
            naive::online_row(&mut expected[i * stride..][..columns], &mut naive[i]);
            let naive = naive[i];
            let place = scores.iter().position(|&x| x == naive.max && x > before);
            assert_eq!(raised[i], place.unwrap_or(usize::MAX), "{set:?}: place of the maximum");
            for j in 0..stride {
                let (at, got) = (i * stride + j, tile[i * stride + j]);
                let same = got == other[at] || got.is_nan() && other[at].is_nan();
                assert!(same, "{set:?}: the exponential depends on whether scores are summed");
                if j >= columns {
                    assert!(got == data[at] || got.is_nan(), "{set:?} wrote behind the row");
                    continue;
                }
                // Rounding of θ − max, at most half an ulp of 80, is the exponential's relative error.
                let bound = expected[at] * 44.0 * epsilon + 2.0 * T::min_positive_value().f64();
                assert_close(set, "exponential", got, expected[at], bound);
            }
            assert_close(set, "maximum", with.max[i], naive.max, 0.0);
            assert_close(
                set,
                "rescale",
                with.rescale[i],
                naive.rescale,
                naive.rescale * 64.0 * epsilon,
            );
            let terms = 44.0 + columns as f64;
            assert_close(set, "sum", with.sum[i], naive.sum, naive.sum * terms * epsilon);
            assert_close(set, "sum", without.sum[i], naive.sum, naive.sum * terms * epsilon);
            // Each |e (θ − max)| is below 1/e, whatever the score.
            let bound = (naive.score.abs() + 3.0 * columns as f64) * 4.0 * terms * epsilon;
            assert_close(set, "score", with.score[i], naive.score, bound);
        }
    }
}

fn check_columns<T: Real>(
    set: InstructionSet,
    rows: usize,
    columns: usize,
    spare: usize,
    seed: u64,
    special: Special,
) {
    let stride = columns + spare;
    let epsilon = T::epsilon().f64();
    let mut state = State::<T>::new(columns);
    let mut naive =
        vec![naive::Online { max: f64::NEG_INFINITY, sum: 0.0, rescale: 1.0, score: 0.0 }; columns];
    for (step, range) in [3.0, 40.0, 15.0].into_iter().enumerate() {
        let data: Vec<T> = scores(rows, stride, seed.wrapping_add(step as u64), range, special);
        let OnlineRows { max, sum, .. } = state.rows(false);
        online_columns(set, Tile::new(&data, rows, columns, stride), OnlineColumns { max, sum });
        let data = widened(&data);
        for j in 0..columns {
            let mut column: Vec<f64> = (0..rows).map(|i| data[i * stride + j]).collect();
            naive::online_row(&mut column, &mut naive[j]);
            assert_close(set, "maximum", state.max[j], naive[j].max, 0.0);
            let bound = naive[j].sum * (64.0 + rows as f64) * epsilon;
            assert_close(set, "sum", state.sum[j], naive[j].sum, bound);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 300 }))]
    #[test]
    fn by_rows(rows in rows(), columns in columns(), spare in 0usize..20, seed: u64, special in special()) {
        on_every_set!(check_rows(rows, columns, spare, seed, special));
    }

    #[test]
    fn by_columns(rows in rows(), columns in columns(), spare in 0usize..20, seed: u64, special in special()) {
        on_every_set!(check_columns(rows, columns, spare, seed, special));
    }
}

fn check_impossible<T: Real>(set: InstructionSet) {
    let mut tile = vec![T::neg_infinity(); 3 * 33];
    let mut state = State::<T>::new(3);
    online_rows(set, TileMut::new(&mut tile, 3, 33, 33), state.rows(true));
    assert!(tile.iter().all(|&x| x == T::zero()));
    assert!(state.max.iter().all(|&x| x == T::neg_infinity()));
    assert!(state.sum.iter().chain(&state.score).all(|&x| x == T::zero()));
    assert!(state.rescale.iter().all(|&x| x == T::one()));
}

#[test]
fn impossible_rows_count_for_nothing() {
    on_every_set!(check_impossible());
}
