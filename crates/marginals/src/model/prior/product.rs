use std::ops::Range;

use marginals_kernels::{Tile, TileMut};

use super::contract::{Coverage, Prior, intersect};
use crate::{Accumulator, Block, Error, Parameter, Real, Shape};

/// The product of two priors: log-weights add, and an edge is possible where both allow it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct And<A, B>(pub A, pub B);

/// Multiplying priors: `Causal.and(Geometric::new(0.1))`.
///
/// Apart from [`Prior`], so that the number type need not be known yet.
pub trait Combine: Sized {
    /// The product with another prior: log-weights add.
    fn and<P>(self, other: P) -> And<Self, P> {
        And(self, other)
    }
}

impl<P> Combine for P {}

fn combine(a: Coverage, b: impl FnOnce() -> Coverage) -> Coverage {
    match (a, a == Coverage::Empty) {
        (_, true) => Coverage::Empty,
        (Coverage::Free, _) => b(),
        _ => match b() {
            Coverage::Empty => Coverage::Empty,
            _ => Coverage::Weighted,
        },
    }
}

impl<T: Real, A: Prior<T>, B: Prior<T>> Prior<T> for And<A, B> {
    fn name(&self) -> &'static str {
        "product"
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        self.0.check(shape)?;
        self.1.check(shape)
    }
    fn add_log_weights(&self, block: &Block, mut scores: TileMut<'_, T>) {
        self.0.add_log_weights(block, scores.reborrow());
        self.1.add_log_weights(block, scores);
    }
    fn coverage(&self, block: &Block) -> Coverage {
        combine(self.0.coverage(block), || self.1.coverage(block))
    }
    fn live_keys(&self, block: &Block) -> Range<usize> {
        intersect(self.0.live_keys(block), self.1.live_keys(block))
    }
    fn is_mask(&self) -> bool {
        self.0.is_mask() && self.1.is_mask()
    }
    fn parameters(&self) -> Vec<Parameter> {
        let mut all = self.0.parameters();
        all.extend(self.1.parameters());
        all
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    ) {
        let (first, second) = into.split_at_mut(self.0.parameters().len());
        self.0.accumulate_gradient(block, gradient, first);
        self.1.accumulate_gradient(block, gradient, second);
    }
}

/// The product of any number of priors chosen at run time; of none, the uniform prior.
pub struct Product<'a, T>(pub Vec<Box<dyn Prior<T> + 'a>>);

impl<T: Real> Prior<T> for Product<'_, T> {
    fn name(&self) -> &'static str {
        "product"
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        self.0.iter().try_for_each(|prior| prior.check(shape))
    }
    fn add_log_weights(&self, block: &Block, mut scores: TileMut<'_, T>) {
        for prior in &self.0 {
            prior.add_log_weights(block, scores.reborrow());
        }
    }
    fn coverage(&self, block: &Block) -> Coverage {
        self.0.iter().fold(Coverage::Free, |all, prior| combine(all, || prior.coverage(block)))
    }
    fn live_keys(&self, block: &Block) -> Range<usize> {
        let all = self.0.iter().map(|prior| prior.live_keys(block));
        all.fold(block.keys.clone(), intersect)
    }
    fn is_mask(&self) -> bool {
        self.0.iter().all(|prior| prior.is_mask())
    }
    fn parameters(&self) -> Vec<Parameter> {
        self.0.iter().flat_map(|prior| prior.parameters()).collect()
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        mut into: &mut [Accumulator<'_, T>],
    ) {
        for prior in &self.0 {
            let (own, rest) = into.split_at_mut(prior.parameters().len());
            prior.accumulate_gradient(block, gradient, own);
            into = rest;
        }
    }
}
