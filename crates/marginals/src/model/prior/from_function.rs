use crate::Real;
use marginals_kernels::{TileMut, add_log_weight};

use super::contract::Prior;
use super::product::Combine;
use crate::Block;

/// log w_ij = f(batch, head, i, j): a prior of the user's own, from a plain function.
///
/// The function is called once per possible edge; a prior with structure to exploit is better
/// written as its own [`Prior`].
///
/// ```
/// use marginals::prior::FromFunction;
/// // Every query prefers keys of its own parity.
/// let parity = FromFunction(|_batch, _head, i: usize, j: usize| if i % 2 == j % 2 { 0.0 } else { -1.0 });
/// # let _: &dyn marginals::prior::Prior<f32> = &parity;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FromFunction<F>(pub F);

impl<F> Combine for FromFunction<F> {}

impl<T: Real, F> Prior<T> for FromFunction<F>
where
    F: Fn(usize, usize, usize, usize) -> f64 + Send + Sync,
{
    fn name(&self) -> &'static str {
        "from-function"
    }
    fn add_log_weights(&self, block: &Block, mut scores: TileMut<'_, T>) {
        for (r, i) in block.queries.clone().enumerate() {
            for (x, j) in scores.row_mut(r).iter_mut().zip(block.keys.clone()) {
                let weight = T::of((self.0)(block.batch, block.head, i, j));
                *x = add_log_weight(*x, weight);
            }
        }
    }
}
