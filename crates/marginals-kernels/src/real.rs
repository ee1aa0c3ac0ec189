//! The number types: what is computed in, and what may be stored.

use num_traits::Float;

/// A type the kernels compute in: `f32` or `f64`, and no other.
pub trait Real:
    Float
    + num_traits::NumAssign
    + std::iter::Sum
    + Default
    + Send
    + Sync
    + std::fmt::Debug
    + std::fmt::Display
    + Stored
    + crate::math::Elementary
    + crate::simd::Vectors
    + 'static
{
    /// Nearest value of this type.
    fn of(x: f64) -> Self;
    /// This value as `f64`, exactly.
    fn f64(self) -> f64;
}

impl Real for f32 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn f64(self) -> f64 {
        self as f64
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn f64(self) -> f64 {
        self
    }
}

/// A type tensors may be stored in: `f32`, `f64`, `bf16` or `f16`. The half types are read into
/// `f32` before any arithmetic.
pub trait Stored: Copy + Send + Sync + 'static {
    /// This value in the computing type.
    fn widen<T: Real>(self) -> T;
}

impl Stored for f32 {
    #[inline(always)]
    fn widen<T: Real>(self) -> T {
        // `Real` has no lossless `From<f32>`; both implementors represent every f32.
        T::of(self as f64)
    }
}
impl Stored for f64 {
    #[inline(always)]
    fn widen<T: Real>(self) -> T {
        T::of(self)
    }
}
impl Stored for half::bf16 {
    #[inline(always)]
    fn widen<T: Real>(self) -> T {
        // Through f32, which both half types fit in: the step to f64 and back vanishes.
        T::of(f64::from(self.to_f32()))
    }
}
impl Stored for half::f16 {
    #[inline(always)]
    fn widen<T: Real>(self) -> T {
        // Through f32, which both half types fit in: the step to f64 and back vanishes.
        T::of(f64::from(self.to_f32()))
    }
}
