//! Centres: numbers near the values of the keys that queries can pick.

use std::cmp::Ordering;
use std::ops::Range;

use marginals_kernels::TileMut;
use ndarray::{ArrayView1, CowArray, Ix2};

use crate::Real;
use crate::infer::problem::Problem;

/// A log-weight so far below the largest of its query is a mask: e to this is 0 in f64 too.
const MASKED: f64 = -1e4;

/// Centre of the values `rows` of a run of keys: the medians of those that the first, the middle or the
/// last query of a head can pick. Keys that nobody can pick may hold anything, padding of zeros or what is
/// finite and huge, and a mean would be theirs; medians bear what the three queries do not tell.
pub(crate) fn centre<T: Real>(
    problem: &Problem<'_, T>,
    head: (usize, usize),
    keys: Range<usize>,
    rows: &CowArray<'_, T, Ix2>,
) -> Vec<T> {
    let picked = picked(problem, head, keys);
    let median = |column: ArrayView1<'_, T>| {
        let of = |only: bool| -> Vec<T> {
            let pairs = column.iter().zip(&picked);
            pairs.filter(|&(x, &own)| x.is_finite() && (own || !only)).map(|(&x, _)| x).collect()
        };
        let mut finite = of(true);
        if finite.is_empty() {
            finite = of(false);
        }
        let middle = finite.len() / 2;
        let order = |a: &T, b: &T| a.partial_cmp(b).unwrap_or(Ordering::Equal);
        match finite.is_empty() {
            true => T::zero(),
            false => *finite.select_nth_unstable_by(middle, order).1,
        }
    };
    rows.columns().into_iter().map(median).collect()
}

/// Whether the first, the middle or the last query of a head can pick a key, of a run of keys.
fn picked<T: Real>(
    problem: &Problem<'_, T>,
    head: (usize, usize),
    keys: Range<usize>,
) -> Vec<bool> {
    let queries = problem.shape.queries;
    let mut picked = vec![false; keys.len()];
    if queries == 0 || keys.is_empty() {
        return picked;
    }
    let mut log_weights = vec![T::zero(); keys.len()];
    let mut asked = vec![0, queries / 2, queries - 1];
    asked.dedup();
    for query in asked {
        log_weights.fill(T::zero());
        let block = problem.shape.block(head, query..query + 1, keys.clone());
        let tile = TileMut::new(&mut log_weights, 1, keys.len(), keys.len());
        problem.prior.add_log_weights(&block, tile);
        let largest = log_weights.iter().fold(T::neg_infinity(), |a, &w| a.max(w));
        let least = if largest == T::neg_infinity() { largest } else { largest + T::of(MASKED) };
        let pairs = picked.iter_mut().zip(&log_weights);
        pairs.for_each(|(picked, &w)| *picked |= w > least);
    }
    picked
}
