use crate::Real;
use marginals_kernels::TileMut;

use super::contract::Potential;
use super::features::Features;
use crate::Block;

/// log ψ(q, k) = f(q, k): a potential of the user's own, from a plain function of two rows.
///
/// It answers every question and has no gradient; for that, implement [`Potential`].
///
/// ```
/// use marginals::potential::{FromFunction, Potential};
/// // Minus the L1 distance.
/// let laplacian = FromFunction(|q: &[f32], k: &[f32]| {
///     -q.iter().zip(k).map(|(a, b)| (a - b).abs()).sum::<f32>()
/// });
/// # let _: &dyn Potential<f32> = &laplacian;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FromFunction<F>(pub F);

impl<T: Real, F: Fn(&[T], &[T]) -> T + Send + Sync> Potential<T> for FromFunction<F> {
    fn name(&self) -> &'static str {
        "from-function"
    }
    fn log_potential(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        k: &Features<'_, T>,
        mut scores: TileMut<'_, T>,
    ) {
        for (r, i) in block.queries.clone().enumerate() {
            for (x, j) in scores.row_mut(r).iter_mut().zip(block.keys.clone()) {
                *x = (self.0)(q.row(i), k.row(j));
            }
        }
    }
}
