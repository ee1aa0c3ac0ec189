//! Inputs that reach the awkward cases, reproducible from a seed.
//!
//! A [`Recipe`] is a case as a handful of words and numbers: small to print, easy to shrink, and
//! [`Recipe::build`] always cooks the same [`Case`] from it. [`strategy`] draws recipes for proptest.

mod random;
mod recipe;
pub mod strategy;

pub use random::Random;
pub use recipe::{Case, Flavour, PotentialKind, PriorKind, Recipe};

use ndarray::Array2;

use crate::{Head, Structure, ValueKind};

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
