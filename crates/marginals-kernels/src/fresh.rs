//! Memory that is zeroed piece by piece, each by whoever is about to write to it.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Real, large_pages};

/// Zeros to add to, in pieces that are zeroed when they are taken.
///
/// A large tensor that is zeroed as a whole has left the caches by the time it is added to, and is
/// read from memory again. A piece that its own thread zeroes right before is still there.
#[derive(Debug)]
pub struct Fresh<T> {
    memory: Vec<MaybeUninit<T>>,
    /// The length of each piece, and whether it has been zeroed.
    pieces: Vec<(usize, AtomicBool)>,
}

/// One piece of a [`Fresh`] tensor.
#[derive(Debug)]
pub struct Piece<'a, T> {
    memory: &'a mut [MaybeUninit<T>],
    zeroed: &'a AtomicBool,
}

/// Zeroes some memory.
fn zero<T: Real>(memory: &mut [MaybeUninit<T>]) {
    memory.fill(MaybeUninit::new(T::zero()));
}

impl<T: Real> Fresh<T> {
    /// Pieces of the given lengths, one behind the other.
    pub fn new(lengths: &[usize]) -> Self {
        let length = lengths.iter().sum();
        let mut memory = Vec::with_capacity(length);
        // SAFETY: so many elements were reserved, and what may be uninitialised need not be
        // initialised.
        unsafe { memory.set_len(length) };
        large_pages(&mut memory);
        let pieces = lengths.iter().map(|&length| (length, AtomicBool::new(false))).collect();
        Self { memory, pieces }
    }

    /// The pieces, in order.
    pub fn pieces(&mut self) -> Vec<Piece<'_, T>> {
        let mut rest = &mut self.memory[..];
        let mut pieces = Vec::with_capacity(self.pieces.len());
        for (length, zeroed) in &self.pieces {
            let (memory, after) = std::mem::take(&mut rest).split_at_mut(*length);
            pieces.push(Piece { memory, zeroed });
            rest = after;
        }
        pieces
    }

    /// The whole; pieces that nobody took are zeros.
    pub fn into_vec(mut self) -> Vec<T> {
        for Piece { memory, zeroed } in self.pieces() {
            if !zeroed.load(Ordering::Acquire) {
                zero(memory);
            }
        }
        let mut memory = std::mem::ManuallyDrop::new(self.memory);
        let (start, length, capacity) = (memory.as_mut_ptr(), memory.len(), memory.capacity());
        // SAFETY: the vector is not dropped and is made again of its own parts. `MaybeUninit<T>` is
        // laid out as `T`, and every element lies in a piece that has been zeroed, here or by
        // `Piece::zeros`: the pieces are as long together as the memory.
        unsafe { Vec::from_raw_parts(start.cast::<T>(), length, capacity) }
    }
}

impl<'a, T: Real> Piece<'a, T> {
    /// The piece, zeroed.
    pub fn zeros(self) -> &'a mut [T] {
        zero(self.memory);
        self.zeroed.store(true, Ordering::Release);
        // SAFETY: all of it has just been initialised, and `MaybeUninit<T>` is laid out as `T`.
        unsafe { &mut *(self.memory as *mut [MaybeUninit<T>] as *mut [T]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_zeros_whoever_takes_them() {
        let lengths = [3, 0, 70_000, 5, 1];
        // Memory that is used again holds something else.
        drop(vec![f32::NAN; lengths.iter().sum()]);
        let mut fresh = Fresh::<f32>::new(&lengths);
        let pieces = fresh.pieces();
        assert_eq!(pieces.len(), lengths.len());
        std::thread::scope(|scope| {
            for (index, (piece, length)) in pieces.into_iter().zip(lengths).enumerate() {
                if index == 3 {
                    // Nobody takes it.
                    continue;
                }
                scope.spawn(move || {
                    let zeros = piece.zeros();
                    assert!(zeros.len() == length && zeros.iter().all(|&x| x == 0.0));
                    zeros.iter_mut().for_each(|x| *x += index as f32 + 1.0);
                });
            }
        });
        let whole = fresh.into_vec();
        let expected = [(3, 1.0), (70_000, 3.0), (5, 0.0), (1, 5.0)];
        let expected = expected.into_iter().flat_map(|(length, x)| vec![x; length]);
        assert!(whole.iter().copied().eq(expected));
    }
}
