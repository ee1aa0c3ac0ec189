use marginals_kernels::*;
use proptest::prelude::*;

use crate::{Special, columns, on_every_set, rows, scores, special};

fn check_add<T: Real>(
    set: InstructionSet,
    rows: usize,
    columns: usize,
    spare: usize,
    seed: u64,
    special: (Special, Special),
) {
    let (stride, other) = (columns + spare, columns + spare / 2);
    let before: Vec<T> = scores(rows, stride, seed, 20.0, special.0);
    let weights: Vec<T> = scores(rows, other, seed + 1, 20.0, special.1);
    let mut sums = before.clone();
    let tile = TileMut::new(&mut sums, rows, columns, stride);
    // A row may offer more weights than there are columns.
    add_log_weights(set, tile, |i| &weights[i * other..]);
    for i in 0..rows {
        for j in 0..stride {
            let (x, found) = (before[i * stride + j], sums[i * stride + j]);
            let expected = if j >= columns {
                x
            } else if weights[i * other + j] == T::neg_infinity() {
                T::neg_infinity()
            } else {
                x + weights[i * other + j]
            };
            let same = found == expected || (found.is_nan() && expected.is_nan());
            assert!(same, "{set:?} [{i}, {j}]: {found} for {expected}");
            if j < columns {
                let one = add_log_weight(x, weights[i * other + j]);
                assert!(one == expected || (one.is_nan() && expected.is_nan()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 300 }))]
    #[test]
    fn impossible_weights_overwrite(rows in rows(), columns in columns(), spare in 0usize..20, seed in 0..u64::MAX / 2, of_scores in special(), of_weights in special()) {
        on_every_set!(check_add(rows, columns, spare, seed, (of_scores, of_weights)));
    }
}
