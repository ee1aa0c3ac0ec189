//! Sums without rounding.

use ndarray::NdFloat;

/// Numbers that a sum is kept as; where it takes more of them the smallest two are rounded to one. They
/// hold more scales at once than a score has: each is one scale, or 16 digits of one.
const PARTS: usize = 8;

/// A sum kept as numbers that do not overlap, so that nothing of what was added is lost (Shewchuk,
/// Discrete & Computational Geometry 18, 1997).
///
/// Rounding happens once, where the sum or a difference of two sums is read. Infinities and NaN are
/// added as the number type adds them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exact<T> {
    /// From the smallest to the largest, then zeros.
    parts: [T; PARTS],
    count: usize,
    /// The sum of what was not finite, 0 without.
    special: T,
}

impl<T: NdFloat> Exact<T> {
    pub fn of(x: T) -> Self {
        let mut sum = Self { parts: [T::zero(); PARTS], count: 0, special: T::zero() };
        sum.add(x);
        sum
    }

    pub fn add(&mut self, mut x: T) {
        if !x.is_finite() {
            self.special += x;
            return;
        }
        let mut kept = 0;
        for at in 0..self.count {
            let (large, small) = match self.parts[at] {
                part if part.abs() > x.abs() => (part, x),
                part => (x, part),
            };
            x = large + small;
            let lost = small - (x - large);
            if lost != T::zero() {
                self.parts[kept] = lost;
                kept += 1;
            }
        }
        if kept == PARTS {
            let smallest = self.parts[0] + self.parts[1];
            self.parts.copy_within(2.., 1);
            self.parts[0] = smallest;
            kept -= 1;
        }
        if x != T::zero() {
            self.parts[kept] = x;
            kept += 1;
        }
        self.count = kept;
    }

    /// What the sum is made of.
    fn terms(&self) -> impl Iterator<Item = T> {
        let special = Some(self.special).filter(|x| *x != T::zero());
        self.parts[..self.count].iter().copied().chain(special)
    }

    /// Adds another log-weight: the product of what is impossible with anything is impossible.
    pub fn multiply(&mut self, other: &Self) {
        if self.impossible() || other.impossible() {
            *self = Self::of(T::neg_infinity());
        } else {
            other.terms().for_each(|x| self.add(x));
        }
    }

    /// The sum, rounded.
    pub fn value(&self) -> T {
        self.terms().fold(T::zero(), |sum, x| sum + x)
    }

    /// self − other.
    pub fn less(&self, other: &Self) -> Self {
        let mut difference = *self;
        other.terms().for_each(|x| difference.add(-x));
        difference
    }

    /// self − other, rounded once.
    pub fn minus(&self, other: &Self) -> T {
        match self.count.max(other.count) {
            0 | 1 if self.special == T::zero() && other.special == T::zero() => {
                self.value() - other.value()
            }
            _ => self.less(other).value(),
        }
    }

    /// self + x.
    pub fn plus(&self, x: T) -> Self {
        let mut sum = *self;
        sum.add(x);
        sum
    }

    /// log σ(x), x being the sum.
    pub fn log_logistic(&self) -> Self {
        let x = self.value();
        let small = (-x.abs()).exp().ln_1p();
        // Far below 0 it is x itself but for a small number.
        if x < T::zero() { self.plus(-small) } else { Self::of(-small) }
    }

    /// log(1 − σ(x)), x being the sum.
    pub fn log_complement(&self) -> Self {
        Self::of(T::zero()).less(self).log_logistic()
    }

    /// Whether the sum is −∞: a weight of 0.
    pub fn impossible(&self) -> bool {
        self.special == T::neg_infinity()
    }
}

/// Every sum less the largest of them, and the largest; impossible ones are −∞. `None` where all are.
pub(crate) fn relative_to_largest<T: NdFloat>(sums: &[Exact<T>]) -> Option<(Vec<T>, Exact<T>)> {
    let possible = |at: &usize| !sums[*at].impossible();
    let larger = |a: usize, b: usize| if sums[b].minus(&sums[a]) > T::zero() { b } else { a };
    let largest = (0..sums.len()).filter(possible).reduce(larger)?;
    let relative = |sum: &Exact<T>| match sum.impossible() {
        true => T::neg_infinity(),
        false => sum.minus(&sums[largest]),
    };
    Some((sums.iter().map(relative).collect(), sums[largest]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Random;

    fn sum(terms: &[f64]) -> Exact<f64> {
        let mut sum = Exact::of(0.0);
        terms.iter().for_each(|&x| sum.add(x));
        sum
    }

    #[test]
    fn nothing_is_lost_at_three_scales() {
        let minimum = f64::from(f32::MIN);
        let a = sum(&[minimum, -1e9, 0.3, minimum]);
        let b = sum(&[0.1, minimum, minimum, -1e9]);
        assert_eq!(a.minus(&b), 0.3 - 0.1);
        assert_eq!(a.value(), 2.0 * minimum);
        assert_eq!(sum(&[1e300, 1.0, -1e300]).value(), 1.0);
    }

    /// Against whole numbers of 2⁻⁶⁰, which 128 bits hold without rounding.
    #[test]
    fn sums_are_those_of_whole_numbers() {
        let mut random = Random::new(3);
        for _ in 0..2_000 {
            let mut whole = 0i128;
            let mut exact = Exact::of(0.0);
            for _ in 0..12 {
                let bits = random.integer(0, 50) as u32;
                let number = random.integer(-(1 << bits), 1 << bits);
                let shift = random.integer(0, 60) as u32;
                whole += i128::from(number) << shift;
                exact.add(number as f64 * 2f64.powi(shift as i32 - 60));
            }
            let nearest = whole as f64 * 2f64.powi(-60);
            assert!((exact.value() - nearest).abs() <= f64::EPSILON * nearest.abs(), "{exact:?}");
        }
    }

    /// Alternating sizes from 10³⁰⁰ to 10⁻³⁰⁰ need more parts than there are: what is lost is far below
    /// the rounding of what is left.
    #[test]
    fn more_parts_than_there_are() {
        let mut exact = Exact::of(0.0);
        (-30..=30).for_each(|power: i32| exact.add(10f64.powi(10 * power)));
        (-30..=30).for_each(|power: i32| exact.add(-(10f64.powi(10 * power))));
        assert!(exact.value().abs() < 1e220, "{exact:?}");
        exact.add(1e250);
        assert_eq!(exact.value(), 1e250);
    }

    #[test]
    fn what_is_not_finite_is_said() {
        let infinity = f64::INFINITY;
        assert!(sum(&[1.0, -infinity, 3.0]).impossible());
        assert_eq!(sum(&[1.0, infinity]).value(), infinity);
        assert!(sum(&[-infinity, f64::NAN]).value().is_nan());
        assert!(sum(&[infinity, -infinity]).value().is_nan());
        let mut product = sum(&[f64::NAN]);
        product.multiply(&sum(&[-infinity]));
        assert!(product.impossible());
    }

    #[test]
    fn the_largest_is_found_where_rounding_hides_it() {
        let minimum = f64::from(f32::MIN);
        let sums = [sum(&[minimum, 2.0]), sum(&[minimum, 5.0]), sum(&[f64::NEG_INFINITY])];
        let (relative, largest) = relative_to_largest(&sums).unwrap();
        assert_eq!(relative, [-3.0, 0.0, f64::NEG_INFINITY]);
        assert_eq!(largest.minus(&sum(&[minimum])), 5.0);
        assert!(relative_to_largest(&sums[2..]).is_none());
    }
}
