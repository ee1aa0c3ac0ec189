use std::ops::Range;

use marginals_kernels::{Tile, TileMut};
use ndarray::ArrayViewMut4;

use super::contract::{Coverage, Prior, intersect};
use crate::model::nodes::{NodeGradient, Nodes};
use crate::{Accumulator, Block, Error, Parameter, Real, Shape};

/// The product of two priors: log-weights add, and an edge is possible where both allow it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct And<A, B>(pub A, pub B);

/// Multiplying priors: `Causal.and(Geometric::new(0.1))`.
///
/// Apart from [`Prior`], so that the number type need not be known yet; a prior of your own is multiplied
/// with `impl Combine for Yours {}`.
pub trait Combine: Sized {
    /// The product with another prior: log-weights add.
    fn and<P: Combine>(self, other: P) -> And<Self, P> {
        And(self, other)
    }
}

impl<A: Combine, B: Combine> Combine for And<A, B> {}
impl<T> Combine for Product<'_, T> {}
impl<T> Combine for Box<dyn Prior<T> + '_> {}
impl<P: Combine> Combine for &P {}

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
    fn add_references(&self, block: &Block, into: &mut [f64]) {
        self.0.add_references(block, into);
        self.1.add_references(block, into);
    }
    fn accumulate_reference_gradient(
        &self,
        block: &Block,
        gradient: &[f64],
        into: &mut [Accumulator<'_, T>],
    ) {
        let (first, second) = into.split_at_mut(self.0.parameters().len());
        self.0.accumulate_reference_gradient(block, gradient, first);
        self.1.accumulate_reference_gradient(block, gradient, second);
    }
    fn upper_bound(&self, block: &Block) -> Option<f64> {
        Some(self.0.upper_bound(block)? + self.1.upper_bound(block)?)
    }
    fn log_tail(&self, block: &Block) -> Option<f64> {
        tail_of_product(&[&self.0, &self.1], block)
    }
    fn bind<'n>(&'n self, nodes: &Nodes<'n, '_, T>) -> Option<Box<dyn Prior<T> + 'n>> {
        bind_any(&[&self.0, &self.1], nodes)
    }
    fn accumulate_node_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut NodeGradient<'_, T>,
    ) {
        self.0.accumulate_node_gradient(block, gradient, into);
        self.1.accumulate_node_gradient(block, gradient, into);
    }
    fn finish_node_gradients(&self, mut q: ArrayViewMut4<'_, T>, mut k: ArrayViewMut4<'_, T>) {
        self.0.finish_node_gradients(q.view_mut(), k.view_mut());
        self.1.finish_node_gradients(q, k);
    }
}

/// Σ_j Π_k w_k ≤ (Σ_j w_a) Π_{k ≠ a} max_j w_k, whichever factor a is summed.
fn tail_of_product<T: Real>(priors: &[&dyn Prior<T>], block: &Block) -> Option<f64> {
    let bounds: Vec<Option<f64>> = priors.iter().map(|prior| prior.upper_bound(block)).collect();
    let summing = |(a, prior): (usize, &&dyn Prior<T>)| {
        let others = bounds[..a].iter().chain(&bounds[a + 1..]);
        others.fold(prior.log_tail(block), |sum, bound| Some(sum? + (*bound)?))
    };
    priors.iter().enumerate().filter_map(summing).reduce(f64::min)
}

/// The product with those factors bound that depend on the nodes; none where none does.
fn bind_any<'n, T: Real>(
    priors: &[&'n dyn Prior<T>],
    nodes: &Nodes<'n, '_, T>,
) -> Option<Box<dyn Prior<T> + 'n>> {
    // Of what the references point to: a reference to one is a prior of its own.
    let bound: Vec<_> = priors.iter().map(|prior| (**prior).bind(nodes)).collect();
    if bound.iter().all(Option::is_none) {
        return None;
    }
    let mut factors: Vec<Box<dyn Prior<T> + 'n>> = Vec::with_capacity(priors.len());
    for (bound, &prior) in bound.into_iter().zip(priors) {
        factors.push(match bound {
            Some(bound) => bound,
            None => Box::new(prior),
        });
    }
    Some(Box::new(Product(factors)))
}

/// The product of any number of priors chosen at run time; of none, the uniform prior.
pub struct Product<'a, T>(pub Vec<Box<dyn Prior<T> + 'a>>);

impl<'a, T: Real> Product<'a, T> {
    fn all(&self) -> Vec<&(dyn Prior<T> + 'a)> {
        self.0.iter().map(|prior| &**prior).collect()
    }
}

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
    fn add_references(&self, block: &Block, into: &mut [f64]) {
        self.0.iter().for_each(|prior| prior.add_references(block, into));
    }
    fn accumulate_reference_gradient(
        &self,
        block: &Block,
        gradient: &[f64],
        mut into: &mut [Accumulator<'_, T>],
    ) {
        for prior in &self.0 {
            let (own, rest) = into.split_at_mut(prior.parameters().len());
            prior.accumulate_reference_gradient(block, gradient, own);
            into = rest;
        }
    }
    fn upper_bound(&self, block: &Block) -> Option<f64> {
        self.0.iter().try_fold(0.0, |sum, prior| Some(sum + prior.upper_bound(block)?))
    }
    fn log_tail(&self, block: &Block) -> Option<f64> {
        match self.0.is_empty() {
            true => Some((block.keys.len() as f64).ln()),
            false => tail_of_product(&self.all(), block),
        }
    }
    fn bind<'n>(&'n self, nodes: &Nodes<'n, '_, T>) -> Option<Box<dyn Prior<T> + 'n>> {
        bind_any(&self.all(), nodes)
    }
    fn accumulate_node_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut NodeGradient<'_, T>,
    ) {
        self.0.iter().for_each(|prior| prior.accumulate_node_gradient(block, gradient, into));
    }
    fn finish_node_gradients(&self, mut q: ArrayViewMut4<'_, T>, mut k: ArrayViewMut4<'_, T>) {
        self.0.iter().for_each(|prior| prior.finish_node_gradients(q.view_mut(), k.view_mut()));
    }
}
