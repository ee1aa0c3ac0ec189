//! Priors by themselves, apart from any posterior.

mod adjacency;
mod distance;
mod far;
mod impossible;
mod positions;
mod survival;
mod tails;

use marginals::Accumulator;

/// The sums of a parameter of few numbers.
fn small(sum: &Accumulator<'_, f64>) -> Vec<f64> {
    match sum {
        Accumulator::Small(sum) => sum.clone(),
        other => panic!("{other:?}"),
    }
}
