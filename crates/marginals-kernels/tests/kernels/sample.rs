use marginals_kernels::*;
use proptest::prelude::*;

use crate::{Special, numbers, on_every_set, scores, special};

/// The definition: the largest of score + noise, one key after the other.
fn naive<T: Real>(scores: &[T], first_key: usize, draw: Draw) -> Option<Winner> {
    let mut best: Option<Winner> = None;
    for (j, &score) in scores.iter().enumerate() {
        if score == T::neg_infinity() || score.is_nan() {
            continue;
        }
        let value = score.min(T::max_value()).f64() + draw.noise(first_key + j);
        if best.is_none_or(|best| value > best.value) {
            best = Some(Winner { value, key: first_key + j });
        }
    }
    best
}

fn check<T: Real>(
    set: InstructionSet,
    len: usize,
    first_key: usize,
    range: f64,
    offset: f64,
    seed: u64,
    special: Special,
) {
    let mut row: Vec<T> = scores(2, len, seed, range, special)[..len].to_vec();
    row.iter_mut().for_each(|x| *x += T::of(offset));
    let draw = Draw { seed, batch: 1, head: 2, query: seed as u32 % 7, sample: 3 };
    let expected = naive(&row, first_key, draw);
    assert_eq!(gumbel_argmax(set, &row, first_key, draw, None), expected, "{set:?}");
    let (left, right) = row.split_at(len / 3);
    let middle = first_key + len / 3;
    let forward = gumbel_argmax(set, left, first_key, draw, None);
    let forward = gumbel_argmax(set, right, middle, draw, forward);
    assert_eq!(forward, expected, "{set:?} depends on how the row is cut");
    let backward = gumbel_argmax(set, right, middle, draw, None);
    let backward = gumbel_argmax(set, left, first_key, draw, backward);
    assert_eq!(backward, expected, "{set:?} depends on the order of tiles");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 1000 }))]
    #[test]
    fn winner_is_that_of_the_definition(
        len in 0usize..400, first_key in 0usize..100, range in prop_oneof![Just(0.1), Just(3.0), Just(300.0)],
        offset in prop_oneof![Just(0.0), Just(-40.0), Just(3e6)], seed: u64, special in special(),
    ) {
        on_every_set!(check(len, first_key, range, offset, seed, special));
    }
}

/// Pearson's statistic of 20,000 draws over 40 keys against the softmax: χ² with 39 degrees of
/// freedom stays below 82.1 but once in 20,000.
#[test]
fn frequencies_are_the_softmax() {
    let draws = if cfg!(miri) { 50 } else { 20_000 };
    let row: Vec<f32> = numbers(40, 5, 1.5);
    let weights: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut counts = [0u32; 40];
    for sample in 0..draws {
        let draw = Draw { seed: 11, batch: 0, head: 0, query: 0, sample };
        let winner = gumbel_argmax(InstructionSet::detect(), &row, 0, draw, None);
        counts[winner.expect("finite").key] += 1;
    }
    let statistic: f64 = counts
        .iter()
        .zip(&weights)
        .map(|(&count, weight)| {
            let expected = f64::from(draws) * weight / total;
            (f64::from(count) - expected).powi(2) / expected
        })
        .sum();
    assert!(statistic < 82.1, "χ² = {statistic}");
}

/// Mean γ = 0.5772 and variance π²/6, and no correlation between the draws that share most.
#[test]
fn noise_is_standard_gumbel_and_independent() {
    let n = if cfg!(miri) { 64 } else { 100_000 };
    let base = Draw { seed: 3, batch: 0, head: 0, query: 0, sample: 0 };
    let others = [
        Draw { seed: 4, ..base },
        Draw { batch: 1, ..base },
        Draw { head: 1, ..base },
        Draw { query: 1, ..base },
        Draw { sample: 1, ..base },
    ];
    let noise =
        |draw: Draw| -> Vec<f64> { (0..n).map(|key| draw.noise(key) - 0.577_215_664_9).collect() };
    let first = noise(base);
    let mean = |xs: &mut dyn Iterator<Item = f64>| xs.sum::<f64>() / n as f64;
    let variance = std::f64::consts::PI.powi(2) / 6.0;
    // Five standard errors; the fourth moment of a Gumbel is 14.6.
    let five = 5.0 / (n as f64).sqrt();
    assert!(mean(&mut first.iter().copied()).abs() < five * variance.sqrt());
    assert!((mean(&mut first.iter().map(|x| x * x)) - variance).abs() < five * 14.6f64.sqrt());
    let mut pairs: Vec<Vec<f64>> = others.into_iter().map(noise).collect();
    // Neighbouring keys too, whether or not they share a counter.
    for lag in [1, 15, 16, 32] {
        let mut lagged = first.clone();
        lagged.rotate_left(lag);
        pairs.push(lagged);
    }
    for other in pairs {
        let covariance = mean(&mut first.iter().zip(&other).map(|(a, b)| a * b));
        assert!(covariance.abs() < five * variance, "{covariance}");
    }
}
