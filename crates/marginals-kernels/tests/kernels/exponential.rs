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
    for log_partition in [&mut by_row, &mut by_column] {
        if special != Special::None && log_partition.len() > 1 {
            log_partition[0] = T::neg_infinity();
        }
    }
    let (mut rowwise, mut columnwise, mut logistic) = (data.clone(), data.clone(), data.clone());
    exp_rows(set, TileMut::new(&mut rowwise, rows, columns, stride), &by_row);
    exp_columns(set, TileMut::new(&mut columnwise, rows, columns, stride), &by_column);
    let mut total = vec![T::one(); rows];
    logistic_rows(set, TileMut::new(&mut logistic, rows, columns, stride), &mut total);
    for i in 0..rows {
        let mut sum = 1.0;
        for j in 0..columns {
            let at = i * stride + j;
            for (got, log_partition) in [(rowwise[at], by_row[i]), (columnwise[at], by_column[j])] {
                let expected = naive::probability(truth[at], log_partition.f64());
                if expected > T::max_value().f64() {
                    assert_eq!(got, T::infinity(), "{set:?}");
                    continue;
                }
                let bound = expected * 44.0 * epsilon + 2.0 * T::min_positive_value().f64();
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
