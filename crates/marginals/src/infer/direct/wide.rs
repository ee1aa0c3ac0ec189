//! Doubles with a wide exponent.

use std::f64::consts::LN_2;

use super::numbers::{LANES, Number};

/// fraction · 2^(256 · exponent), 2⁻¹²⁸ ≤ |fraction| < 2¹²⁸, or 0.
///
/// Products of exponentials of scores: a double's precision at any scale, where logarithms would
/// lose as many digits as the scores have before the point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wide {
    fraction: f64,
    exponent: i64,
}

/// 2²⁵⁶.
const STEP: f64 = f64::from_bits((1023 + 256) << 52);
/// 2⁻²⁵⁶.
const BACK: f64 = f64::from_bits((1023 - 256) << 52);
/// 2¹²⁸.
const HIGH: f64 = f64::from_bits((1023 + 128) << 52);
/// 2⁻¹²⁸.
const LOW: f64 = f64::from_bits((1023 - 128) << 52);
/// ln 2 = [`LN_2`] + this.
const LN_2_REST: f64 = 2.319_046_813_846_299_6e-17;
/// Exponent of 0: below every other, so that sums pass it over.
const OF_ZERO: i64 = i64::MIN / 4;

impl Wide {
    #[inline]
    fn normal(fraction: f64, exponent: i64) -> Self {
        let size = fraction.abs();
        if size >= HIGH {
            Self { fraction: fraction * BACK, exponent: exponent + 1 }
        } else if size < LOW {
            if fraction == 0.0 {
                return Self::ZERO;
            }
            Self { fraction: fraction * STEP, exponent: exponent - 1 }
        } else {
            Self { fraction, exponent }
        }
    }

    /// The same number.
    pub fn from_f64(number: f64) -> Self {
        // A subnormal number takes two steps to be normal.
        let (mut fraction, mut exponent) = (number, 0);
        while fraction != 0.0 && fraction.abs() < LOW {
            (fraction, exponent) = (fraction * STEP, exponent - 1);
        }
        while fraction.is_finite() && fraction.abs() >= HIGH {
            (fraction, exponent) = (fraction * BACK, exponent + 1);
        }
        Self::normal(fraction, exponent)
    }

    /// The nearest double: ±∞ or 0 out of its range.
    pub fn to_f64(self) -> f64 {
        match self.exponent {
            -5 => self.fraction * BACK * BACK * BACK * BACK * BACK,
            -4 => self.fraction * BACK * BACK * BACK * BACK,
            -3 => self.fraction * BACK * BACK * BACK,
            -2 => self.fraction * BACK * BACK,
            -1 => self.fraction * BACK,
            0 => self.fraction,
            1 => self.fraction * STEP,
            2 => self.fraction * STEP * STEP,
            3 => self.fraction * STEP * STEP * STEP,
            4 => self.fraction * STEP * STEP * STEP * STEP,
            exponent if exponent < 0 => 0.0 * self.fraction,
            _ => f64::INFINITY * self.fraction,
        }
    }

    /// e^score, for scores below 2⁵¹ in size, or −∞: within 2 ulp.
    pub fn exponential(score: f64) -> Self {
        if score == f64::NEG_INFINITY {
            return Self::ZERO;
        }
        let powers = (score / LN_2).round();
        let rest = (-powers).mul_add(LN_2_REST, (-powers).mul_add(LN_2, score));
        let steps = ((powers + 128.0) / 256.0).floor();
        let within = (powers - 256.0 * steps) as i32;
        Self::normal(rest.exp() * 2f64.powi(within), steps as i64)
    }

    /// Its logarithm; −∞ of 0.
    pub fn ln(self) -> f64 {
        if self.fraction == 0.0 {
            return f64::NEG_INFINITY;
        }
        let powers = 256.0 * self.exponent as f64;
        powers * LN_2 + (powers * LN_2_REST + self.fraction.ln())
    }
}

impl Number for Wide {
    type Pack = [Wide; LANES];
    const ZERO: Self = Self { fraction: 0.0, exponent: OF_ZERO };
    const ONE: Self = Self { fraction: 1.0, exponent: 0 };
    const ZEROS: Self::Pack = [Self::ZERO; LANES];

