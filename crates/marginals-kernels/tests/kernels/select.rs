use marginals_kernels::*;
use proptest::prelude::*;

use crate::{Special, on_every_set, scores, special};

fn contenders<T: Real>(set: InstructionSet, scores: &[T], count: usize, bound: T) -> Vec<usize> {
    let mut found = Vec::new();
    each_contender(set, scores, count, bound, |index, score| {
        assert!(score == scores[index] && score >= bound, "{set:?}: {score:?} of {index}");
        found.push(index);
    });
    found.reverse();
    assert!(found.is_sorted_by(|a, b| a < b), "{set:?}: out of order");
    found
}

/// Scores of few values, so that many are equal, and a bound that is one of them.
fn check<T: Real>(
    set: InstructionSet,
    len: usize,
    count: usize,
    bound: f64,
    seed: u64,
    special: Special,
) {
    let row: Vec<T> = scores(1, len, seed | 1, 9.0, special);
    let row: Vec<T> = row.into_iter().map(|x| x.round()).collect();
    let bound = T::of(bound.round());
    let found = contenders(set, &row, count, bound);
    for (index, score) in row.iter().enumerate() {
        let larger = row.iter().filter(|other| *other > score).count();
        if larger < count && *score >= bound {
            assert!(found.contains(&index), "{set:?}: {score:?} is missing");
        }
    }
}

proptest! {
    #[test]
    fn the_largest_are_among_those_handed_over(
        len in prop_oneof![0usize..=70, 126usize..=130, 500usize..=520],
        count in 0usize..=70,
        bound in -10.0..10.0f64,
        seed: u64,
        special in special(),
    ) {
        on_every_set!(check(len, count, bound, seed, special));
    }
}

fn check_rising<T: Real>(set: InstructionSet, count: usize) {
    let row: Vec<T> = (0..512).map(|index| T::of(f64::from(index))).collect();
    let expected: Vec<usize> = (512 - count..512).collect();
    assert_eq!(contenders(set, &row, count, T::min_value()), expected, "{set:?}");
}

#[test]
fn of_rising_scores_no_others_are() {
    for count in [1, 2, 16, 64] {
        on_every_set!(check_rising(count));
    }
}
