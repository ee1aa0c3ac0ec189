//! Which instructions to run on, chosen at run time.

use std::sync::OnceLock;

/// A family of vector instructions the kernels are written for.
///
/// Ordered from the most portable to the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InstructionSet {
    /// Portable code; the compiler vectorises it for the build target.
    Plain,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, DQ, BW and VL.
    Avx512,
}

impl InstructionSet {
    /// The fastest set this processor has.
    ///
    /// The environment variable `MARGINALS_INSTRUCTION_SET` (`plain`, `avx2`, `avx512`) lowers the
    /// choice; a set the processor lacks, or an unknown name, is ignored. Read once per process.
    pub fn detect() -> Self {
        static DETECTED: OnceLock<InstructionSet> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            let best = Self::best();
            match std::env::var("MARGINALS_INSTRUCTION_SET").as_deref() {
                Ok("plain") => Self::Plain,
                Ok("avx2") => best.min(Self::Avx2),
                _ => best,
            }
        })
    }

    /// The fastest set this processor has, whatever the environment says.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<InstructionSet> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().expect("plain code always runs"))
    }

    /// Every set this processor has, slowest first. Tests run each of them.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "only x86-64 has more than the portable path")]
        let mut sets = vec![Self::Plain];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Self::Avx2);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                {
                    sets.push(Self::Avx512);
                }
            }
        }
        sets
    }

    /// Rows to take through scores, softmax and means at a time: two heights of the register tile,
    /// so that each packed panel that is brought near is used twice.
    pub const fn strip_rows(self) -> usize {
        match self {
            Self::Avx512 => 24,
            Self::Avx2 => 12,
            Self::Plain => 8,
        }
    }
}
