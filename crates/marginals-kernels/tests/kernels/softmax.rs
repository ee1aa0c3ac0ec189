use marginals_kernels::*;
use proptest::prelude::*;

use crate::{
    Special, assert_close, columns, naive, numbers, on_every_set, rows, scores, special, widened,
};

fn check_sums<T: Real>(
    set: InstructionSet,
    rows: usize,
    columns: usize,
    spare: usize,
    seed: u64,
    special: Special,
) {
    let (stride, other) = (columns + spare, columns + spare / 2);
    let epsilon = T::epsilon().f64();
    let mut weight: Vec<T> = numbers(rows * stride, seed, 1.0);
    weight.iter_mut().step_by(3).for_each(|w| *w = T::zero());
    let mut value: Vec<T> = scores(rows, other, seed + 1, 1.0, special);
    for i in 0..rows {
        for j in 0..columns {
            // Infinities are only ever weighted by 0: elsewhere they would be the answer.
            if !value[i * other + j].is_finite() && weight[i * stride + j] != T::zero() {
                value[i * other + j] = T::one();
            }
        }
    }
    let mut by_row = vec![T::one(); rows];
    let mut by_column = vec![T::one(); columns];
    let weights = Tile::new(&weight, rows, columns, stride);
    let values = Tile::new(&value, rows, columns, other);
    dot_rows(set, weights, values, &mut by_row);
    dot_columns(set, weights, values, &mut by_column);
    let term = |i: usize, j: usize| {
        naive::weighted(weight[i * stride + j].f64(), value[i * other + j].f64())
    };
    for i in 0..rows {
        let expected = 1.0 + (0..columns).map(|j| term(i, j)).sum::<f64>();
        let terms = columns as f64 + 2.0;
        assert_close(set, "row sum", by_row[i], expected, terms * terms * epsilon);
    }
    for j in 0..columns {
        let expected = 1.0 + (0..rows).map(|i| term(i, j)).sum::<f64>();
        let terms = rows as f64 + 2.0;
        assert_close(set, "column sum", by_column[j], expected, terms * terms * epsilon);
    }
    let mut factor: Vec<T> = numbers(rows, seed + 2, 1.0);
    factor.iter_mut().step_by(2).for_each(|x| *x = T::one());
    let mut scaled = value.clone();
    scale_rows(set, TileMut::new(&mut scaled, rows, columns, other), &factor);
    for i in 0..rows {
        for j in 0..other {
            let x = value[i * other + j];
            let expected = if j < columns && factor[i] != T::one() { x * factor[i] } else { x };
            assert_close(set, "scaled", scaled[i * other + j], expected.f64(), 0.0);
        }
    }
}

fn check_backward<T: Real>(
    set: InstructionSet,
    rows: usize,
    columns: usize,
    spare: usize,
    seed: u64,
    special: Special,
) {
    let (stride, other) = (columns + spare, columns + spare / 2);
    let epsilon = T::epsilon().f64();
    let data: Vec<T> = scores(rows, stride, seed, 20.0, special);
    let quantity: Vec<T> = numbers(rows * other, seed + 1, 3.0);
    // Above every finite score, as a log-partition is.
    let log_sum: Vec<T> = numbers(rows, seed + 5, 1.0);
    let mut max: Vec<T> = numbers(rows, seed + 2, 2.0);
    for (i, x) in max.iter_mut().enumerate() {
        let row = &data[i * stride..][..columns];
        *x = if row.iter().all(|&x| x == T::neg_infinity()) {
            T::neg_infinity()
        } else if row.contains(&T::infinity()) {
            T::max_value()
        } else {
            *x + T::of(22.0)
        };
    }
    let centre: Vec<T> = numbers(rows, seed + 3, 1.0);
    let weight: Vec<T> = numbers(rows, seed + 4, 1.0);
    for score_weight in [None, Some(&weight[..])] {
        let (mut score, mut posterior) = (data.clone(), quantity.clone());
        softmax_backward(
            set,
            TileMut::new(&mut score, rows, columns, stride),
            TileMut::new(&mut posterior, rows, columns, other),
            LogPartition { max: &max, log_sum: &log_sum },
            score_weight,
            &centre,
        );
        let truth = widened(&data);
        for i in 0..rows {
            for j in 0..columns {
                let (p, gradient) = naive::backward(
                    truth[i * stride + j],
                    quantity[i * other + j].f64(),
                    (max[i].f64(), log_sum[i].f64()),
                    score_weight.map(|w| w[i].f64()),
                    centre[i].f64(),
                );
                let tiny = 50.0 * T::min_positive_value().f64();
                let bound = p * 44.0 * epsilon + tiny;
                assert_close(set, "posterior", posterior[i * other + j], p, bound);
                let bound = p * 60.0 * 60.0 * epsilon + tiny;
                assert_close(set, "gradient", score[i * stride + j], gradient, bound);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 300 }))]
    #[test]
    fn weighted_sums(rows in rows(), columns in columns(), spare in 0usize..20, seed in 0..u64::MAX / 2, special in special()) {
        on_every_set!(check_sums(rows, columns, spare, seed, special));
    }

    #[test]
    fn backward(rows in rows(), columns in columns(), spare in 0usize..20, seed in 0..u64::MAX / 2, special in special()) {
        on_every_set!(check_backward(rows, columns, spare, seed, special));
    }
}
