//! 256-bit vectors with fused multiply-add.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::{Kernel, Simd};
use crate::math::Elementary;

/// AVX2 and FMA. Holding one proves that the processor has them.
#[derive(Clone, Copy, Debug)]
pub struct Avx2<T>(PhantomData<T>);

impl<T> Avx2<T> {
    /// # Safety
    /// The processor must have AVX2 and FMA.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Self(PhantomData)
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline(never)]
fn enter<S: Simd, K: Kernel<S::Element>>(simd: S, kernel: K) -> K::Output {
    kernel.run(simd)
}

/// Lanes 0..n all ones, the rest zero.
#[target_feature(enable = "avx2")]
#[inline]
fn live_32(n: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

/// Lanes 0..n all ones, the rest zero.
#[target_feature(enable = "avx2")]
#[inline]
fn live_64(n: usize) -> __m256i {
    _mm256_cmpgt_epi64(_mm256_set1_epi64x(n as i64), _mm256_setr_epi64x(0, 1, 2, 3))
}

/// As [`Elementary::times_power_of_two`].
#[target_feature(enable = "avx2,fma")]
#[inline]
fn scale_f32(p: __m256, rounded: __m256) -> __m256 {
    let bias = _mm256_set1_epi32(126i32.wrapping_sub(f32::ROUNDER.to_bits() as i32));
    let power = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_castps_si256(rounded), bias));
    _mm256_mul_ps(_mm256_add_ps(p, p), _mm256_castsi256_ps(power))
}

/// As [`Elementary::times_power_of_two`].
#[target_feature(enable = "avx2,fma")]
#[inline]
fn scale_f64(p: __m256d, rounded: __m256d) -> __m256d {
    let bias = _mm256_set1_epi64x(1022i64.wrapping_sub(f64::ROUNDER.to_bits() as i64));
    let power = _mm256_slli_epi64::<52>(_mm256_add_epi64(_mm256_castpd_si256(rounded), bias));
    _mm256_mul_pd(_mm256_add_pd(p, p), _mm256_castsi256_pd(power))
}

