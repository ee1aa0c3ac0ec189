//! 512-bit vectors with mask registers.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::{Kernel, Simd};

/// AVX-512 F, DQ, BW and VL. Holding one proves that the processor has them.
#[derive(Clone, Copy, Debug)]
pub struct Avx512<T>(PhantomData<T>);

impl<T> Avx512<T> {
    /// # Safety
    /// The processor must have AVX-512 F, DQ, BW and VL.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Self(PhantomData)
    }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512bw,avx512vl")]
#[inline(never)]
fn enter<S: Simd, K: Kernel<S::Element>>(simd: S, kernel: K) -> K::Output {
    kernel.run(simd)
}

/// 16 × 16: two rounds of interleaving within 128 bits, two of exchanging them.
///
/// # Safety
/// Both must be valid for 16 rows of 16 elements at their strides.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn transpose_f32(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    let mut quads = [_mm512_setzero_ps(); 16];
    for i in (0..16).step_by(4) {
        // SAFETY: the caller's promise.
        let row = |k| unsafe { _mm512_loadu_ps(from.add((i + k) * from_stride)) };
        let (a, b) = (_mm512_unpacklo_ps(row(0), row(1)), _mm512_unpackhi_ps(row(0), row(1)));
        let (c, d) = (_mm512_unpacklo_ps(row(2), row(3)), _mm512_unpackhi_ps(row(2), row(3)));
        let pairs = |x, y| (_mm512_castps_pd(x), _mm512_castps_pd(y));
        let ((a, c), (b, d)) = (pairs(a, c), pairs(b, d));
        // quads[i + k], 128 bits at a time: entry 4·lane + k of rows i to i + 3.
        quads[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        quads[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        quads[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        quads[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    for k in 0..4 {
        let (a, b, c, d) = (quads[k], quads[4 + k], quads[8 + k], quads[12 + k]);
        let (even_ab, odd_ab) =
            (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        let (even_cd, odd_cd) =
            (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
        let columns = [
            _mm512_shuffle_f32x4::<0x88>(even_ab, even_cd),
            _mm512_shuffle_f32x4::<0x88>(odd_ab, odd_cd),
            _mm512_shuffle_f32x4::<0xdd>(even_ab, even_cd),
            _mm512_shuffle_f32x4::<0xdd>(odd_ab, odd_cd),
        ];
        for (lane, column) in columns.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(to.add((4 * lane + k) * to_stride), column) };
        }
    }
}

/// 8 × 8: one round of interleaving within 128 bits, two of exchanging them.
///
/// # Safety
/// Both must be valid for 8 rows of 8 elements at their strides.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn transpose_f64(from: *const f64, from_stride: usize, to: *mut f64, to_stride: usize) {
    let mut pairs = [_mm512_setzero_pd(); 8];
    for i in (0..8).step_by(2) {
        // SAFETY: the caller's promise.
        let row = |k| unsafe { _mm512_loadu_pd(from.add((i + k) * from_stride)) };
        pairs[i] = _mm512_unpacklo_pd(row(0), row(1));
        pairs[i + 1] = _mm512_unpackhi_pd(row(0), row(1));
    }
    for k in 0..2 {
        let (a, b, c, d) = (pairs[k], pairs[2 + k], pairs[4 + k], pairs[6 + k]);
        let (even_ab, odd_ab) =
            (_mm512_shuffle_f64x2::<0x88>(a, b), _mm512_shuffle_f64x2::<0xdd>(a, b));
        let (even_cd, odd_cd) =
            (_mm512_shuffle_f64x2::<0x88>(c, d), _mm512_shuffle_f64x2::<0xdd>(c, d));
        let columns = [
            _mm512_shuffle_f64x2::<0x88>(even_ab, even_cd),
            _mm512_shuffle_f64x2::<0x88>(odd_ab, odd_cd),
            _mm512_shuffle_f64x2::<0xdd>(even_ab, even_cd),
            _mm512_shuffle_f64x2::<0xdd>(odd_ab, odd_cd),
        ];
        for (lane, column) in columns.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_pd(to.add((2 * lane + k) * to_stride), column) };
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn sums_behind_f32(x: __m512) -> __m512 {
    /// Lanes `BY` further up, zeros behind them.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn up<const BY: i32>(x: __m512) -> __m512 {
        _mm512_castsi512_ps(_mm512_alignr_epi32::<BY>(
            _mm512_setzero_si512(),
            _mm512_castps_si512(x),
        ))
    }
    let x = up::<1>(x);
    let x = _mm512_add_ps(x, up::<1>(x));
    let x = _mm512_add_ps(x, up::<2>(x));
    let x = _mm512_add_ps(x, up::<4>(x));
    _mm512_add_ps(x, up::<8>(x))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn first_f32(x: __m512) -> __m512 {
    _mm512_broadcastss_ps(_mm512_castps512_ps128(x))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn sums_behind_f64(x: __m512d) -> __m512d {
    /// Lanes `BY` further up, zeros behind them.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn up<const BY: i32>(x: __m512d) -> __m512d {
        _mm512_castsi512_pd(_mm512_alignr_epi64::<BY>(
            _mm512_setzero_si512(),
            _mm512_castpd_si512(x),
        ))
    }
    let x = up::<1>(x);
    let x = _mm512_add_pd(x, up::<1>(x));
    let x = _mm512_add_pd(x, up::<2>(x));
    _mm512_add_pd(x, up::<4>(x))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn first_f64(x: __m512d) -> __m512d {
    _mm512_broadcastsd_pd(_mm512_castpd512_pd128(x))
}

macro_rules! implement {
    ($element:ty, $vector:ty, $mask:ty, $lanes:literal,
     $set1:ident, $loadu:ident, $storeu:ident, $mask_loadu:ident, $mask_storeu:ident,
     $add:ident, $sub:ident, $mul:ident, $div:ident, $fmadd:ident, $min:ident, $max:ident,
     $scalef:ident, $cmp:ident, $blend:ident, $reduce_add:ident, $reduce_max:ident,
     $sums_behind:ident, $first:ident, $transpose:ident) => {
        // SAFETY (every intrinsic below): a token exists, so the processor has the instructions;
        // memory is touched only in `load`, `store` and, within the slice, the `_part` pair.
        #[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, given above")]
        impl Simd for Avx512<$element> {
            type Element = $element;
            type Vector = $vector;
            type Mask = $mask;
            const LANES: usize = $lanes;
            const INTERLEAVED: usize = 4;
            // 12 × 2 accumulators, two vectors of b and one of a: 27 of 32 registers, and enough
            // independent chains to cover the latency of the multiply-add twice over.
            const TILE_ROWS: usize = 12;

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
                let live = ((1u32 << from.len().min($lanes)) - 1) as $mask;
                unsafe { $mask_loadu(fill, live, from.as_ptr()) }
            }
            #[inline(always)]
            fn store_part(self, to: &mut [$element], x: $vector) {
                debug_assert!(to.len() < $lanes);
                let live = ((1u32 << to.len().min($lanes)) - 1) as $mask;
                unsafe { $mask_storeu(to.as_mut_ptr(), live, x) }
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
            fn scale(self, p: $vector, n: $vector, _rounded: $vector) -> $vector {
                unsafe { $scalef(p, n) }
            }
            #[inline(always)]
            fn equal(self, a: $vector, b: $vector) -> $mask {
                unsafe { $cmp::<_CMP_EQ_OQ>(a, b) }
            }
            #[inline(always)]
            fn not_less(self, a: $vector, b: $vector) -> $mask {
                unsafe { $cmp::<_CMP_NLT_UQ>(a, b) }
            }
            #[inline(always)]
            fn select(self, mask: $mask, yes: $vector, no: $vector) -> $vector {
                unsafe { $blend(mask, no, yes) }
            }
            #[inline(always)]
            fn any(self, mask: $mask) -> bool {
                mask != 0
            }
            #[inline(always)]
            fn bits(self, mask: $mask) -> u32 {
                u32::from(mask)
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
            #[inline(always)]
            unsafe fn transpose(
                self,
                from: *const $element,
                from_stride: usize,
                to: *mut $element,
                to_stride: usize,
            ) {
                unsafe { $transpose(from, from_stride, to, to_stride) }
            }
        }
    };
}

implement!(
    f32,
    __m512,
    __mmask16,
    16,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_mask_loadu_ps,
    _mm512_mask_storeu_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_mul_ps,
    _mm512_div_ps,
    _mm512_fmadd_ps,
    _mm512_min_ps,
    _mm512_max_ps,
    _mm512_scalef_ps,
    _mm512_cmp_ps_mask,
    _mm512_mask_blend_ps,
    _mm512_reduce_add_ps,
    _mm512_reduce_max_ps,
    sums_behind_f32,
    first_f32,
    transpose_f32
);
implement!(
    f64,
    __m512d,
    __mmask8,
    8,
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_mask_loadu_pd,
    _mm512_mask_storeu_pd,
    _mm512_add_pd,
    _mm512_sub_pd,
    _mm512_mul_pd,
    _mm512_div_pd,
    _mm512_fmadd_pd,
    _mm512_min_pd,
    _mm512_max_pd,
    _mm512_scalef_pd,
    _mm512_cmp_pd_mask,
    _mm512_mask_blend_pd,
    _mm512_reduce_add_pd,
    _mm512_reduce_max_pd,
    sums_behind_f64,
    first_f64,
    transpose_f64
);
