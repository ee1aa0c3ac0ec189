//! Portable vectors: arrays the compiler turns into the build target's own.

use std::marker::PhantomData;

use super::{Kernel, Simd};
use crate::Real;

/// `N` elements of `T` in an array.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain<T, const N: usize>(PhantomData<T>);

macro_rules! lanewise {
    (|$($x:ident),+| $e:expr) => {{
        let mut out = [T::zero(); N];
        for lane in 0..N {
            $(let $x = $x[lane];)+
            out[lane] = $e;
        }
        out
    }};
}

impl<T: Real, const N: usize> Simd for Plain<T, N> {
    type Element = T;
    type Vector = [T; N];
    type Mask = [bool; N];
    const LANES: usize = N;
    const INTERLEAVED: usize = 4;
    const TILE_ROWS: usize = 4;

    #[inline(never)]
    fn vectorize<K: Kernel<T>>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
    #[inline(always)]
    fn splat(self, x: T) -> [T; N] {
        [x; N]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const T) -> [T; N] {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[T; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut T, x: [T; N]) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[T; N]>().write_unaligned(x) }
    }
    #[inline(always)]
    fn load_part(self, from: &[T], fill: [T; N]) -> [T; N] {
        let mut out = fill;
        out.iter_mut().zip(from).for_each(|(out, &x)| *out = x);
        out
    }
    #[inline(always)]
    fn store_part(self, to: &mut [T], x: [T; N]) {
        to.iter_mut().zip(x).for_each(|(to, x)| *to = x);
    }
    #[inline(always)]
    fn add(self, a: [T; N], b: [T; N]) -> [T; N] {
        lanewise!(|a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: [T; N], b: [T; N]) -> [T; N] {
        lanewise!(|a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: [T; N], b: [T; N]) -> [T; N] {
        lanewise!(|a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: [T; N], b: [T; N]) -> [T; N] {
        lanewise!(|a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, a: [T; N], b: [T; N], c: [T; N]) -> [T; N] {
        // Not `T::mul_add`: without the instruction that is a library call per lane.
        lanewise!(|a, b, c| a * b + c)
    }
    #[inline(always)]
    fn min(self, a: [T; N], b: [T; N]) -> [T; N] {
        lanewise!(|a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(self, a: [T; N], b: [T; N]) -> [T; N] {
        lanewise!(|a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn scale(self, p: [T; N], _n: [T; N], rounded: [T; N]) -> [T; N] {
        lanewise!(|p, rounded| p.times_power_of_two(rounded))
    }
    #[inline(always)]
    fn equal(self, a: [T; N], b: [T; N]) -> [bool; N] {
        std::array::from_fn(|lane| a[lane] == b[lane])
    }
    #[inline(always)]
    #[allow(clippy::neg_cmp_op_on_partial_ord, reason = "NaN must give true")]
    fn not_less(self, a: [T; N], b: [T; N]) -> [bool; N] {
        std::array::from_fn(|lane| !(a[lane] < b[lane]))
    }
    #[inline(always)]
    fn select(self, mask: [bool; N], yes: [T; N], no: [T; N]) -> [T; N] {
        lanewise!(|mask, yes, no| if mask { yes } else { no })
    }
    #[inline(always)]
    fn any(self, mask: [bool; N]) -> bool {
        mask.contains(&true)
    }
    #[inline(always)]
    fn bits(self, mask: [bool; N]) -> u32 {
        (0..N).fold(0, |bits, lane| bits | u32::from(mask[lane]) << lane)
    }
    #[inline(always)]
    fn reduce_add(self, x: [T; N]) -> T {
        x.into_iter().fold(T::zero(), |sum, x| sum + x)
    }
    #[inline(always)]
    fn sums_behind(self, x: [T; N]) -> [T; N] {
        let mut sums = [T::zero(); N];
        for lane in (1..N).rev() {
            sums[lane - 1] = sums[lane] + x[lane];
        }
        sums
    }
    #[inline(always)]
    fn first(self, x: [T; N]) -> [T; N] {
        [x[0]; N]
    }
    #[inline(always)]
    fn reduce_max(self, x: [T; N]) -> T {
        x.into_iter().fold(T::neg_infinity(), |most, x| if x > most { x } else { most })
    }
}
