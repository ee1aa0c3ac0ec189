//! Selection of the largest of a row of scores.

use crate::simd::{Kernel, Simd, run};
use crate::{InstructionSet, Real};

/// Hands the scores of a row that may be among its `count` largest to `take`, in order and with their indices;
/// those below `bound`, and NaN, do not count. All of the largest are handed over, with every score that
/// equals the least of them, and few others.
///
/// Two passes compare whole vectors. The first finds the largest score of each of 64 groups: the `count`-th
/// largest of these is no larger than that of all scores, and nearly as large. So it costs nothing if scores rise
/// along the row and each beats those before it. With more than 64 wanted, `bound` alone decides.
pub fn each_contender<T: Real>(
    set: InstructionSet,
    scores: &[T],
    count: usize,
    bound: T,
    take: impl FnMut(usize, T),
) {
    run(set, EachContender { scores, count, bound, take });
}

/// Groups of scores, a multiple of the lanes of every vector: a score belongs to the group of its index
/// modulo this.
const GROUPS: usize = 64;

struct EachContender<'a, T, F> {
    scores: &'a [T],
    count: usize,
    bound: T,
    take: F,
}

impl<T: Real, F: FnMut(usize, T)> Kernel<T> for EachContender<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { scores, count, mut bound, mut take } = self;
        let nothing = simd.splat(T::neg_infinity());
        let mut largest = [T::neg_infinity(); GROUPS];
        for scores in scores.chunks(GROUPS) {
            for (scores, largest) in scores.chunks(S::LANES).zip(largest.chunks_mut(S::LANES)) {
                let so_far = simd.read(largest, nothing);
                simd.write(largest, simd.max(simd.read(scores, nothing), so_far));
            }
        }
        bound = raised(&largest, count, bound);
        let bounds = simd.splat(bound);
        for (first, lanes) in (0..).step_by(S::LANES).zip(scores.chunks(S::LANES)) {
            let mut reaching = simd.bits(simd.not_less(simd.read(lanes, nothing), bounds));
            while reaching != 0 {
                let lane = reaching.trailing_zeros() as usize;
                reaching &= reaching - 1;
                // NaN is not less than anything.
                if lanes[lane] >= bound {
                    take(first + lane, lanes[lane]);
                }
            }
        }
    }
}

/// Halvings of the range in which the bound is sought.
const HALVINGS: usize = 8;

/// A bound that `count` of the numbers reach still, near the highest such; `bound`, where too few reach it.
#[inline(always)]
fn raised<T: Real>(numbers: &[T; GROUPS], count: usize, bound: T) -> T {
    let reaching = |bound: T| numbers.iter().filter(|number| **number >= bound).count();
    if !(1..=reaching(bound)).contains(&count) {
        return bound;
    }
    let of = |least: T, number: &T| if *number >= bound { least.min(*number) } else { least };
    let mut low = numbers.iter().fold(T::infinity(), of);
    let mut high = numbers.iter().fold(low, |most, number| most.max(*number));
    for _ in 0..HALVINGS {
        let middle = low + (high - low) * T::of(0.5);
        match reaching(middle) {
            so_many if so_many == count => return middle,
            so_many if so_many > count => low = middle,
            _ => high = middle,
        }
    }
    low
}
