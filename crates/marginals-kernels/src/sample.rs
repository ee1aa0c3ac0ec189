//! Exact draws from a row of scores.

use crate::math::{exp_nonpositive, zero};
use crate::random::{gumbel, philox, uniform};
use crate::simd::{Kernel, Simd, run};
use crate::{InstructionSet, Real};

/// Which draw: everything its noise depends on, besides the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The user's seed.
    pub seed: u64,
    /// Batch index.
    pub batch: u32,
    /// Query-head index.
    pub head: u32,
    /// Query index.
    pub query: u32,
    /// Which of several independent draws for the same query.
    pub sample: u32,
}

/// Counters per block; each gives 128 bits, enough for two keys.
const LANES: usize = 16;
/// Keys served by one block of counters.
const BLOCK: usize = 2 * LANES;
/// Last word of the counter, so that other uses of the same seed see other numbers.
const PURPOSE: u32 = 0x6773_616d;

impl Draw {
    /// The Philox key of this batch and head: the seed, scrambled by both.
    #[inline(always)]
    fn key(&self) -> [u32; 2] {
        let seed = [self.seed as u32, (self.seed >> 32) as u32];
        let [a, b, ..] = philox([self.batch, self.head, 0, PURPOSE], seed);
        [a, b]
    }

    /// Key j of a block of 32 takes words 0 and 1 of counter j, or words 2 and 3 of counter j − 16,
    /// so that whole vectors of keys fall out of whole vectors of counters.
    #[inline(always)]
    fn counter(&self, block: u32, lane: u32) -> [u32; 4] {
        [block.wrapping_mul(LANES as u32).wrapping_add(lane), self.query, self.sample, PURPOSE]
    }

    /// The Gumbel noise of one key. It depends on this draw and on the key's own index, so no
    /// tiling and no thread can change it, and a backward pass can ask again.
    pub fn noise(&self, key: usize) -> f64 {
        gumbel(self.uniform(key))
    }

    /// The uniform number in (0, 1) behind [`noise`](Self::noise).
    pub fn uniform(&self, key: usize) -> f64 {
        let (block, lane) = (key / BLOCK, key % BLOCK);
        let words = philox(self.counter(block as u32, (lane % LANES) as u32), self.key());
        let half = 2 * (lane / LANES);
        uniform(words[half], words[half + 1])
    }
}

/// The key that wins scoreₖ + noiseₖ over a row, and by what value: an exact draw from the softmax
/// of the scores (Gumbel 1954; Maddison, Tarlow & Minka, "A* sampling", NeurIPS 2014).
///
/// `first_key` is the index of `scores[0]` among all keys, and the index returned is among all keys
/// too: the draw over a row cut into tiles is the largest value over the tiles, the smallest index
/// on ties. Scores of −∞ and NaN never win; +∞ counts as the largest finite number. `None` when no
/// key can win. The answer is the same on every instruction set.
///
/// Ten rounds of integer work and one exponential per key, vectorised; a logarithm only where
/// −log(1 − u), which is never below the noise −log(−log u), says that the key may win.
pub fn gumbel_argmax<T: Real>(
    set: InstructionSet,
    scores: &[T],
    first_key: usize,
    draw: Draw,
) -> Option<(f64, usize)> {
    run(set, GumbelArgmax { scores, first_key, draw })
}

struct GumbelArgmax<'a, T> {
    scores: &'a [T],
    first_key: usize,
    draw: Draw,
}

/// [`philox`] of 16 counters at once, word by word.
#[inline(always)]
fn words(draw: &Draw, key: [u32; 2], block: u32) -> [[u32; LANES]; 4] {
    let mut words = [[0; LANES]; 4];
    for lane in 0..LANES {
        let counter = philox(draw.counter(block, lane as u32), key);
        for (words, word) in words.iter_mut().zip(counter) {
            words[lane] = word;
        }
    }
    words
}

impl<T: Real> Kernel<T> for GumbelArgmax<'_, T> {
    type Output = Option<(f64, usize)>;

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) -> Option<(f64, usize)> {
        let Self { scores, first_key, draw } = self;
        let key = draw.key();
        let impossible = T::neg_infinity();
        let mut best: Option<(f64, usize)> = None;
        let mut start = first_key / BLOCK * BLOCK;
        while start < first_key + scores.len() {
            // The block's scores, impossible outside of the row.
            let mut row = [impossible; BLOCK];
            let (from, to) = (start.max(first_key), (start + BLOCK).min(first_key + scores.len()));
            row[from - start..to - start]
                .copy_from_slice(&scores[from - first_key..to - first_key]);
            let words = words(&draw, key, (start / BLOCK) as u32);
            // 1 − u, rounded down.
            let mut rest = [T::zero(); BLOCK];
            for lane in 0..LANES {
                let scale = T::of(1.0 / (1u64 << 31) as f64);
                rest[lane] = T::from_i32((!words[0][lane] >> 1) as i32) * scale;
                rest[LANES + lane] = T::from_i32((!words[2][lane] >> 1) as i32) * scale;
            }
            let bound = best.map_or(impossible, |(value, _)| rounded_down(value));
            if !may_win(simd, &row, &rest, bound) {
                start += BLOCK;
                continue;
            }
            for (j, &score) in row.iter().enumerate() {
                let half = 2 * (j / LANES);
                // What the vectors asked, again for this key: most of the block still fails.
                let score = if score == T::infinity() { T::max_value() } else { score };
                if score == impossible || score.is_nan() {
                    continue;
                }
                let ceiling = best.map_or(T::one(), |_| slack::<T>() * (score - bound).exp());
                if rest[j] > ceiling {
                    continue;
                }
                let u = uniform(words[half][j % LANES], words[half + 1][j % LANES]);
                let value = score.f64() + gumbel(u);
                if best.is_none_or(|(most, _)| value > most) {
                    best = Some((value, start + j));
                }
            }
            start += BLOCK;
        }
        best
    }
}

/// A value of `T` not above `x`, within an ulp or two.
#[inline(always)]
fn rounded_down<T: Real>(x: f64) -> T {
    let nearest = T::of(x);
    if nearest.f64() <= x { nearest } else { T::of(x - x.abs() * T::epsilon().f64()) }
}

/// More than the rounding of the ceiling, relatively: that of a difference of at most 90, beyond
/// which the exponential vanishes, of the exponential and of the product.
fn slack<T: Real>() -> T {
    T::of(1.001)
}

/// Whether 1 − u ≤ exp(score − bound) for any key, a little generously: as −log u ≥ 1 − u, a key for
/// which it fails cannot reach the bound.
#[inline(always)]
fn may_win<S: Simd>(
    simd: S,
    scores: &[S::Element; BLOCK],
    rest: &[S::Element; BLOCK],
    bound: S::Element,
) -> bool {
    let nothing = simd.splat(zero::<S>());
    let (bound, slack) = (simd.splat(bound), simd.splat(slack::<S::Element>()));
    let mut found = false;
    for (score, rest) in scores.chunks_exact(S::LANES).zip(rest.chunks_exact(S::LANES)) {
        let below = simd.min(nothing, simd.sub(simd.read(score, nothing), bound));
        let ceiling = simd.mul(slack, exp_nonpositive(simd, below));
        found |= simd.any(simd.not_less(ceiling, simd.read(rest, nothing)));
    }
    found
}
