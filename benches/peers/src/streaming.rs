//! How fast the machine reads memory: the bound of one query against a long cache.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use marginals_kernels::InstructionSet;
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::side::{Answer, Side};

/// Reads buffers from end to end with every thread of a pool.
pub struct StreamingRead<'a> {
    /// The threads that read.
    pub pool: &'a ThreadPool,
    /// What they read.
    pub buffers: Vec<&'a [f32]>,
}

impl StreamingRead<'_> {
    /// The bytes one pass reads.
    pub fn bytes(&self) -> usize {
        self.buffers.iter().map(|buffer| size_of_val(*buffer)).sum()
    }
}

impl Side for StreamingRead<'_> {
    fn time(&mut self, repetitions: usize) -> Result<f64> {
        let start = Instant::now();
        for _ in 0..repetitions {
            let read = self.pool.install(|| {
                // One long piece a thread, which the hardware's prefetching likes best.
                let threads = self.pool.current_num_threads();
                self.buffers
                    .iter()
                    .map(|buffer| {
                        buffer
                            .par_chunks(buffer.len().div_ceil(threads).max(1))
                            .map(fold)
                            .reduce(|| 0, |a, b| a ^ b)
                    })
                    .fold(0, |a, b| a ^ b)
            });
            black_box(read);
        }
        Ok(start.elapsed().as_secs_f64())
    }

    fn answers(&mut self) -> Result<BTreeMap<String, Answer>> {
        Ok(BTreeMap::new())
    }
}

/// The exclusive or of all bits: every number is read, and no instruction is cheaper.
fn fold(numbers: &[f32]) -> u32 {
    const LANES: usize = 128;
    InstructionSet::detect().run(
        #[inline(always)]
        || {
            let (blocks, rest) = numbers.as_chunks::<LANES>();
            let mut lanes = [0u32; LANES];
            for block in blocks {
                for (lane, number) in lanes.iter_mut().zip(block) {
                    *lane ^= number.to_bits();
                }
            }
            lanes.iter().copied().chain(rest.iter().map(|n| n.to_bits())).fold(0, |a, b| a ^ b)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn every_number_is_read() {
        let numbers: Vec<f32> = (0..200).map(|n| n as f32).collect();
        for skipped in 0..200 {
            let mut other = numbers.clone();
            other[skipped] = 1e9;
            assert_ne!(fold(&numbers), fold(&other), "number {skipped} was not read");
        }
    }
}
