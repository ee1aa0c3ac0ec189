//! Numbers that eliminations run over, eight side by side.
//!
//! An elimination adds, multiplies and divides positive numbers, whatever they are: doubles,
//! doubles with a wider exponent ([`Wide`](super::wide::Wide)), or either with a derivative
//! ([`Dual`]).

/// Numbers in a pack.
pub(super) const LANES: usize = 8;

/// A number, and the arithmetic of packs of [`LANES`] of them.
pub(super) trait Number: Copy {
    /// [`LANES`] numbers.
    type Pack: Copy;
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// A pack of zeros.
    const ZEROS: Self::Pack;
    /// Rows to take through a sweep together, 1 or 4: as many as registers hold with what they
    /// share.
    const TOGETHER: usize = 1;

    /// self + other.
    fn plus(self, other: Self) -> Self;
    /// self − other.
    fn minus(self, other: Self) -> Self;
    /// self · other.
    fn times(self, other: Self) -> Self;
    /// 1/self.
    fn reciprocal(self) -> Self;
    /// Whether it is above 0.
    fn is_positive(self) -> bool;

    /// One number of a pack.
    fn lane(pack: &Self::Pack, lane: usize) -> Self;
    /// Writes one number of a pack.
    fn set_lane(pack: &mut Self::Pack, lane: usize, number: Self);
    /// sum + factor · pack.
    fn add_scaled(sum: Self::Pack, factor: Self, pack: &Self::Pack) -> Self::Pack;
    /// sum + a · b, lane by lane.
    fn add_product(sum: Self::Pack, a: &Self::Pack, b: &Self::Pack) -> Self::Pack;
    /// Sum of the lanes.
    fn total(pack: &Self::Pack) -> Self;

    /// The lanes below `lanes`, and 0 in the others.
    #[inline(always)]
    fn first_lanes(pack: &Self::Pack, lanes: usize) -> Self::Pack {
        let mut first = Self::ZEROS;
        for lane in 0..lanes {
            Self::set_lane(&mut first, lane, Self::lane(pack, lane));
        }
        first
    }

    /// The pack with 0 in its first lane.
    #[inline(always)]
    fn without_first(pack: &Self::Pack) -> Self::Pack {
        let mut rest = *pack;
        Self::set_lane(&mut rest, 0, Self::ZERO);
        rest
    }

    /// factor · pack.
    #[inline(always)]
    fn scaled(factor: Self, pack: &Self::Pack) -> Self::Pack {
        Self::add_scaled(Self::ZEROS, factor, pack)
    }

    /// a + b, lane by lane.
    #[inline(always)]
    fn add(a: Self::Pack, b: &Self::Pack) -> Self::Pack {
        Self::add_scaled(a, Self::ONE, b)
    }
}

/// A double. `FUSED` multiplies and adds in one instruction, which the processor must have: without
/// it `mul_add` is a call of a function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linear<const FUSED: bool>(pub f64);

/// Eight doubles, the width of a vector.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Doubles(pub [f64; LANES]);