    #[inline]
    fn plus(self, other: Self) -> Self {
        let (high, low) =
            if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        match high.exponent - low.exponent {
            0 => Self::normal(high.fraction + low.fraction, high.exponent),
            1 => Self::normal(high.fraction + low.fraction * BACK, high.exponent),
            // Less than 2⁻²⁵⁶ of the other.
            _ => high,
        }
    }
    #[inline]
    fn minus(self, other: Self) -> Self {
        self.plus(Self { fraction: -other.fraction, exponent: other.exponent })
    }
    #[inline]
    fn times(self, other: Self) -> Self {
        Self::normal(self.fraction * other.fraction, self.exponent + other.exponent)
    }
    #[inline]
    fn reciprocal(self) -> Self {
        Self::normal(1.0 / self.fraction, -self.exponent)
    }
    #[inline]
    fn is_positive(self) -> bool {
        self.fraction > 0.0
    }

    #[inline]
    fn lane(pack: &Self::Pack, lane: usize) -> Self {
        pack[lane]
    }
    #[inline]
    fn set_lane(pack: &mut Self::Pack, lane: usize, number: Self) {
        pack[lane] = number;
    }
    #[inline]
    fn add_scaled(mut sum: Self::Pack, factor: Self, pack: &Self::Pack) -> Self::Pack {
        if factor.fraction != 0.0 {
            for lane in 0..LANES {
                sum[lane] = sum[lane].plus(factor.times(pack[lane]));
            }
        }
        sum
    }
    #[inline]
    fn add_product(mut sum: Self::Pack, a: &Self::Pack, b: &Self::Pack) -> Self::Pack {
        for lane in 0..LANES {
            sum[lane] = sum[lane].plus(a[lane].times(b[lane]));
        }
        sum
    }
    #[inline]
    fn total(pack: &Self::Pack) -> Self {
        pack.iter().fold(Self::ZERO, |sum, &number| sum.plus(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_that_of_doubles_where_both_reach() {
        let numbers =
            [1.0, -1.0, 0.3, 1e100, -1e-100, 1e-300, 7e299, 5e-324, 0.0, -2.5e-39, 3.4e38];
        for x in numbers {
            let wide = Wide::from_f64(x);
            assert_eq!(wide.to_f64(), x);
            for y in numbers {
                let other = Wide::from_f64(y);
                let close = |wide: Wide, double: f64| {
                    let there = (1e-290..1e290).contains(&double.abs());
                    assert!(
                        !there || (wide.to_f64() / double - 1.0).abs() < 1e-15,
                        "{x} {y}: {} {double}",
                        wide.to_f64()
                    );
                };
                close(wide.plus(other), x + y);
                close(wide.minus(other), x - y);
                close(wide.times(other), x * y);
                if y != 0.0 {
                    close(wide.times(other.reciprocal()), x / y);
                }
            }
        }
    }

    /// e^a e^b = e^(a+b) where the sum is exact, and ln undoes exp.
    #[test]
    fn exponentials_keep_their_digits_at_any_scale() {
        for score in [0.0, 0.5, -3.25, 88.7, -745.0, 1e4, -1e4, 123_456.75, -1e9, 1e15, -1e15] {
            let wide = Wide::exponential(score);
            assert!((wide.ln() - score).abs() <= 2e-16 * score.abs().max(1.0), "{score}");
            let product = wide.times(Wide::exponential(-score));
            assert!((product.to_f64() - 1.0).abs() < 2e-15, "{score}: {}", product.to_f64());
            let sum = Wide::exponential(score + 0.25).times(Wide::exponential(-score));
            assert!((sum.to_f64() - 0.25f64.exp()).abs() < 2e-15, "{score}: {}", sum.to_f64());
        }
        assert_eq!(Wide::exponential(f64::NEG_INFINITY).to_f64(), 0.0);
        assert_eq!(Wide::ZERO.ln(), f64::NEG_INFINITY);
        assert!(Wide::exponential(2.0).minus(Wide::exponential(3.0)).to_f64() < 0.0);
        assert!((Wide::exponential(2.0).to_f64() - 2f64.exp()).abs() < 1e-14);
    }
}
