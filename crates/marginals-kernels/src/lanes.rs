//! Sums of exponentials of sums, for several instances at a time.
//!
//! A recursion over cells makes each of them from terms, and a term is the sum of a few numbers of a
//! table. The same recursion over eight instances reads rows of eight numbers, one of each instance: every
//! step is a whole vector however short the instances are.

use crate::InstructionSet;
use crate::math::exp_block;
use crate::simd::{Kernel, Simd, run};

/// Instances that go through a recursion together.
pub const LANES: usize = 8;

/// A number of each instance.
pub type Lanes = [f64; LANES];

/// A term: the sum of four rows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term(pub [u32; 4]);

/// Sum of the exponentials of terms, relative to the largest of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExponentialSum {
    /// The largest term; 0 where all are −∞.
    pub max: Lanes,
    /// Σ exp(term − max).
    pub sum: Lanes,
}

impl ExponentialSum {
    /// Logarithm of the sum: −∞ where every term is.
    pub fn log(&self) -> Lanes {
        std::array::from_fn(|lane| self.max[lane] + self.sum[lane].ln())
    }
}

/// Sum of the exponentials of `terms`, lane by lane. On return `exponentials` holds exp(term − max).
///
/// # Panics
/// Where `exponentials` is not as long as `terms`, or a term names a row that the table has not.
pub fn sum_exponentials(
    set: InstructionSet,
    table: &[Lanes],
    terms: &[Term],
    exponentials: &mut [Lanes],
) -> ExponentialSum {
    assert_eq!(terms.len(), exponentials.len(), "an exponential for every term");
    run(set, SumExponentials { table, terms, exponentials })
}

/// Sum of the exponentials of terms that are given, lane by lane. On return `terms` holds
/// exp(term − max).
pub fn sum_exponentials_of(set: InstructionSet, terms: &mut [Lanes]) -> ExponentialSum {
    run(set, SumExponentialsOf { terms })
}

struct SumExponentialsOf<'a> {
    terms: &'a mut [Lanes],
}

impl Kernel<f64> for SumExponentialsOf<'_> {
    type Output = ExponentialSum;

    #[inline(always)]
    fn run<S: Simd<Element = f64>>(self, simd: S) -> ExponentialSum {
        let Self { terms } = self;
        let mut found = ExponentialSum { max: [0.0; LANES], sum: [0.0; LANES] };
        for vector in 0..LANES / S::LANES {
            let own = vector * S::LANES..(vector + 1) * S::LANES;
            let mut max = simd.splat(f64::NEG_INFINITY);
            for row in &*terms {
                max = simd.max(max, part(simd, row, vector));
            }
            let max = finite(simd, max);
            let sum = exponentiate(simd, terms, vector, max);
            simd.write(&mut found.max[own.clone()], max);
            simd.write(&mut found.sum[own], sum);
        }
        found
    }
}

/// `terms` ← exp(terms − log_sum): what each is of the whole, lane by lane; 0 where the whole is impossible.
pub fn shares_of(set: InstructionSet, terms: &mut [Lanes], log_sum: &Lanes) {
    run(set, SharesOf { terms, log_sum });
}

struct SharesOf<'a> {
    terms: &'a mut [Lanes],
    log_sum: &'a Lanes,
}

impl Kernel<f64> for SharesOf<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = f64>>(self, simd: S) {
        for vector in 0..LANES / S::LANES {
            let by = finite(simd, part(simd, self.log_sum, vector));
            exponentiate(simd, self.terms, vector, by);
        }
    }
}

/// 0 in place of −∞, from which nothing can be taken.
#[inline(always)]
fn finite<S: Simd<Element = f64>>(simd: S, x: S::Vector) -> S::Vector {
    let impossible = simd.equal(x, simd.splat(f64::NEG_INFINITY));
    simd.select(impossible, simd.splat(0.0), x)
}

struct SumExponentials<'a> {
    table: &'a [Lanes],
    terms: &'a [Term],
    exponentials: &'a mut [Lanes],
}

/// One vector of a row.
#[inline(always)]
fn part<S: Simd<Element = f64>>(simd: S, row: &Lanes, vector: usize) -> S::Vector {
    simd.read(&row[vector * S::LANES..][..S::LANES], simd.splat(0.0))
}

/// A term of one vector.
#[inline(always)]
fn term<S: Simd<Element = f64>>(
    simd: S,
    table: &[Lanes],
    Term([a, b, c, d]): Term,
    vector: usize,
) -> S::Vector {
    let row = |index: u32| part(simd, &table[index as usize], vector);
    simd.add(simd.add(row(a), row(b)), simd.add(row(c), row(d)))
}

impl Kernel<f64> for SumExponentials<'_> {
    type Output = ExponentialSum;

    #[inline(always)]
    fn run<S: Simd<Element = f64>>(self, simd: S) -> ExponentialSum {
        let Self { table, terms, exponentials } = self;
        let mut found = ExponentialSum { max: [0.0; LANES], sum: [0.0; LANES] };
        let lowest = simd.splat(f64::NEG_INFINITY);
        for vector in 0..LANES / S::LANES {
            let own = vector * S::LANES..(vector + 1) * S::LANES;
            let mut max = lowest;
            for (&of, into) in terms.iter().zip(&mut *exponentials) {
                let x = term(simd, table, of, vector);
                max = simd.max(max, x);
                simd.write(&mut into[own.clone()], x);
            }
            let max = finite(simd, max);
            let sum = exponentiate(simd, exponentials, vector, max);
            simd.write(&mut found.max[own.clone()], max);
            simd.write(&mut found.sum[own], sum);
        }
        found
    }
}

