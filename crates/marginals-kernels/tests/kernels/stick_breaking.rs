use marginals_kernels::*;
use proptest::prelude::*;

use crate::naive::Offers;
use crate::{
    Special, assert_close, columns, naive, numbers, on_every_set, rows, scores, special, widened,
};

/// Rounding in ε of a sum of log(1 + e^θ), to itself: that of each term, and that of up to 130 running
/// sums, here and in the twin.
const EACH: f64 = 12.0;

/// Rounding in ε of p, whose logarithm is a sum of rounded log(1 + e^θ) and no larger than they are.
fn relative(p: f64) -> f64 {
    if p == 0.0 { p } else { p * (EACH * (2.0 - p.ln()) + 8.0) }
}

/// Rounding in ε of Σ p f, |f| ≤ 3 + |log p|: Σ p |log p| is at most log 130, and Σ p log² p some 25.
const SUMS: f64 = 310.0;

/// Two tiles, that on the right first.
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
    let tiny = 4.0 * T::min_positive_value().f64();
    let zeros = || vec![T::zero(); rows];
    let (mut log_left, mut mass, mut entropy) = (zeros(), zeros(), zeros());
    let (mut alone, mut naive) = (zeros(), vec![Offers::default(); rows]);
    // Mostly passed over first, so that something is left.
    for (step, shift) in [-6.0, 0.0].into_iter().enumerate() {
        let mut data: Vec<T> = scores(rows, stride, seed + step as u64, 5.0, special);
        data.iter_mut().for_each(|x| *x += T::of(shift));
        let (mut tile, mut other) = (data.clone(), data.clone());
        let state = StickBreaking {
            log_left: &mut log_left,
            mass: Some(&mut mass),
            entropy: Some(&mut entropy),
        };
        stick_breaking_rows(set, TileMut::new(&mut tile, rows, columns, stride), state);
        let state = StickBreaking { log_left: &mut alone, mass: None, entropy: None };
        stick_breaking_rows(set, TileMut::new(&mut other, rows, columns, stride), state);
        let mut expected = widened(&data);
        for i in 0..rows {
            let row = &mut expected[i * stride..][..columns];
            naive::stick_breaking_row(row, &mut naive[i]);
            let naive = naive[i];
            for j in 0..stride {
                let at = i * stride + j;
                if j >= columns {
                    assert_close(set, "spare", tile[at], data[at].f64(), 0.0);
                    continue;
                }
                let bound = relative(expected[at]) * epsilon + tiny;
                let negligible = expected[at] < T::min_positive_value().f64().powf(0.79);
                // NaN may have come later.
                let behind = naive.log_left.is_nan() || naive.log_left < -0.69;
                let summed = match negligible && tile[at] == T::zero() && behind {
                    true => expected[at],
                    false => bound,
                };
                assert_close(set, "probability", tile[at], expected[at], summed);
                assert_close(set, "probability alone", other[at], expected[at], bound);
            }
            for log_left in [log_left[i], alone[i]] {
                // A certain offer leaves nothing, however its infinity is written.
                let nothing = -T::max_value().f64() / 2.0;
                if naive.log_left <= nothing {
                    assert!(log_left.f64() <= nothing, "{set:?}: {log_left} is left");
                    continue;
                }
                let bound = -naive.log_left * (EACH + 12.0) * epsilon + tiny;
                assert_close(set, "log of what is left", log_left, naive.log_left, bound);
            }
            let sums = (24.0 - EACH * naive.log_left.max(-60.0)) * epsilon;
            assert_close(set, "mass", mass[i], naive.mass, naive.mass * sums + tiny);
            assert_close(set, "entropy", entropy[i], naive.entropy, naive.entropy * sums + tiny);
        }
    }
}

