//! Elementary functions of whole vectors.

use crate::Real;
use crate::simd::Simd;

/// Element type, as the elementary functions need it.
pub trait Elementary: Sized + 'static {
    /// log₂ e.
    const LOG2_E: Self;
    /// Minus the leading bits of ln 2: n times it is exact for every exponent n.
    const MINUS_LN_2_HIGH: Self;
    /// Minus the rest of ln 2.
    const MINUS_LN_2_LOW: Self;
    /// 1.5 · 2^(mantissa bits): adding it rounds to an integer.
    const ROUNDER: Self;
    /// Below this, exp is flushed to 0: the least argument whose exponent, less one, is that of a
    /// normal number.
    const EXP_LOWEST: Self;
    /// An argument whose exponential overflows.
    const EXP_HIGHEST: Self;
    /// Coefficients of exp on [−½ ln 2, ½ ln 2], highest power first.
    const EXP: &'static [Self];
    /// 2/(2k+1), highest power first: atanh(s) = ½ s Σ 2 s^2k / (2k+1).
    const TWICE_ATANH: &'static [Self];
    /// The nearest value.
    fn from_i32(x: i32) -> Self;
    /// self · 2ⁿ where `rounded` is n + [`Elementary::ROUNDER`], for n from the exponent of
    /// [`Elementary::EXP_LOWEST`] to that of [`Elementary::EXP_HIGHEST`]; any number for other n.
    fn times_power_of_two(self, rounded: Self) -> Self;
}

impl Elementary for f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const MINUS_LN_2_HIGH: f32 = -0.693_359_4;
    const MINUS_LN_2_LOW: f32 = 2.121_944_4e-4;
    const ROUNDER: f32 = 12_582_912.0;
    const EXP_LOWEST: f32 = -86.9;
    const EXP_HIGHEST: f32 = 89.0;
    // Minimax for the relative error with the first two coefficients held at 1, which makes
    // exp(0) exact: 3.1e-9 before rounding.
    const EXP: &'static [f32] =
        &[0.001_381_46, 0.008_368_717, 0.041_668_39, 0.166_665_21, 0.499_999_94, 1.0, 1.0];
    const TWICE_ATANH: &'static [f32] =
        &[2.0 / 15.0, 2.0 / 13.0, 2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0];

    #[inline(always)]
    fn from_i32(x: i32) -> f32 {
        x as f32
    }
    #[inline(always)]
    fn times_power_of_two(self, rounded: f32) -> f32 {
        // Twice 2ⁿ⁻¹: 2ⁿ itself overflows before the product does.
        let n = rounded.to_bits().wrapping_sub(Self::ROUNDER.to_bits());
        (self + self) * f32::from_bits(n.wrapping_add(126) << 23)
    }
}

impl Elementary for f64 {
    const LOG2_E: f64 = std::f64::consts::LOG2_E;
    const MINUS_LN_2_HIGH: f64 = -6.931_471_803_691_238e-1;
    const MINUS_LN_2_LOW: f64 = -1.908_214_929_270_587_7e-10;
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    const EXP_LOWEST: f64 = -707.9;
    const EXP_HIGHEST: f64 = 710.0;
    // Taylor: the first term left out is 4e-18 at the end of the interval.
    const EXP: &'static [f64] = &[
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    const TWICE_ATANH: &'static [f64] = &[
        2.0 / 35.0,
        2.0 / 33.0,
        2.0 / 31.0,
        2.0 / 29.0,
        2.0 / 27.0,
        2.0 / 25.0,
        2.0 / 23.0,
        2.0 / 21.0,
        2.0 / 19.0,
        2.0 / 17.0,
        2.0 / 15.0,
        2.0 / 13.0,
        2.0 / 11.0,
        2.0 / 9.0,
        2.0 / 7.0,
        2.0 / 5.0,
        2.0 / 3.0,
        2.0,
    ];

    #[inline(always)]
    fn from_i32(x: i32) -> f64 {
        x as f64
    }
    #[inline(always)]
    fn times_power_of_two(self, rounded: f64) -> f64 {
        // Twice 2ⁿ⁻¹: 2ⁿ itself overflows before the product does.
        let n = rounded.to_bits().wrapping_sub(Self::ROUNDER.to_bits());
        (self + self) * f64::from_bits(n.wrapping_add(1022) << 52)
    }
}

/// Horner's rule, highest power first.
#[inline(always)]
fn polynomial<S: Simd>(simd: S, x: S::Vector, coefficients: &'static [S::Element]) -> S::Vector {
    let mut sum = simd.splat(coefficients[0]);
    for &c in &coefficients[1..] {
        sum = simd.mul_add(sum, x, simd.splat(c));
    }
    sum
}

/// e^x for x up to [`Elementary::EXP_HIGHEST`] or NaN, and where it is not 0.
///
/// x = n ln 2 + r with n the nearest integer (Cody & Waite: ln 2 in two parts), e^r by a polynomial
/// of degree 6 (f32) or 13 (f64), scaled by 2ⁿ. Within 1 ulp in f32 where multiply-add is fused and
/// 1.25 ulp where it is not; within 1 ulp of the C library's in f64. exp(0) is exactly 1; results
/// below 2e-38 (f32) or 4e-308 (f64), twice the least normal number, are exactly 0, so that no slow subnormal ever enters a product.
///
/// Several vectors go through each step together: one alone would leave the multipliers waiting for
/// its own last result.
#[inline(always)]
pub fn exp_block<S: Simd, const N: usize>(
    simd: S,
    x: [S::Vector; N],
) -> ([S::Vector; N], [S::Mask; N]) {
    let rounder = simd.splat(S::Element::ROUNDER);
    let normal = x.map(|x| simd.not_less(x, simd.splat(S::Element::EXP_LOWEST)));
    let mut n = x;
    for n in &mut n {
        *n = simd.mul_add(*n, simd.splat(S::Element::LOG2_E), rounder);
    }
    let rounded = n;
    for n in &mut n {
        *n = simd.sub(*n, rounder);
    }
    let mut r = x;
    for k in 0..N {
        r[k] = simd.mul_add(n[k], simd.splat(S::Element::MINUS_LN_2_HIGH), r[k]);
    }
    for k in 0..N {
        r[k] = simd.mul_add(n[k], simd.splat(S::Element::MINUS_LN_2_LOW), r[k]);
    }
    let mut p = [simd.splat(S::Element::EXP[0]); N];
    for &c in &S::Element::EXP[1..] {
        for k in 0..N {
            p[k] = simd.mul_add(p[k], r[k], simd.splat(c));
        }
    }
    for k in 0..N {
        p[k] = simd.select(normal[k], simd.scale(p[k], n[k], rounded[k]), simd.splat(zero::<S>()));
    }
    (p, normal)
}

/// [`exp_block`] of one vector.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let ([e], _) = exp_block(simd, [x]);
    e
}

/// log(1 + x) for 0 ≤ x ≤ 1 or NaN, as 2 atanh(x / (2 + x)); with x an exponential, within 3.5 ulp.
#[inline(always)]
pub fn log_1p_of_fraction<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let s = simd.div(x, simd.add(x, simd.splat(S::Element::of(2.0))));
    simd.mul(s, polynomial(simd, simd.mul(s, s), S::Element::TWICE_ATANH))
}

/// The element 0.
#[inline(always)]
pub fn zero<S: Simd>() -> S::Element {
    num_traits::Zero::zero()
}
