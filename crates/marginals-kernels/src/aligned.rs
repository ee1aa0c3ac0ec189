//! Memory that starts at a cache line.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

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
///
/// Memory that is given up is kept for the next slice, up to 64 MiB for the whole process: a pass
/// takes about as much as the one before, and asking the system for fresh pages each time costs a
/// tenth of a short pass.
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
        zeros.fill(T::zero());
        zeros
    }

    /// Makes this `len` elements long. What was there stays up to the shorter length; elements that
    /// are new to the slice are unspecified numbers (zero in fresh memory).
    pub fn resize(&mut self, len: usize) {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        if self.lines.is_empty() {
            self.lines = kept(lines).unwrap_or_default();
        }
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; 8]));
        }
        self.len = len;
    }
}

/// Buffers that were given up and may be used again.
static KEPT: Mutex<Vec<Vec<Line>>> = Mutex::new(Vec::new());
/// How many lines may be kept in all.
const MOST_KEPT: usize = (64 << 20) / size_of::<Line>();
/// Below this many lines the allocator itself is quick.
const FEWEST_KEPT: usize = (32 << 10) / size_of::<Line>();

/// Memory for at least `lines`, and not much more, among what is kept.
fn kept(lines: usize) -> Option<Vec<Line>> {
    if lines < FEWEST_KEPT {
        return None;
    }
    // A thread that panicked here left a valid list behind.
    let mut list = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = |kept: &Vec<Line>| kept.len() >= lines && kept.len() <= 2 * lines;
    let place = list.iter().position(fits)?;
    Some(list.swap_remove(place))
}

impl<T> Drop for Aligned<T> {
    fn drop(&mut self) {
        if self.lines.len() < FEWEST_KEPT {
            return;
        }
        let mut list = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = list.iter().map(Vec::len).sum();
        if all + self.lines.len() <= MOST_KEPT {
            list.push(std::mem::take(&mut self.lines));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_used_again_is_zero_where_zeros_were_asked_for() {
        for len in [20_000, 15_000, 19_999] {
            let mut slice = Aligned::<f32>::zeros(len);
            assert!(slice.iter().all(|&x| x == 0.0) && slice.len() == len);
            assert_eq!(slice.as_ptr() as usize % 64, 0);
            slice.fill(f32::NAN);
        }
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        let slices: Vec<_> = (0..10).map(|_| Aligned::<f64>::zeros(2 << 20)).collect();
        drop(slices);
        let list = KEPT.lock().unwrap();
        assert!(list.iter().map(Vec::len).sum::<usize>() <= MOST_KEPT);
    }
}
