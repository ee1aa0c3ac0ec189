//! Linear maps between rows of lanes: several instances of a product of matrices at a time.
//!
//! A step of a chain takes a message, a number for every state, through a matrix. Eight instances go
//! side by side as rows of eight numbers; their matrices may be one and the same.

use std::ops::Range;

use crate::simd::{Kernel, Simd, run};
use crate::{InstructionSet, LANES, Lanes};

/// Entries of the matrices of all lanes, row after row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entries<'a> {
    /// All 1.
    Ones,
    /// Of one matrix for all lanes.
    Shared(&'a [f64]),
    /// Of a matrix for each.
    Each(&'a [Lanes]),
}

/// Side of a matrix that a row of lanes is multiplied from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// xᵀ A.
    Left,
    /// A x.
    Right,
}

/// Square matrices of all lanes, whose entries farther than `band` from the diagonal are 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Banded<'a> {
    /// Entries; those outside the band must be given as 0 where entries are given.
    pub entries: Entries<'a>,
    /// Farthest from the diagonal that an entry is not 0.
    pub band: usize,
}

/// `into` += xᵀ A or A x, lane by lane.
///
/// # Panics
/// Where `x` and `into` are not of one length m, or the entries are not m².
pub fn add_product(
    set: InstructionSet,
    side: Side,
    matrix: Banded<'_>,
    x: &[Lanes],
    into: &mut [Lanes],
) {
    let m = x.len();
    assert_eq!(into.len(), m, "a row of lanes for each");
    match matrix.entries {
        Entries::Ones => {}
        Entries::Shared(entries) => assert_eq!(entries.len(), m * m, "a square matrix"),
        Entries::Each(entries) => assert_eq!(entries.len(), m * m, "a square matrix"),
    }
    run(set, AddProduct { side, matrix, x, into });
}

struct AddProduct<'a> {
    side: Side,
    matrix: Banded<'a>,
    x: &'a [Lanes],
    into: &'a mut [Lanes],
}

/// Rows that are summed side by side.
const TILE: usize = 8;

impl Kernel<f64> for AddProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = f64>>(self, simd: S) {
        let Self { side, matrix: Banded { entries, band }, x, into } = self;
        let m = x.len();
        // Where an entry stands, from the row that is made and the row that is read.
        let place = |to: usize, from: usize| match side {
            Side::Left => from * m + to,
            Side::Right => to * m + from,
        };
        match entries {
            Entries::Ones => add_rows::<_, 1>(simd, x, into, band, |_, _, _| simd.splat(1.0)),
            Entries::Shared(all) => add_rows::<_, TILE>(simd, x, into, band, |to, from, _| {
                simd.splat(all[place(to, from)])
            }),
            Entries::Each(all) => add_rows::<_, TILE>(simd, x, into, band, |to, from, vector| {
                part(simd, &all[place(to, from)], vector)
            }),
        }
    }
}

/// One vector of a row.
#[inline(always)]
fn part<S: Simd<Element = f64>>(simd: S, row: &Lanes, vector: usize) -> S::Vector {
    simd.read(&row[vector * S::LANES..][..S::LANES], simd.splat(0.0))
}

/// Adds Σ_from entry(to, from) · x\[from\] to every row, `ROWS` of them at a time. Sums run over the rows
/// that are read in order, with one accumulator each, so that the cut into tiles changes nothing.
#[inline(always)]
fn add_rows<S: Simd<Element = f64>, const ROWS: usize>(
    simd: S,
    x: &[Lanes],
    into: &mut [Lanes],
    band: usize,
    entry: impl Fn(usize, usize, usize) -> S::Vector,
) {
    let m = x.len();
    for vector in 0..LANES / S::LANES {
        let own = vector * S::LANES..(vector + 1) * S::LANES;
        let mut first = 0;
        while first + ROWS <= m {
            let mut sums = [simd.splat(0.0); ROWS];
            for from in within(first, first + ROWS - 1, band, m) {
                let x = part(simd, &x[from], vector);
                for (k, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.mul_add(entry(first + k, from, vector), x, *sum);
                }
            }
            for (row, sum) in into[first..].iter_mut().zip(sums) {
                let old = part(simd, row, vector);
                simd.write(&mut row[own.clone()], simd.add(old, sum));
            }
            first += ROWS;
        }
        for (to, row) in into.iter_mut().enumerate().skip(first) {
            let mut sum = simd.splat(0.0);
            for from in within(to, to, band, m) {
                sum = simd.mul_add(entry(to, from, vector), part(simd, &x[from], vector), sum);
            }
            let old = part(simd, row, vector);
            simd.write(&mut row[own.clone()], simd.add(old, sum));
        }
    }
}

/// Rows within the band of those from `first` to `last`.
#[inline(always)]
fn within(first: usize, last: usize, band: usize, m: usize) -> Range<usize> {
    first.saturating_sub(band)..m.min(last.saturating_add(band).saturating_add(1))
}

/// `into`\[a, b\] += Σ_t x\[t, a\] · y\[t, b\], lane by lane, for |a − b| ≤ `band` (entries beyond may
/// be added to or not): the gradient of Σ_t xₜᵀ A yₜ in A.
///
/// # Panics
/// Where `x` and `y` are not lists of one length of m rows each, or `into` is not m².
pub fn add_outer_products(
    set: InstructionSet,
    (x, y): (&[Lanes], &[Lanes]),
    m: usize,
    band: usize,
    into: &mut [Lanes],
) {
    assert_eq!(into.len(), m * m, "a square matrix");
    assert_eq!(x.len(), y.len(), "pairs of rows");
    assert_eq!(x.len() % m.max(1), 0, "rows for every step");
    run(set, AddOuterProducts { x, y, m, band, into });
}

