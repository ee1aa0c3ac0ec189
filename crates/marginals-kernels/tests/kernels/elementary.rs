//! The error of the exponential and of log(1 + e^x), measured in units in the last place.

use marginals_kernels::*;

use crate::on_every_set;

/// Distance of `got` from `expected` in ulps of `expected` rounded to f32.
fn ulps(got: f32, expected: f64) -> f64 {
    let rounded = expected as f32;
    let unit = f64::from(f32::from_bits(rounded.to_bits() + 1)) - f64::from(rounded);
    (f64::from(got) - expected).abs() / unit
}

fn exponentials<T: Real>(set: InstructionSet, xs: &[T]) -> Vec<T> {
    let mut tile = xs.to_vec();
    let log_partition = LogPartition { max: &[T::zero()], log_sum: &[T::zero()] };
    exp_rows(set, TileMut::new(&mut tile, 1, xs.len(), xs.len()), log_partition);
    tile
}

/// The largest error over every `step`th f32 whose exponential is not flushed, and where.
fn worst_exp(set: InstructionSet, step: usize) -> (f64, f32) {
    let (mut worst, mut at) = (0.0, 0.0);
    for (first, last) in [(0f32, 88.722f32), (-0f32, -86.9f32)] {
        let mut bits = (first.to_bits()..=last.to_bits()).step_by(step).peekable();
        while bits.peek().is_some() {
            let xs: Vec<f32> = bits.by_ref().take(4096).map(f32::from_bits).collect();
            for (&x, e) in xs.iter().zip(exponentials(set, &xs)) {
                let error = ulps(e, f64::from(x).exp());
                if error > worst {
                    (worst, at) = (error, x);
                }
            }
        }
    }
    println!("{set:?}: exp of f32 within {worst:.4} ulp, worst at {at:e}");
    (worst, at)
}

/// The bounds that the documentation of the exponential states.
fn assert_exp(step: usize) {
    for set in InstructionSet::available() {
        let bound = if set == InstructionSet::Plain { 1.25 } else { 1.0 };
        let (worst, at) = worst_exp(set, step);
        assert!(worst <= bound, "{set:?}: {worst} ulp at {at:e}");
    }
}

#[test]
fn exp_of_one_f32_in_97() {
    assert_exp(if cfg!(miri) { 99_999_989 } else { 97 });
}

#[test]
#[ignore = "two thousand million numbers: minutes, in a release build"]
fn exp_of_every_f32() {
    assert_exp(1);
}

/// The reference, the C library's exp in f64, is itself within 0.52 ulp.
#[test]
fn exp_of_f64() {
    let n = if cfg!(miri) { 100 } else { 1_000_000 };
    for set in InstructionSet::available() {
        let xs: Vec<f64> =
            (0..n).map(|i| -707.9 + (i as f64 + 0.618) / n as f64 * (707.9 + 709.7)).collect();
        let (mut worst, mut at) = (0.0, 0.0);
        for (&x, e) in xs.iter().zip(exponentials(set, &xs)) {
            let expected = x.exp();
            let error = (e - expected).abs() / (expected.next_up() - expected);
            if error > worst {
                (worst, at) = (error, x);
            }
        }
        println!("{set:?}: exp of f64 within {worst} ulp of the C library, worst at {at:e}");
        assert!(worst <= 1.0, "{set:?}: {worst} ulp at {at:e}");
    }
}

fn check_landmarks<T: Real>(set: InstructionSet) {
    let lowest = if size_of::<T>() == 4 { -86.91 } else { -707.91 };
    let xs = [0.0, -0.0, lowest, 2.0 * lowest, -1e30, f64::NEG_INFINITY, -lowest * 1.03, 1e30];
    let xs: Vec<T> = xs.into_iter().map(T::of).collect();
    let (zero, one, infinity) = (T::zero(), T::one(), T::infinity());
    let expected = [one, one, zero, zero, zero, zero, infinity, infinity];
    // Every position in a vector and in its tail.
    for shift in 0..40 {
        let mut shifted = vec![one; shift];
        shifted.extend(&xs);
        assert_eq!(exponentials(set, &shifted)[shift..], expected, "{set:?}");
    }
    assert!(exponentials(set, &[T::nan()])[0].is_nan(), "{set:?}");
}

#[test]
fn landmarks_are_exact() {
    on_every_set!(check_landmarks());
}

/// log(1 + e^x), which logistic rows of one column give singly.
#[test]
fn softplus_of_f32() {
    let n = if cfg!(miri) { 100 } else { 400_000 };
    for set in InstructionSet::available() {
        let xs: Vec<f32> = (0..n).map(|i| (i as f32 / n as f32 - 0.5) * 170.0).collect();
        let (mut tile, mut totals) = (xs.clone(), vec![0.0; n]);
        logistic_rows(set, TileMut::new(&mut tile, n, 1, 1), &mut totals);
        let (mut worst, mut at) = (0.0, 0.0);
        for (&x, &got) in xs.iter().zip(&totals) {
            let error = ulps(got, f64::from(x).max(0.0) + (-f64::from(x.abs())).exp().ln_1p());
            if error > worst {
                (worst, at) = (error, x);
            }
        }
        println!("{set:?}: log(1 + e^x) of f32 within {worst:.3} ulp, worst at {at:e}");
        assert!(worst <= 3.5, "{set:?}: {worst} ulp at {at:e}");
    }
}
