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

macro_rules! implement {
    ($element:ty, $vector:ty, $mask:ty, $lanes:literal,
     $set1:ident, $loadu:ident, $storeu:ident, $mask_loadu:ident, $mask_storeu:ident,
     $add:ident, $sub:ident, $mul:ident, $div:ident, $fmadd:ident, $min:ident, $max:ident,
     $scalef:ident, $cmp:ident, $blend:ident, $reduce_add:ident, $reduce_max:ident) => {
        // SAFETY (every intrinsic below): a token exists, so the processor has the instructions;
        // memory is touched only in `load`, `store` and, within the slice, the `_part` pair.
        #[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, given above")]
        impl Simd for Avx512<$element> {
            type Element = $element;
            type Vector = $vector;
            type Mask = $mask;
            const LANES: usize = $lanes;
            // 12 × 2 accumulators, two vectors of b and one of a: 27 of 32 registers, and enough
            // independent chains to cover the latency of the multiply-add twice over.
            const TILE_ROWS: usize = 12;

            #[inline(always)]
            fn vectorize<K: Kernel<$element>>(self, kernel: K) -> K::Output {
                unsafe { enter(self, kernel) }
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
            fn scale(self, p: $vector, n: $vector) -> $vector {
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
            fn reduce_add(self, x: $vector) -> $element {
                unsafe { $reduce_add(x) }
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
    _mm512_reduce_max_ps
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
    _mm512_reduce_max_pd
);
