//! Arithmetic of rows of lanes, entry by entry, and of lists of scores.

use marginals_kernels::{InstructionSet, LANES, Lanes};

/// 0 in every lane.
pub(super) const ZERO: Lanes = [0.0; LANES];

/// Smallest and largest of the finite scores, and whether all were scores.
pub(super) struct Extent {
    least: f64,
    /// The largest; −∞ where there is none.
    pub largest: f64,
    is_valid: bool,
}

impl Extent {
    pub fn of(set: InstructionSet, scores: &[f64]) -> Self {
        let (mut least, mut largest) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
        let mut invalid = [0u64; LANES];
        set.run(
            #[inline(always)]
            || {
                let mut take = |lane: usize, x: f64| {
                    let finite = if x > f64::NEG_INFINITY { x } else { f64::INFINITY };
                    least[lane] = if finite < least[lane] { finite } else { least[lane] };
                    largest[lane] = if x > largest[lane] { x } else { largest[lane] };
                    invalid[lane] |= u64::from(x.is_nan() | (x == f64::INFINITY));
                };
                let (rows, rest) = scores.as_chunks::<LANES>();
                for row in rows {
                    row.iter().enumerate().for_each(|(lane, &x)| take(lane, x));
                }
                rest.iter().enumerate().for_each(|(lane, &x)| take(lane, x));
            },
        );
        Self {
            least: least.into_iter().fold(f64::INFINITY, f64::min),
            largest: largest.into_iter().fold(f64::NEG_INFINITY, f64::max),
            is_valid: invalid == [0; LANES],
        }
    }

    /// Nats from the smallest to the largest.
    pub fn width(&self) -> f64 {
        match self.is_valid {
            false => f64::INFINITY,
            true => (self.largest - self.least).max(0.0),
        }
    }

    /// The largest, or 0 where all is impossible.
    pub fn offset(&self) -> f64 {
        if self.largest > f64::NEG_INFINITY { self.largest } else { 0.0 }
    }
}

/// The power of two that is next below a number, and its reciprocal; 1 below 0.
pub(super) fn power(x: f64) -> (f64, f64) {
    let exponent = ((x.to_bits() >> 52) & 0x7ff).clamp(1, 2045);
    match x > 0.0 && x < f64::INFINITY {
        true => (f64::from_bits(exponent << 52), f64::from_bits((2046 - exponent) << 52)),
        false => (1.0, 1.0),
    }
}

/// How a message was scaled, lane by lane.
pub(super) struct Scale {
    /// Factor: a power of two.
    pub by: Lanes,
    /// Logarithm to base 2 of the reciprocal.
    pub exponent: Lanes,
    /// Smallest number that is not 0, scaled.
    pub least: Lanes,
}

/// Scales a message to a largest number from 1 to 2.
pub(super) fn rescale(set: InstructionSet, row: &mut [Lanes]) -> Scale {
    let (mut most, mut least) = (ZERO, [f64::INFINITY; LANES]);
    set.run(
        #[inline(always)]
        || {
            for lanes in &*row {
                for lane in 0..LANES {
                    let x = lanes[lane];
                    most[lane] = if x > most[lane] { x } else { most[lane] };
                    let counts = x != 0.0 && x < least[lane];
                    least[lane] = if counts { x } else { least[lane] };
                }
            }
        },
    );
    let powers = most.map(power);
    let by: Lanes = powers.map(|(_, reciprocal)| reciprocal);
    multiply_all(set, row, &by);
    Scale {
        by,
        exponent: powers.map(|(power, _)| (power.to_bits() >> 52) as f64 - 1023.0),
        least: std::array::from_fn(|lane| least[lane] * by[lane]),
    }
}

/// Gives up the factors that have a number of a message too small to keep its digits.
pub(super) fn require(is_exact: &mut [bool; LANES], least: &Lanes, floor: &Lanes) {
    let all = is_exact.iter_mut().zip(least.iter().zip(floor));
    all.for_each(|(is_exact, (least, floor))| *is_exact &= least >= floor);
}

/// `into` ∘= `by`.
pub(super) fn multiply(set: InstructionSet, into: &mut [Lanes], by: &[Lanes]) {
    set.run(
        #[inline(always)]
        || {
            for (into, by) in into.iter_mut().zip(by) {
                for lane in 0..LANES {
                    into[lane] *= by[lane];
                }
            }
        },
    );
}

/// Every row of `into` ∘= `by`.
pub(super) fn multiply_all(set: InstructionSet, into: &mut [Lanes], by: &Lanes) {
    set.run(
        #[inline(always)]
        || {
            for into in into {
                for lane in 0..LANES {
                    into[lane] *= by[lane];
                }
            }
        },
    );
}

/// `into` −= `times` ∘ `of`.
pub(super) fn take_out(set: InstructionSet, into: &mut [Lanes], of: &[Lanes], times: &Lanes) {
    set.run(
        #[inline(always)]
        || {
            for (into, of) in into.iter_mut().zip(of) {
                for lane in 0..LANES {
                    into[lane] -= times[lane] * of[lane];
                }
            }
        },
    );
}

pub(super) fn sum(set: InstructionSet, rows: &[Lanes]) -> Lanes {
    let mut all = ZERO;
    set.run(
        #[inline(always)]
        || {
            for row in rows {
                for lane in 0..LANES {
                    all[lane] += row[lane];
                }
            }
        },
    );
    all
}

/// Takes the multiple of `of` out of `moved` that leaves it a sum of 0; returns by what.
pub(super) fn centre(set: InstructionSet, moved: &mut [Lanes], of: &[Lanes]) -> Lanes {
    let (all, whole) = (sum(set, moved), sum(set, of));
    let ratio = |lane: usize| if whole[lane] > 0.0 { all[lane] / whole[lane] } else { 0.0 };
    let times = std::array::from_fn(ratio);
    take_out(set, moved, of, &times);
    times
}