/// `rows` ← exp(rows − by), of one vector; returns their sum.
#[inline(always)]
fn exponentiate<S: Simd<Element = f64>>(
    simd: S,
    rows: &mut [Lanes],
    vector: usize,
    by: S::Vector,
) -> S::Vector {
    let own = vector * S::LANES..(vector + 1) * S::LANES;
    let mut sum = simd.splat(0.0);
    let mut blocks = rows.chunks_exact_mut(4);
    for block in &mut blocks {
        let mut x = [sum; 4];
        for k in 0..4 {
            x[k] = simd.sub(part(simd, &block[k], vector), by);
        }
        let (e, _) = exp_block(simd, x);
        for k in 0..4 {
            simd.write(&mut block[k][own.clone()], e[k]);
            sum = simd.add(sum, e[k]);
        }
    }
    for row in blocks.into_remainder() {
        let ([e], _) = exp_block(simd, [simd.sub(part(simd, row, vector), by)]);
        simd.write(&mut row[own.clone()], e);
        sum = simd.add(sum, e);
    }
    sum
}

/// `shares` ← exp(term − log_sum): what each term is of the whole, lane by lane; 0 where the whole is
/// impossible.
///
/// # Panics
/// As [`sum_exponentials`].
pub fn shares(
    set: InstructionSet,
    table: &[Lanes],
    terms: &[Term],
    log_sum: &Lanes,
    shares: &mut [Lanes],
) {
    assert_eq!(terms.len(), shares.len(), "a share for every term");
    run(set, Shares { table, terms, log_sum, shares });
}

struct Shares<'a> {
    table: &'a [Lanes],
    terms: &'a [Term],
    log_sum: &'a Lanes,
    shares: &'a mut [Lanes],
}

impl Kernel<f64> for Shares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = f64>>(self, simd: S) {
        let Self { table, terms, log_sum, shares } = self;
        for vector in 0..LANES / S::LANES {
            let own = vector * S::LANES..(vector + 1) * S::LANES;
            let by = finite(simd, part(simd, log_sum, vector));
            for (&of, into) in terms.iter().zip(&mut *shares) {
                simd.write(&mut into[own.clone()], term(simd, table, of, vector));
            }
            exponentiate(simd, shares, vector, by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with numbers of every size, the impossible and NaN among them.
    fn table() -> Vec<Lanes> {
        let number = |row: usize, lane: usize| match (row * 7 + lane * 3) % 11 {
            0 => f64::NEG_INFINITY,
            1 => 900.0,
            2 => -1e4,
            x => x as f64 * 0.37 - 1.0,
        };
        let mut table: Vec<Lanes> =
            (0..12).map(|row| std::array::from_fn(|lane| number(row, lane))).collect();
        table.push([f64::NEG_INFINITY; LANES]);
        table.push([0.0; LANES]);
        table
    }

    #[test]
    fn sums_and_shares_are_as_written_out() {
        let table = table();
        for count in [1, 3, 4, 5, 9] {
            let terms: Vec<Term> = (0..count as u32)
                .map(|k| Term([k % 12, (k * 5 + 1) % 12, (k * 3 + 2) % 12, 13]))
                .collect();
            for set in InstructionSet::available() {
                let mut exponentials = vec![[0.0; LANES]; count];
                let found = sum_exponentials(set, &table, &terms, &mut exponentials);
                let log_sum = found.log();
                let mut of_whole = vec![[0.0; LANES]; count];
                shares(set, &table, &terms, &log_sum, &mut of_whole);
                let sum_of = |Term(rows): &Term| {
                    std::array::from_fn(|lane| {
                        rows.iter().map(|&row| table[row as usize][lane]).sum()
                    })
                };
                let given: Vec<Lanes> = terms.iter().map(sum_of).collect();
                let mut summed = given.clone();
                let again = sum_exponentials_of(set, &mut summed);
                let mut shared = given;
                shares_of(set, &mut shared, &log_sum);
                for lane in 0..LANES {
                    let gap = (again.log()[lane] - log_sum[lane]).abs();
                    assert!(again.log()[lane] == log_sum[lane] || gap <= 1e-12, "{set:?}");
                    for (a, b) in shared.iter().zip(&of_whole) {
                        assert!((a[lane] - b[lane]).abs() < 1e-12, "{set:?}");
                    }
                }
                for lane in 0..LANES {
                    let sums: Vec<f64> = terms
                        .iter()
                        .map(|Term(rows)| rows.iter().map(|&row| table[row as usize][lane]).sum())
                        .collect();
                    let max = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    if max == f64::NEG_INFINITY {
                        assert_eq!(log_sum[lane], max, "{set:?}");
                        assert!(of_whole.iter().all(|row| row[lane] == 0.0), "{set:?}");
                        continue;
                    }
                    let total: f64 = sums.iter().map(|x| (x - max).exp()).sum();
                    let expected = max + total.ln();
                    assert!((log_sum[lane] - expected).abs() <= 1e-15 * expected.abs().max(1.0));
                    for (row, x) in of_whole.iter().zip(&sums) {
                        assert!((row[lane] - (x - expected).exp()).abs() < 1e-12, "{set:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn nan_stays_in_its_lane() {
        let mut table = table();
        table[3][2] = f64::NAN;
        let terms = [Term([3, 13, 13, 13]), Term([4, 13, 13, 13])];
        for set in InstructionSet::available() {
            let mut exponentials = [[0.0; LANES]; 2];
            let log = sum_exponentials(set, &table, &terms, &mut exponentials).log();
            assert!(log[2].is_nan(), "{set:?}");
            assert!(log.iter().enumerate().all(|(lane, x)| lane == 2 || !x.is_nan()), "{set:?}");
        }
    }
}
