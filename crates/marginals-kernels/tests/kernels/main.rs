//! Every kernel against a naive twin, on every instruction set this machine has.
//!
//! The twins compute in f64 what the kernels compute in f32, so the tolerances are bounds on
//! rounding and not on agreement; sizes fall on, before and behind every tile edge.

#![allow(clippy::needless_range_loop, reason = "indices are the symbols of the equations")]

mod elementary;
mod exponential;
mod gemm;
mod log_weights;
mod naive;
mod online;
mod panels;
mod sample;
mod select;
mod softmax;
mod stick_breaking;
mod unpacked;

use marginals_kernels::{InstructionSet, Real};
use proptest::prelude::*;

/// Runs `check::<T>(set, …)` for both element types on each instruction set.
macro_rules! on_every_set {
    ($check:ident($($argument:expr),*)) => {
        for set in marginals_kernels::InstructionSet::available() {
            $check::<f32>(set, $($argument),*);
            $check::<f64>(set, $($argument),*);
        }
    };
}
pub(crate) use on_every_set;

/// Numbers of rows around the heights of the register tiles.
pub fn rows() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..=14, 22usize..=26, Just(37)]
}

/// Numbers of columns around the widths of vectors and panels.
pub fn columns() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..=18, 30usize..=35, 47usize..=49, 62usize..=66, 127usize..=130]
}

/// The numbers that follow their own rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// None of them.
    None,
    /// −∞ in places and over whole rows.
    Impossible,
    /// −∞ and +∞.
    Infinite,
    /// −∞, +∞ and NaN.
    NotANumber,
}

/// Each kind of special numbers as often as any other.
pub fn special() -> impl Strategy<Value = Special> {
    prop_oneof![
        Just(Special::None),
        Just(Special::Impossible),
        Just(Special::Infinite),
        Just(Special::NotANumber)
    ]
}

/// Reproducible numbers in (−`range`, `range`).
pub fn numbers<T: Real>(len: usize, seed: u64, range: f64) -> Vec<T> {
    let mut state = seed ^ 0x9E37_79B9_7F4A_7C15;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            T::of(((state >> 33) as f64 / (1u64 << 30) as f64 - 1.0) * range)
        })
        .collect()
}

/// Scores with some of the special numbers: of every 16 elements about two, and the row that
/// `seed` falls on entirely impossible.
pub fn scores<T: Real>(
    rows: usize,
    stride: usize,
    seed: u64,
    range: f64,
    special: Special,
) -> Vec<T> {
    let mut scores: Vec<T> = numbers(rows * stride, seed, range);
    let dice: Vec<f64> = numbers(rows * stride, seed.wrapping_add(77), 8.0);
    if special == Special::None {
        return scores;
    }
    for (x, &roll) in scores.iter_mut().zip(&dice) {
        match special {
            Special::NotANumber if roll > 7.97 => *x = T::nan(),
            Special::Infinite | Special::NotANumber if roll > 7.9 => *x = T::infinity(),
            _ if roll > 7.0 => *x = T::neg_infinity(),
            _ => {}
        }
    }
    if rows > 0 {
        let row = seed as usize % rows;
        scores[row * stride..][..stride].fill(T::neg_infinity());
    }
    scores
}

/// The same numbers for a naive twin; +∞ counts as the largest finite number of `T`.
pub fn widened<T: Real>(xs: &[T]) -> Vec<f64> {
    xs.iter().map(|&x| if x == T::infinity() { T::max_value().f64() } else { x.f64() }).collect()
}

/// Asserts |got − expected| ≤ `bound`, or that both are NaN or the same infinity.
#[track_caller]
pub fn assert_close<T: Real>(set: InstructionSet, what: &str, got: T, expected: f64, bound: f64) {
    let same = got.f64() == expected
        || got.is_nan() && expected.is_nan()
        || (got.f64() - expected).abs() <= bound;
    assert!(same, "{what} on {set:?}: {:e} is not {expected:e} ± {bound:e}", got.f64());
}
