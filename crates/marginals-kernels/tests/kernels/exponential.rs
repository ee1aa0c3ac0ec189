use marginals_kernels::*;
use proptest::prelude::*;

use crate::{
    Special, assert_close, columns, naive, numbers, on_every_set, rows, scores, special, widened,
};

fn check<T: Real>(
    set: InstructionSet,
    rows: usize,
    columns: usize,
    spare: usize,
    seed: u64,
    special: Special,
) {
    let stride = columns + spare;
    let epsilon = T::epsilon().f64();
    let data: Vec<T> = scores(rows, stride, seed, 30.0, special);
    let truth = widened(&data);
    let mut by_row: Vec<T> = numbers(rows, seed + 1, 40.0);
    let mut by_column: Vec<T> = numbers(columns, seed + 2, 40.0);
    for max in [&mut by_row, &mut by_column] {
        if special != Special::None && max.len() > 1 {
            max[0] = T::neg_infinity();
        }
    }
    let (mut rowwise, mut columnwise, mut logistic) = (data.clone(), data.clone(), data.clone());
    let row_sums: Vec<T> = numbers(rows, seed + 3, 5.0);
    let column_sums: Vec<T> = numbers(columns, seed + 4, 5.0);
    let log_partition = LogPartition { max: &by_row, log_sum: &row_sums };
    exp_rows(set, TileMut::new(&mut rowwise, rows, columns, stride), log_partition);
    let log_partition = LogPartition { max: &by_column, log_sum: &column_sums };
    exp_columns(set, TileMut::new(&mut columnwise, rows, columns, stride), log_partition);
    let mut total = vec![T::one(); rows];
    logistic_rows(set, TileMut::new(&mut logistic, rows, columns, stride), &mut total);
    for i in 0..rows {
        let mut sum = 1.0;
        for j in 0..columns {
            let at = i * stride + j;
            let edges = [
                (rowwise[at], by_row[i], row_sums[i]),
                (columnwise[at], by_column[j], column_sums[j]),
            ];
            for (got, max, log_sum) in edges {
                let expected = naive::probability(truth[at], max.f64(), log_sum.f64());
                if expected > T::max_value().f64() {
                    assert_eq!(got, T::infinity(), "{set:?}");
                    continue;
                }
                // Two differences, each rounded by at most half an ulp of 80, and the exponential.
                let bound = expected * 84.0 * epsilon + 2.0 * T::min_positive_value().f64();
                assert_close(set, "probability", got, expected, bound);
            }
            let (p, softplus) = naive::logistic(truth[at]);
            let bound = p * 4.0 * epsilon + 2.0 * T::min_positive_value().f64();
            assert_close(set, "logistic", logistic[at], p, bound);
            sum += softplus;
        }
        if sum < T::max_value().f64() / 2.0 || sum.is_nan() {
            let bound = sum * (4.0 + columns as f64) * epsilon;
            assert_close(set, "log-partition", total[i], sum, bound);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 300 }))]
    #[test]
    fn against_known_normalisers(rows in rows(), columns in columns(), spare in 0usize..20, seed in 0..u64::MAX / 2, special in special()) {
        on_every_set!(check(rows, columns, spare, seed, special));
    }
}

/// Scores so large that max + log Σ rounds log Σ away.
#[test]
fn large_scores_keep_their_digits() {
    for set in InstructionSet::available() {
        for size in [1.0e2f32, 1.0e4, 1.0e8, -1.0e8, 1.0e30] {
            let log_sum = [3f32.ln(); 3];
            let (mut by_row, mut by_column) = ([size; 9], [size; 9]);
            let log_partition = LogPartition { max: &[size; 3], log_sum: &log_sum };
            exp_rows(set, TileMut::new(&mut by_row, 3, 3, 3), log_partition);
            exp_columns(set, TileMut::new(&mut by_column, 3, 3, 3), log_partition);
            let (mut score, mut posterior) = ([size; 9], [0.0; 9]);
            softmax_backward(
                set,
                TileMut::new(&mut score, 3, 3, 3),
                TileMut::new(&mut posterior, 3, 3, 3),
                log_partition,
                None,
                &[0.0; 3],
            );
            for p in by_row.iter().chain(&by_column).chain(&posterior) {
                assert!((p - 1.0 / 3.0).abs() < 1e-7, "{set:?}, scores of {size}: {p}");
            }
        }
    }
}
