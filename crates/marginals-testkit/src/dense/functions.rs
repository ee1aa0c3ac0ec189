//! Functions of scores, by the book.

use ndarray::NdFloat;

/// log Σ eˣ.
pub(super) fn log_sum_exp<T: NdFloat>(x: &[T]) -> T {
    let max = x.iter().copied().fold(T::neg_infinity(), T::max);
    if max == T::neg_infinity() {
        return max;
    }
    max + x.iter().map(|&x| (x - max).exp()).fold(T::zero(), |a, b| a + b).ln()
}

/// log(1 + eˣ).
pub(super) fn softplus<T: NdFloat>(x: T) -> T {
    x.max(T::zero()) + (-x.abs()).exp().ln_1p()
}

/// 1 / (1 + e⁻ˣ), by the side that does not overflow.
pub(super) fn logistic<T: NdFloat>(x: T) -> T {
    if x >= T::zero() { T::one() / (T::one() + (-x).exp()) } else { x.exp() / (T::one() + x.exp()) }
}

/// Entropy of a coin with log-odds x, both halves in the form that keeps small numbers.
pub(super) fn coin_entropy<T: NdFloat>(x: T) -> T {
    softplus(-x.abs()) + x.abs() * logistic(-x.abs())
}
