//! Inputs that reach the awkward cases, reproducible from a seed.
//!
//! A [`Recipe`] is a case as a handful of words and numbers: small to print, easy to shrink, and
//! [`Recipe::build`] always cooks the same [`Case`] from it. A [`Scenario`] is a recipe together with
//! what it has no word for: keys that accept one by one, null edges of every form, and the kinds of
//! [`Fault`] that inputs have in the field. [`strategy`] draws both for proptest.

mod fault;
mod kinds;
mod potential;
mod prior;
mod random;
mod recipe;
mod scenario;
pub mod strategy;

pub use fault::{Axis, Fault, GARBAGE, HUGE_MASKS};
pub use kinds::{DecayKind, DistanceKind, Flavour, NullKind, PotentialKind, PriorKind};
pub use random::Random;
pub use recipe::{Case, Recipe};
pub use scenario::Scenario;

use ndarray::Array2;

use crate::{Arithmetic, Head, Law, NullEdge, Problem, Structure, ValueKind};

/// Sizes on, just under and just over every edge that a tile, a panel, a register block or a vector
/// is likely to have.
pub const TILE_EDGES: [usize; 29] = [
    1, 2, 3, 7, 8, 9, 11, 12, 13, 15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 96, 97, 255, 256, 257,
    511, 512, 513, 1024, 1025,
];

/// One head with its matrices drawn directly, −∞ log-potentials included (which no built-in potential
/// gives): rows and columns that nothing serves, ties, huge and tiny scores according to `flavour`.
pub fn head(
    random: &mut Random,
    structure: Structure,
    (queries, keys, value_depth): (usize, usize, usize),
    flavour: Flavour,
) -> Head {
    let sparse = random.chance(0.5);
    let mut matrix = |scale: f64| {
        let dead_row: Vec<bool> = (0..queries).map(|_| sparse && random.chance(0.15)).collect();
        let dead_column: Vec<bool> = (0..keys).map(|_| sparse && random.chance(0.15)).collect();
        Array2::from_shape_fn((queries, keys), |(i, j)| {
            let dead = dead_row[i] || dead_column[j] || (sparse && random.chance(0.15));
            if dead { f64::NEG_INFINITY } else { flavour.number(random) * scale }
        })
    };
    let log_weight = matrix(1.0);
    let log_potential = matrix(match flavour {
        Flavour::Huge => 1e4,
        Flavour::Tiny => 1e-9,
        Flavour::Ordinary | Flavour::Ties => 2.0,
    });
    let null_log_weight =
        if random.chance(0.15) { f64::NEG_INFINITY } else { flavour.number(random) };
    Head {
        structure,
        value_kind: if random.chance(0.3) { ValueKind::Average } else { ValueKind::Gather },
        log_weight,
        log_potential,
        null_log_weight,
        value: Array2::from_shape_fn((keys, value_depth), |_| random.normal()),
        query_offset: random.integer(-3, 3),
    }
}

/// The matrices of [`head`] in exact arithmetic, with all that a head has no field for: null edges of
/// every form, log-weights in several terms (one common to all edges, masks as large finite
/// numbers), and garbage where nothing is possible.
pub fn problem(
    random: &mut Random,
    (structure, law): (Structure, Law),
    sizes: (usize, usize, usize),
    flavour: Flavour,
) -> Problem {
    let head = head(random, structure, sizes, flavour);
    let (n, m, _) = sizes;
    let mut problem = Problem::from(&head);
    problem.law = law;
    problem.arithmetic = Arithmetic::Exact;
    if random.chance(0.3) {
        let common = *random.pick(&[-1e9, -1e7, -40.0, 3.0]);
        problem.log_weight.push(Array2::from_elem((n, m), common));
    }
    for _ in 0..random.integer(0, 2) {
        let mask = *random.pick(&HUGE_MASKS);
        let whole: Vec<bool> = (0..n).map(|_| random.chance(0.2)).collect();
        problem.log_weight.push(Array2::from_shape_fn((n, m), |(i, _)| {
            if whole[i] || random.chance(0.3) { mask } else { 0.0 }
        }));
    }
    for null in &mut problem.null {
        *null = match random.integer(0, 3) {
            0 => *null,
            1 => NullEdge::Weighted { log_weight: 0.0, log_potential: 0.0 },
            2 => NullEdge::Weighted { log_weight: 0.0, log_potential: flavour.number(random) },
            _ => NullEdge::Gated { gate: 3.0 * flavour.number(random) },
        };
    }
    for j in 0..m {
        for i in (0..n).filter(|&i| !problem.allowed(i, j)).collect::<Vec<_>>() {
            problem.log_potential[[i, j]] = *random.pick(&GARBAGE);
        }
        if (0..n).all(|i| !problem.possible(i, j)) {
            problem.value.row_mut(j).fill(*random.pick(&GARBAGE));
        }
    }
    problem
}