struct AddOuterProducts<'a> {
    x: &'a [Lanes],
    y: &'a [Lanes],
    m: usize,
    band: usize,
    into: &'a mut [Lanes],
}

/// Entries of a block of outer products that stay in registers, on each side.
const BLOCK: usize = 3;
/// Steps that are taken at a time, so that their rows stay near.
const STEPS: usize = 32;

impl Kernel<f64> for AddOuterProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = f64>>(self, simd: S) {
        let Self { x, y, m, band, into } = self;
        if m == 0 {
            return;
        }
        for (x, y) in x.chunks(STEPS * m).zip(y.chunks(STEPS * m)) {
            for vector in 0..LANES / S::LANES {
                for a in (0..m).step_by(BLOCK) {
                    let rows = BLOCK.min(m - a);
                    let columns = within(a, a + rows - 1, band, m);
                    let mut b = columns.start;
                    while b < columns.end {
                        let width = BLOCK.min(columns.end - b);
                        let place = Place { m, a, b, vector };
                        if rows == BLOCK && width == BLOCK {
                            add_block::<S, BLOCK, BLOCK>(simd, x, y, place, into);
                        } else {
                            for row in 0..rows {
                                for column in 0..width {
                                    let place = Place { a: a + row, b: b + column, ..place };
                                    add_block::<S, 1, 1>(simd, x, y, place, into);
                                }
                            }
                        }
                        b += width;
                    }
                }
            }
        }
    }
}

/// Where a block of outer products stands.
#[derive(Clone, Copy)]
struct Place {
    m: usize,
    a: usize,
    b: usize,
    vector: usize,
}

#[inline(always)]
fn add_block<S: Simd<Element = f64>, const ROWS: usize, const COLUMNS: usize>(
    simd: S,
    x: &[Lanes],
    y: &[Lanes],
    Place { m, a, b, vector }: Place,
    into: &mut [Lanes],
) {
    let own = vector * S::LANES..(vector + 1) * S::LANES;
    let mut sums = [[simd.splat(0.0); COLUMNS]; ROWS];
    for (row, sums) in sums.iter_mut().enumerate() {
        for (column, sum) in sums.iter_mut().enumerate() {
            *sum = part(simd, &into[(a + row) * m + b + column], vector);
        }
    }
    for (x, y) in x.chunks_exact(m).zip(y.chunks_exact(m)) {
        let mut of_y = [simd.splat(0.0); COLUMNS];
        for (column, of_y) in of_y.iter_mut().enumerate() {
            *of_y = part(simd, &y[b + column], vector);
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            let of_x = part(simd, &x[a + row], vector);
            for (sum, &of_y) in sums.iter_mut().zip(&of_y) {
                *sum = simd.mul_add(of_x, of_y, *sum);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (column, &sum) in sums.iter().enumerate() {
            simd.write(&mut into[(a + row) * m + b + column][own.clone()], sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, seed: usize) -> Vec<Lanes> {
        let number = |row: usize, lane: usize| ((row * 31 + lane * 7 + seed) % 17) as f64 - 8.0;
        (0..count).map(|row| std::array::from_fn(|lane| number(row, lane))).collect()
    }

    /// Whole numbers: every order of sums gives the same.
    #[test]
    fn products_are_as_written_out() {
        for (m, band) in [(0, 0), (1, 9), (5, 9), (8, 1), (11, 2), (19, 9), (21, 40)] {
            let near = |index: usize| (index / m).abs_diff(index % m) <= band;
            let x = rows(m, 3);
            let mut each = rows(m * m, 5);
            each.iter_mut().enumerate().filter(|(i, _)| !near(*i)).for_each(|(_, e)| *e = [0.0; 8]);
            let shared: Vec<f64> = each.iter().map(|entry| entry[2]).collect();
            for set in InstructionSet::available() {
                for side in [Side::Left, Side::Right] {
                    for entries in [Entries::Ones, Entries::Shared(&shared), Entries::Each(&each)] {
                        let mut into = rows(m, 11);
                        let mut expected = into.clone();
                        for to in 0..m {
                            for from in 0..m {
                                let at = match side {
                                    Side::Left => from * m + to,
                                    Side::Right => to * m + from,
                                };
                                for lane in 0..LANES {
                                    let entry = match entries {
                                        Entries::Ones if near(at) => 1.0,
                                        Entries::Ones => 0.0,
                                        Entries::Shared(_) => shared[at],
                                        Entries::Each(_) => each[at][lane],
                                    };
                                    expected[to][lane] += entry * x[from][lane];
                                }
                            }
                        }
                        add_product(set, side, Banded { entries, band }, &x, &mut into);
                        assert_eq!(into, expected, "{set:?} {side:?} {entries:?} {band}");
                    }
                }
                for steps in [0, 1, 33] {
                    let (x, y) = (rows(steps * m, 1), rows(steps * m, 2));
                    let mut into = rows(m * m, 4);
                    let mut expected = into.clone();
                    for (index, entry) in expected.iter_mut().enumerate() {
                        for t in 0..steps {
                            let (a, b) = (t * m + index / m, t * m + index % m);
                            (0..LANES).for_each(|lane| entry[lane] += x[a][lane] * y[b][lane]);
                        }
                    }
                    add_outer_products(set, (&x, &y), m, band, &mut into);
                    for (index, (found, expected)) in into.iter().zip(&expected).enumerate() {
                        assert!(!near(index) || found == expected, "{set:?} {index} {band}");
                    }
                }
            }
        }
    }
}