impl<const FUSED: bool> Number for Linear<FUSED> {
    type Pack = Doubles;
    const ZERO: Self = Self(0.0);
    const ONE: Self = Self(1.0);
    const ZEROS: Doubles = Doubles([0.0; LANES]);
    const TOGETHER: usize = 4;

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        Self(self.0 * other.0)
    }
    #[inline(always)]
    fn reciprocal(self) -> Self {
        Self(1.0 / self.0)
    }
    #[inline(always)]
    fn is_positive(self) -> bool {
        self.0 > 0.0
    }

    #[inline(always)]
    fn lane(pack: &Doubles, lane: usize) -> Self {
        Self(pack.0[lane])
    }
    #[inline(always)]
    fn set_lane(pack: &mut Doubles, lane: usize, number: Self) {
        pack.0[lane] = number.0;
    }
    #[inline(always)]
    fn add_scaled(mut sum: Doubles, factor: Self, pack: &Doubles) -> Doubles {
        for lane in 0..LANES {
            sum.0[lane] = if FUSED {
                factor.0.mul_add(pack.0[lane], sum.0[lane])
            } else {
                factor.0 * pack.0[lane] + sum.0[lane]
            };
        }
        sum
    }
    #[inline(always)]
    fn add_product(mut sum: Doubles, a: &Doubles, b: &Doubles) -> Doubles {
        for lane in 0..LANES {
            sum.0[lane] = if FUSED {
                a.0[lane].mul_add(b.0[lane], sum.0[lane])
            } else {
                a.0[lane] * b.0[lane] + sum.0[lane]
            };
        }
        sum
    }
    #[inline(always)]
    fn total(pack: &Doubles) -> Self {
        let [a, b, c, d, e, f, g, h] = pack.0;
        Self(((a + e) + (c + g)) + ((b + f) + (d + h)))
    }
    #[inline(always)]
    fn first_lanes(pack: &Doubles, lanes: usize) -> Doubles {
        let mut first = *pack;
        for lane in 0..LANES {
            first.0[lane] = if lane < lanes { pack.0[lane] } else { 0.0 };
        }
        first
    }
}

/// A number and its derivative along a direction: a dual number v + ε v′, ε² = 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dual<T> {
    /// v.
    pub value: T,
    /// v′.
    pub slope: T,
}

impl<N: Number> Number for Dual<N> {
    type Pack = Dual<N::Pack>;
    const ZERO: Self = Self { value: N::ZERO, slope: N::ZERO };
    const ONE: Self = Self { value: N::ONE, slope: N::ZERO };
    const ZEROS: Self::Pack = Dual { value: N::ZEROS, slope: N::ZEROS };

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self { value: self.value.plus(other.value), slope: self.slope.plus(other.slope) }
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        Self { value: self.value.minus(other.value), slope: self.slope.minus(other.slope) }
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        Self {
            value: self.value.times(other.value),
            slope: self.value.times(other.slope).plus(self.slope.times(other.value)),
        }
    }
    /// (1/v)′ = −(v′/v)/v: v′/v stays in range where v² would not.
    #[inline(always)]
    fn reciprocal(self) -> Self {
        let value = self.value.reciprocal();
        Self { value, slope: N::ZERO.minus(self.slope.times(value).times(value)) }
    }
    #[inline(always)]
    fn is_positive(self) -> bool {
        self.value.is_positive()
    }

    #[inline(always)]
    fn lane(pack: &Self::Pack, lane: usize) -> Self {
        Self { value: N::lane(&pack.value, lane), slope: N::lane(&pack.slope, lane) }
    }
    #[inline(always)]
    fn set_lane(pack: &mut Self::Pack, lane: usize, number: Self) {
        N::set_lane(&mut pack.value, lane, number.value);
        N::set_lane(&mut pack.slope, lane, number.slope);
    }
    #[inline(always)]
    fn add_scaled(sum: Self::Pack, factor: Self, pack: &Self::Pack) -> Self::Pack {
        let slope = N::add_scaled(sum.slope, factor.slope, &pack.value);
        Dual {
            value: N::add_scaled(sum.value, factor.value, &pack.value),
            slope: N::add_scaled(slope, factor.value, &pack.slope),
        }
    }
    #[inline(always)]
    fn add_product(sum: Self::Pack, a: &Self::Pack, b: &Self::Pack) -> Self::Pack {
        let slope = N::add_product(sum.slope, &a.slope, &b.value);
        Dual {
            value: N::add_product(sum.value, &a.value, &b.value),
            slope: N::add_product(slope, &a.value, &b.slope),
        }
    }
    #[inline(always)]
    fn total(pack: &Self::Pack) -> Self {
        Self { value: N::total(&pack.value), slope: N::total(&pack.slope) }
    }
    #[inline(always)]
    fn first_lanes(pack: &Self::Pack, lanes: usize) -> Self::Pack {
        Dual {
            value: N::first_lanes(&pack.value, lanes),
            slope: N::first_lanes(&pack.slope, lanes),
        }
    }
}
