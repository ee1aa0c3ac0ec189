//! Compiling ordinary loops for the instruction set at hand.

use crate::InstructionSet;

impl InstructionSet {
    /// Runs `f` inside a function compiled for this instruction set, so that the loops in it are
    /// vectorised with its registers once inlined. For short element-wise code next to the tile
    /// kernels (adding a prior to a tile, say); `f` should be `#[inline(always)]` all the way.
    ///
    /// A set the processor lacks runs as plain code.
    #[inline]
    pub fn run<R>(self, f: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        {
            if self == Self::Avx512 && self <= Self::best() {
                // SAFETY: `best` reports AVX-512 F, DQ, BW, VL, AVX2 and FMA on this processor.
                return unsafe { run_avx512(f) };
            }
            if self == Self::Avx2 && self <= Self::best() {
                // SAFETY: `best` reports AVX2 and FMA on this processor.
                return unsafe { run_avx2(f) };
            }
        }
        f()
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
fn run_avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}