/// Two tiles likewise, on the way back.
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
    let tiny = 1000.0 * T::min_positive_value().f64();
    let expected: Vec<T> = numbers(rows, seed + 10, 1.0);
    let of_left: Vec<T> = numbers(rows, seed + 11, 1.0);
    let weight: Vec<T> = numbers(rows, seed + 12, 1.0);
    for score_weight in [None, Some(&weight[..])] {
        let (mut log_left, mut seen) = (vec![T::zero(); rows], vec![T::zero(); rows]);
        let mut naive = vec![Offers::default(); rows];
        for step in 0..2 {
            let mut data: Vec<T> = scores(rows, stride, seed + step, 5.0, special);
            data.iter_mut().for_each(|x| *x -= T::of(if step == 0 { 6.0 } else { 0.0 }));
            let quantity: Vec<T> = numbers(rows * other, seed + 5 + step, 3.0);
            let (mut score, mut posterior) = (data.clone(), quantity.clone());
            stick_breaking_backward(
                set,
                TileMut::new(&mut score, rows, columns, stride),
                TileMut::new(&mut posterior, rows, columns, other),
                StickBreakingBackward {
                    log_left: &mut log_left,
                    seen: &mut seen,
                    expected: &expected,
                    of_left: &of_left,
                    score_weight,
                },
            );
            let (mut gradient, mut p) = (widened(&data), widened(&quantity));
            for i in 0..rows {
                let (gradient, p) =
                    (&mut gradient[i * stride..][..columns], &mut p[i * other..][..columns]);
                let slopes = (
                    expected[i].f64(),
                    of_left[i].f64(),
                    score_weight.map_or(0.0, |weight| weight[i].f64()),
                );
                naive::stick_breaking_backward(gradient, p, &mut naive[i], slopes);
                for j in 0..columns {
                    let bound = relative(p[j]) * epsilon + tiny;
                    assert_close(set, "probability", posterior[i * other + j], p[j], bound);
                    let got = score[i * stride + j];
                    assert_close(set, "gradient", got, gradient[j], SUMS * epsilon + tiny);
                    if data[i * stride + j] == T::neg_infinity() {
                        assert_eq!(got, T::zero(), "{set:?}");
                        assert_eq!(posterior[i * other + j], T::zero(), "{set:?}");
                    }
                }
                assert_close(set, "seen", seen[i], naive[i].seen, SUMS * epsilon + tiny);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 300 }))]
    #[test]
    fn probabilities(rows in rows(), columns in columns(), spare in 0usize..20, seed in 0..u64::MAX / 2, special in special()) {
        on_every_set!(check_rows(rows, columns, spare, seed, special));
    }

    #[test]
    fn backward(rows in rows(), columns in columns(), spare in 0usize..20, seed in 0..u64::MAX / 2, special in special()) {
        on_every_set!(check_backward(rows, columns, spare, seed, special));
    }
}

/// Offers that are hardly ever accepted leave the stick nearly whole: log of what is left is a small
/// number that keeps its digits.
#[test]
fn a_stick_that_is_hardly_broken() {
    for set in InstructionSet::available() {
        let (columns, score) = (200, -30.0f32);
        let (mut tile, mut log_left) = (vec![score; columns], [0.0f32]);
        let state = StickBreaking { log_left: &mut log_left, mass: None, entropy: None };
        stick_breaking_rows(set, TileMut::new(&mut tile, 1, columns, columns), state);
        let expected = -f64::from(score).exp() * columns as f64;
        let error = (f64::from(log_left[0]) / expected - 1.0).abs();
        assert!(error < 8.0 * f64::from(f32::EPSILON), "{set:?}: {error}");
        let p = f64::from(score).exp();
        assert!(tile.iter().all(|&x| (f64::from(x) / p - 1.0).abs() < 1e-6), "{set:?}");
    }
}

/// An offer that is certain leaves nothing for those in front of it, and nothing is NaN.
#[test]
fn a_certain_offer_ends_the_row() {
    for set in InstructionSet::available() {
        for certain in [f32::INFINITY, f32::MAX, 1e4] {
            let mut tile = vec![0.5f32; 70];
            tile[40] = certain;
            let (mut log_left, mut mass, mut entropy) = ([0.0], [0.0], [0.0]);
            let state = StickBreaking {
                log_left: &mut log_left,
                mass: Some(&mut mass),
                entropy: Some(&mut entropy),
            };
            stick_breaking_rows(set, TileMut::new(&mut tile, 1, 70, 70), state);
            assert!(tile[..40].iter().all(|&p| p == 0.0), "{set:?}: {tile:?}");
            let left: f64 = (1.0 + 0.5f64.exp()).ln() * -29.0;
            assert!((f64::from(tile[40]) / left.exp() - 1.0).abs() < 1e-5, "{set:?}");
            assert!((mass[0] - 1.0).abs() < 1e-6, "{set:?}: {mass:?}");
            assert!(log_left[0] < -9e3 && entropy[0] > 0.0 && entropy[0].is_finite(), "{set:?}");
        }
    }
}
