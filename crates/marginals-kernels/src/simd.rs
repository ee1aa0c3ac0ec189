//! One kernel body, several vector units.
//!
//! A kernel is written once, over a [`Simd`] token, and compiled once per instruction set:
//! [`run`] enters a function that has the instructions enabled and everything below it is inlined
//! there. A token is the proof that its instructions exist on this processor, which is what makes
//! the arithmetic on its vectors safe to call.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod plain;

use crate::{InstructionSet, Real};

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use plain::Plain;

/// Vector arithmetic on one element type with one instruction set.
pub trait Simd: Copy {
    /// Number in a lane.
    type Element: Real;
    /// `LANES` elements.
    type Vector: Copy;
    /// One truth value per lane.
    type Mask: Copy;
    /// Elements per vector.
    const LANES: usize;
    /// Exponentials to interleave, 2 or 4: enough to keep the multipliers busy, few enough for the
    /// registers.
    const INTERLEAVED: usize;
    /// Rows of the register tile of the matrix product.
    const TILE_ROWS: usize;

    /// Runs `kernel` in a function compiled for these instructions.
    fn vectorize<K: Kernel<Self::Element>>(self, kernel: K) -> K::Output;

    /// Every lane `x`.
    fn splat(self, x: Self::Element) -> Self::Vector;
    /// Reads `LANES` elements.
    ///
    /// # Safety
    /// `from` must be valid for reading them; it need not be aligned.
    unsafe fn load(self, from: *const Self::Element) -> Self::Vector;
    /// Writes `LANES` elements.
    ///
    /// # Safety
    /// `to` must be valid for writing them; it need not be aligned.
    unsafe fn store(self, to: *mut Self::Element, x: Self::Vector);
    /// The first `from.len() < LANES` lanes from memory, the rest from `fill`.
    fn load_part(self, from: &[Self::Element], fill: Self::Vector) -> Self::Vector;
    /// Writes the first `to.len() < LANES` lanes.
    fn store_part(self, to: &mut [Self::Element], x: Self::Vector);

    /// a + b
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a − b
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a · b
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a / b
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a · b + c, fused where the instruction set has it.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The smaller; `b` where either is NaN.
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The larger; `b` where either is NaN.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// p · 2ⁿ, where `rounded` is n + [`Elementary::ROUNDER`] and so holds n as an integer too, for
    /// the n of [`Elementary::times_power_of_two`]; NaN and infinite p stay so.
    ///
    /// [`Elementary::ROUNDER`]: crate::math::Elementary::ROUNDER
    /// [`Elementary::times_power_of_two`]: crate::math::Elementary::times_power_of_two
    fn scale(self, p: Self::Vector, n: Self::Vector, rounded: Self::Vector) -> Self::Vector;
    /// a = b; false where either is NaN.
    fn equal(self, a: Self::Vector, b: Self::Vector) -> Self::Mask;
    /// Not a < b; true where either is NaN.
    fn not_less(self, a: Self::Vector, b: Self::Vector) -> Self::Mask;
    /// `yes` where the mask holds, `no` elsewhere.
    fn select(self, mask: Self::Mask, yes: Self::Vector, no: Self::Vector) -> Self::Vector;
    /// Whether the mask holds anywhere.
    fn any(self, mask: Self::Mask) -> bool;
    /// Where the mask holds: bit k is lane k.
    fn bits(self, mask: Self::Mask) -> u32;
    /// Sum of the lanes.
    fn reduce_add(self, x: Self::Vector) -> Self::Element;
    /// Largest lane, where no lane is NaN.
    fn reduce_max(self, x: Self::Vector) -> Self::Element;

    /// Σ_l>k x_l in every lane k: what lies behind it.
    fn sums_behind(self, x: Self::Vector) -> Self::Vector;
    /// Every lane the first one.
    fn first(self, x: Self::Vector) -> Self::Vector;

    /// Asks for the cache line at `at` before it is needed. Any address may be given.
    #[inline(always)]
    fn prefetch(self, _at: *const Self::Element) {}

    /// `to[j * to_stride + i] = from[i * from_stride + j]` for i, j < `LANES`.
    ///
    /// # Safety
    /// Both must be valid for `LANES` rows of `LANES` elements at their strides.
    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const Self::Element,
        from_stride: usize,
        to: *mut Self::Element,
        to_stride: usize,
    ) {
        for i in 0..Self::LANES {
            for j in 0..Self::LANES {
                // SAFETY: the caller's promise.
                unsafe { *to.add(j * to_stride + i) = *from.add(i * from_stride + j) };
            }
        }
    }

    /// Reads a whole vector or, at the end of a row, part of one padded with `fill`.
    #[inline(always)]
    fn read(self, from: &[Self::Element], fill: Self::Vector) -> Self::Vector {
        if from.len() >= Self::LANES {
            // SAFETY: the slice has at least `LANES` elements.
            unsafe { self.load(from.as_ptr()) }
        } else {
            self.load_part(from, fill)
        }
    }

    /// Writes what [`Simd::read`] read.
    #[inline(always)]
    fn write(self, to: &mut [Self::Element], x: Self::Vector) {
        if to.len() >= Self::LANES {
            // SAFETY: the slice has at least `LANES` elements.
            unsafe { self.store(to.as_mut_ptr(), x) }
        } else {
            self.store_part(to, x);
        }
    }
}

/// A kernel body together with its arguments. Implementations mark `run` `#[inline(always)]`.
pub trait Kernel<T: Real> {
    /// Result.
    type Output;
    /// The body.
    fn run<S: Simd<Element = T>>(self, simd: S) -> Self::Output;
}

/// The vectors of an element type, one per instruction set.
pub trait Vectors: Sized {
    /// Portable.
    type Plain: Simd<Element = Self> + Default;
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    type Avx2: Simd<Element = Self>;
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    type Avx512: Simd<Element = Self>;
    /// The token, once the instructions are known to exist.
    ///
    /// # Safety
    /// The processor must have AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx2() -> Self::Avx2;
    /// The token, once the instructions are known to exist.
    ///
    /// # Safety
    /// The processor must have AVX-512 F, DQ, BW and VL.
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx512() -> Self::Avx512;
}

impl Vectors for f32 {
    type Plain = Plain<f32, 4>;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = Avx2<f32>;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = Avx512<f32>;
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx2() -> Avx2<f32> {
        // SAFETY: the caller's promise.
        unsafe { Avx2::new() }
    }
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx512() -> Avx512<f32> {
        // SAFETY: the caller's promise.
        unsafe { Avx512::new() }
    }
}

impl Vectors for f64 {
    type Plain = Plain<f64, 2>;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = Avx2<f64>;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = Avx512<f64>;
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx2() -> Avx2<f64> {
        // SAFETY: the caller's promise.
        unsafe { Avx2::new() }
    }
    #[cfg(target_arch = "x86_64")]
    unsafe fn avx512() -> Avx512<f64> {
        // SAFETY: the caller's promise.
        unsafe { Avx512::new() }
    }
}

/// Runs `kernel` on `set`. Panics when the processor does not have it: going on would be undefined.
#[inline]
pub fn run<T: Real, K: Kernel<T>>(set: InstructionSet, kernel: K) -> K::Output {
    assert!(set <= InstructionSet::best(), "this processor has no {set:?} instructions");
    match set {
        // SAFETY: the assertion above.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => unsafe { T::avx512() }.vectorize(kernel),
        // SAFETY: the assertion above.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => unsafe { T::avx2() }.vectorize(kernel),
        _ => T::Plain::default().vectorize(kernel),
    }
}
