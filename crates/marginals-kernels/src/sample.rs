//! Exact draws from a row of scores.

use crate::math::{exp, zero};
use crate::random::{MULTIPLIER, WEYL, gumbel, philox, uniform};
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
/// The low half of 64 bits.
const LOW: u64 = 0xffff_ffff;
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

/// The winner of a race between keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Winner {
    /// Its score plus its noise.
    pub value: f64,
    /// Its index among all keys.
    pub key: usize,
}

/// Whether `value` of `key` beats the best so far: the smaller index wins ties.
#[inline(always)]
fn beats(value: f64, key: usize, best: Option<Winner>) -> bool {
    best.is_none_or(|best| value > best.value || value == best.value && key < best.key)
}

/// The key that wins scoreₖ + noiseₖ over a row and `best`, the winner among other keys: over all
/// keys, an exact draw from the softmax of the scores (Gumbel 1954; Maddison, Tarlow & Minka,
/// "A* sampling", NeurIPS 2014).
///
/// `first_key` is the index of `scores[0]` among all keys. A row may be cut into tiles and these
/// taken in any order, each starting from the winner of the last: the answer is the same, as it is
/// on every instruction set. Scores of −∞ and NaN never win; +∞ counts as the largest finite number;
/// ties go to the smallest index. `None` when no key can win.
///
/// Ten rounds of integer work and one exponential per key, vectorised; two logarithms only where
/// −log(1 − u), which is never below the noise −log(−log u), says that the key may win. Of n keys
/// with equal scores that is about log n: hand the winner on rather than merge afterwards.
pub fn gumbel_argmax<T: Real>(
    set: InstructionSet,
    scores: &[T],
    first_key: usize,
    draw: Draw,
    best: Option<Winner>,
) -> Option<Winner> {
    run(set, GumbelArgmax { scores, first_key, draw, best })
}

struct GumbelArgmax<'a, T> {
    scores: &'a [T],
    first_key: usize,
    draw: Draw,
    best: Option<Winner>,
}

/// [`philox`] of 16 counters at once, word by word. Words sit in 64 bits, where the product of two
/// of them is one instruction for as many as a vector holds.
#[inline(always)]
fn words(draw: &Draw, key: [u32; 2], block: u32) -> [[u64; LANES]; 4] {
    let mut words = [[0; LANES]; 4];
    for lane in 0..LANES {
        let counter = draw.counter(block, lane as u32);
        for (words, word) in words.iter_mut().zip(counter) {
            words[lane] = u64::from(word);
        }
    }
    let mut key = key;
    for _ in 0..10 {
        let [k0, k1] = key.map(u64::from);
        let [mut c0, mut c1, mut c2, mut c3] = words;
        for lane in 0..LANES {
            // The masks change nothing and vanish; they say which multiplication will do.
            let a = (c0[lane] & LOW) * u64::from(MULTIPLIER[0]);
            let b = (c2[lane] & LOW) * u64::from(MULTIPLIER[1]);
            c0[lane] = (b >> 32) ^ c1[lane] ^ k0;
            c1[lane] = b & LOW;
            c2[lane] = (a >> 32) ^ c3[lane] ^ k1;
            c3[lane] = a & LOW;
        }
        words = [c0, c1, c2, c3];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    words
}

impl<T: Real> Kernel<T> for GumbelArgmax<'_, T> {
    type Output = Option<Winner>;

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) -> Option<Winner> {
        let Self { scores, first_key, draw, mut best } = self;
        let key = draw.key();
        let end = first_key + scores.len();
        for start in (first_key / BLOCK * BLOCK..end).step_by(BLOCK) {
            // The block's scores, impossible outside of the row.
            let (from, to) = (start.max(first_key), (start + BLOCK).min(end));
            let inside = &scores[from - first_key..to - first_key];
            let mut padded = [T::neg_infinity(); BLOCK];
            let row: &[T; BLOCK] = match inside.try_into() {
                Ok(row) => row,
                Err(_) => {
                    padded[from - start..to - start].copy_from_slice(inside);
                    &padded
                }
            };
            let words = words(&draw, key, (start / BLOCK) as u32);
            // 1 − u, rounded down.
            let mut rest = [T::zero(); BLOCK];
            for lane in 0..LANES {
                let scale = T::of(1.0 / (1u64 << 31) as f64);
                rest[lane] = T::from_i32((!words[0][lane] as u32 >> 1) as i32) * scale;
                rest[LANES + lane] = T::from_i32((!words[2][lane] as u32 >> 1) as i32) * scale;
            }
            let compete = |j: usize, best: Option<Winner>| {
                // NaN fails the first comparison.
                if row[j] > T::neg_infinity() {
                    let half = 2 * (j / LANES);
                    let [high, low] = [half, half + 1].map(|word| words[word][j % LANES] as u32);
                    let u = uniform(high, low);
                    let value = row[j].min(T::max_value()).f64() + gumbel(u);
                    if beats(value, start + j, best) {
                        return Some(Winner { value, key: start + j });
                    }
                }
                best
            };
            if best.is_none() {
                // Some bound to begin with, and often a close one: the key with the largest u.
                let likeliest = (0..BLOCK)
                    .filter(|&j| row[j] > T::neg_infinity())
                    .min_by(|&a, &b| rest[a].partial_cmp(&rest[b]).expect("rest is a number"));
                best = likeliest.and_then(|j| compete(j, best));
            }
            let bound = best.map_or(T::neg_infinity(), |best| rounded_down(best.value));
            let (ceilings, found) = ceilings(simd, row, &rest, bound);
            if found {
                for j in 0..BLOCK {
                    if rest[j] <= ceilings[j] {
                        best = compete(j, best);
                    }
                }
            }
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

/// exp(score − bound), at most 1 and rounded up, and whether any of `rest` = 1 − u lies below its
/// own: as −log u ≥ 1 − u, a key whose `rest` lies above cannot reach the bound.
#[inline(always)]
fn ceilings<S: Simd>(
    simd: S,
    scores: &[S::Element; BLOCK],
    rest: &[S::Element; BLOCK],
    bound: S::Element,
) -> ([S::Element; BLOCK], bool) {
    let nothing = simd.splat(zero::<S>());
    let bound = simd.splat(bound);
    // More than the relative rounding of a difference of at most 90, beyond which the exponential
    // vanishes, of the exponential and of the product.
    let generosity = simd.splat(S::Element::of(1.001));
    let mut ceilings = [zero::<S>(); BLOCK];
    let mut found = false;
    for first in (0..BLOCK).step_by(S::LANES) {
        let score = simd.read(&scores[first..], nothing);
        let below = simd.min(nothing, simd.sub(score, bound));
        let ceiling = simd.mul(generosity, exp(simd, below));
        simd.write(&mut ceilings[first..], ceiling);
        found |= simd.any(simd.not_less(ceiling, simd.read(&rest[first..], nothing)));
    }
    (ceilings, found)
}