#[target_feature(enable = "avx2")]
#[inline]
fn reduce_add_f32(x: __m256) -> f32 {
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn reduce_max_f32(x: __m256) -> f32 {
    let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn reduce_add_f64(x: __m256d) -> f64 {
    let x = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x));
    _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn reduce_max_f64(x: __m256d) -> f64 {
    let x = _mm_max_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x));
    _mm_cvtsd_f64(_mm_max_sd(x, _mm_unpackhi_pd(x, x)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn sums_behind_f32(x: __m256) -> __m256 {
    /// Lanes `BYTES` / 4 further up, zeros behind them.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn up<const BYTES: i32>(x: __m256) -> __m256 {
        let x = _mm256_castps_si256(x);
        let upper = _mm256_permute2x128_si256::<0x81>(x, x);
        _mm256_castsi256_ps(_mm256_alignr_epi8::<BYTES>(upper, x))
    }
    let x = up::<4>(x);
    let x = _mm256_add_ps(x, up::<4>(x));
    let x = _mm256_add_ps(x, up::<8>(x));
    _mm256_add_ps(x, _mm256_permute2f128_ps::<0x81>(x, x))
}

#[target_feature(enable = "avx2")]
#[inline]
fn sums_behind_f64(x: __m256d) -> __m256d {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn up(x: __m256d) -> __m256d {
        _mm256_shuffle_pd::<0b0101>(x, _mm256_permute2f128_pd::<0x81>(x, x))
    }
    let x = up(x);
    let x = _mm256_add_pd(x, up(x));
    _mm256_add_pd(x, _mm256_permute2f128_pd::<0x81>(x, x))
}

#[target_feature(enable = "avx2")]
#[inline]
fn first_f32(x: __m256) -> __m256 {
    _mm256_broadcastss_ps(_mm256_castps256_ps128(x))
}

#[target_feature(enable = "avx2")]
#[inline]
fn first_f64(x: __m256d) -> __m256d {
    _mm256_broadcastsd_pd(_mm256_castpd256_pd128(x))
}

macro_rules! implement {
    ($element:ty, $vector:ty, $lanes:literal, $live:ident, $cast:ident,
     $set1:ident, $loadu:ident, $storeu:ident, $maskload:ident, $maskstore:ident,
     $add:ident, $sub:ident, $mul:ident, $div:ident, $fmadd:ident, $min:ident, $max:ident,
     $scale:ident, $cmp:ident, $blend:ident, $movemask:ident,
     $reduce_add:ident, $reduce_max:ident, $sums_behind:ident, $first:ident) => {
        // SAFETY (every intrinsic below): a token exists, so the processor has the instructions;
        // memory is touched only in `load`, `store` and, within the slice, the `_part` pair.
        #[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, given above")]
        impl Simd for Avx2<$element> {
            type Element = $element;
            type Vector = $vector;
            type Mask = $vector;
            const LANES: usize = $lanes;
            const INTERLEAVED: usize = 2;
            // 6 × 2 accumulators, two vectors of b and one of a: 15 of 16 registers.
            const TILE_ROWS: usize = 6;

            #[inline(always)]
            fn vectorize<K: Kernel<$element>>(self, kernel: K) -> K::Output {
                unsafe { enter(self, kernel) }
            }
            #[inline(always)]
            fn prefetch(self, at: *const $element) {
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
            }
            #[inline(always)]
            fn splat(self, x: $element) -> $vector {
                unsafe { $set1(x) }
            }
            #[inline(always)]
            unsafe fn load(self, from: *const $element) -> $vector {
                unsafe { $loadu(from) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $element, x: $vector) {
                unsafe { $storeu(to, x) }
            }
            #[inline(always)]
            fn load_part(self, from: &[$element], fill: $vector) -> $vector {
                debug_assert!(from.len() < $lanes);
                unsafe {
                    let live = $live(from.len());
                    $blend(fill, $maskload(from.as_ptr(), live), $cast(live))
                }
            }
            #[inline(always)]
            fn store_part(self, to: &mut [$element], x: $vector) {
                debug_assert!(to.len() < $lanes);
                unsafe { $maskstore(to.as_mut_ptr(), $live(to.len()), x) }
            }
            #[inline(always)]
            fn add(self, a: $vector, b: $vector) -> $vector {
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            fn sub(self, a: $vector, b: $vector) -> $vector {
                unsafe { $sub(a, b) }
            }
            #[inline(always)]
            fn mul(self, a: $vector, b: $vector) -> $vector {
                unsafe { $mul(a, b) }
            }
            #[inline(always)]
            fn div(self, a: $vector, b: $vector) -> $vector {
                unsafe { $div(a, b) }
            }
            #[inline(always)]
            fn mul_add(self, a: $vector, b: $vector, c: $vector) -> $vector {
                unsafe { $fmadd(a, b, c) }
            }
            #[inline(always)]
            fn min(self, a: $vector, b: $vector) -> $vector {
                unsafe { $min(a, b) }
            }
            #[inline(always)]
            fn max(self, a: $vector, b: $vector) -> $vector {
                unsafe { $max(a, b) }
            }
            #[inline(always)]
            fn scale(self, p: $vector, _n: $vector, rounded: $vector) -> $vector {
                unsafe { $scale(p, rounded) }
            }
            #[inline(always)]
            fn equal(self, a: $vector, b: $vector) -> $vector {
                unsafe { $cmp::<_CMP_EQ_OQ>(a, b) }
            }
            #[inline(always)]
            fn not_less(self, a: $vector, b: $vector) -> $vector {
                unsafe { $cmp::<_CMP_NLT_UQ>(a, b) }
            }
            #[inline(always)]
            fn select(self, mask: $vector, yes: $vector, no: $vector) -> $vector {
                unsafe { $blend(no, yes, mask) }
            }
            #[inline(always)]
            fn any(self, mask: $vector) -> bool {
                unsafe { $movemask(mask) != 0 }
            }
            #[inline(always)]
            fn bits(self, mask: $vector) -> u32 {
                unsafe { $movemask(mask) as u32 }
            }
            #[inline(always)]
            fn reduce_add(self, x: $vector) -> $element {
                unsafe { $reduce_add(x) }
            }
            #[inline(always)]
            fn sums_behind(self, x: $vector) -> $vector {
                unsafe { $sums_behind(x) }
            }
            #[inline(always)]
            fn first(self, x: $vector) -> $vector {
                unsafe { $first(x) }
            }
            #[inline(always)]
            fn reduce_max(self, x: $vector) -> $element {
                unsafe { $reduce_max(x) }
            }
        }
    };
}

implement!(
    f32,
    __m256,
    8,
    live_32,
    _mm256_castsi256_ps,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_maskload_ps,
    _mm256_maskstore_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps,
    _mm256_div_ps,
    _mm256_fmadd_ps,
    _mm256_min_ps,
    _mm256_max_ps,
    scale_f32,
    _mm256_cmp_ps,
    _mm256_blendv_ps,
    _mm256_movemask_ps,
    reduce_add_f32,
    reduce_max_f32,
    sums_behind_f32,
    first_f32
);
implement!(
    f64,
    __m256d,
    4,
    live_64,
    _mm256_castsi256_pd,
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_maskload_pd,
    _mm256_maskstore_pd,
    _mm256_add_pd,
    _mm256_sub_pd,
    _mm256_mul_pd,
    _mm256_div_pd,
    _mm256_fmadd_pd,
    _mm256_min_pd,
    _mm256_max_pd,
    scale_f64,
    _mm256_cmp_pd,
    _mm256_blendv_pd,
    _mm256_movemask_pd,
    reduce_add_f64,
    reduce_max_f64,
    sums_behind_f64,
    first_f64
);
