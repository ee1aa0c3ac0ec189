//! Memory that starts at a cache line.

use std::ops::{Deref, DerefMut};

use crate::Real;

/// One cache line, which is also one vector of the widest instruction set.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
struct Line([u64; 8]);

/// A growable slice that starts at a cache line.
///
/// The allocator promises 16 bytes. A 64-byte vector read from there straddles two lines every
/// time; strips of scores and packed operands are read often enough for that to show. Rows stay
/// aligned when their stride is a multiple of 64 bytes.
#[derive(Clone, Debug, Default)]
pub struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Real> Aligned<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut zeros = Self { lines: Vec::new(), len: 0, element: std::marker::PhantomData };
        zeros.resize(len);
        zeros
    }

    /// Makes this `len` elements long. What was there stays up to the shorter length; elements that
    /// are new to the slice are unspecified numbers (zero in fresh memory).
    pub fn resize(&mut self, len: usize) {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; 8]));
        }
        self.len = len;
    }
}

impl<T: Real> Deref for Aligned<T> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `resize` made the lines cover `len` elements, all initialised; `Real` is f32 or
        // f64, for which any bits are a value.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Real> DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
