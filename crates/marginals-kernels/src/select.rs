//! Selection of the largest of a row of scores.

use num_traits::Float;

use crate::math::zero;
use crate::simd::{Kernel, Simd, run};
use crate::{InstructionSet, Real};

/// Hands the scores of a row that may be among its `count` largest to `take`, with their indices; those below
/// `bound`, and NaN, do not count. All of the largest are handed over, with every score that equals the least
/// of them, and few others.
///
/// Two passes compare whole vectors. The first finds the largest score of each of 64 groups: the `count`-th
/// largest of these is no larger than that of all scores, and nearly as large. So it costs nothing if scores
/// rise along the row and each beats those before it. With more than 64 wanted, `bound` alone decides. The
/// second goes from the last score to the first: where queries look back, the nearest keys are the last, and
/// whoever keeps the largest in order does least if they come first.
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
        bound = raised(simd, &largest, count, bound);
        let bounds = simd.splat(bound);
        for (vector, lanes) in scores.chunks(S::LANES).enumerate().rev() {
            let mut reaching = simd.bits(simd.not_less(simd.read(lanes, nothing), bounds));
            while reaching != 0 {
                let lane = reaching.ilog2() as usize;
                reaching ^= 1 << lane;
                // NaN is not less than anything, and neither is what fills the last vector than −∞.
                if let Some(&score) = lanes.get(lane).filter(|score| **score >= bound) {
                    take(vector * S::LANES + lane, score);
                }
            }
        }
    }
}

/// Halvings of the range in which the bound is sought.
const HALVINGS: usize = 8;

/// A bound that `count` of the numbers reach still, near the highest such; `bound`, where too few reach it.
#[inline(always)]
fn raised<S: Simd>(
    simd: S,
    numbers: &[S::Element; GROUPS],
    count: usize,
    bound: S::Element,
) -> S::Element {
    let reaching = |bound: S::Element| numbers.iter().filter(|number| **number >= bound).count();
    if !(1..=reaching(bound)).contains(&count) {
        return bound;
    }
    let (mut least, mut most) = (simd.splat(<S::Element as Float>::infinity()), simd.splat(bound));
    let (none, bounds) = (least, most);
    for numbers in numbers.chunks(S::LANES) {
        let numbers = simd.read(numbers, none);
        let reach = simd.not_less(numbers, bounds);
        least = simd.min(simd.select(reach, numbers, none), least);
        most = simd.max(numbers, most);
    }
    let nothing = simd.splat(zero::<S>());
    let mut low = -simd.reduce_max(simd.sub(nothing, least));
    let mut high = simd.reduce_max(most);
    for _ in 0..HALVINGS {
        let middle = low + (high - low) * S::Element::of(0.5);
        match reaching(middle) {
            so_many if so_many == count => return middle,
            so_many if so_many > count => low = middle,
            _ => high = middle,
        }
    }
    low
}
