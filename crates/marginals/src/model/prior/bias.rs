use marginals_kernels::{InstructionSet, Tile, TileMut, add_log_weight, add_log_weights};
use ndarray::{CowArray, Ix4, s};

use super::Prior;
use crate::{Accumulator, Block, Error, Parameter, Real, Shape};

/// log w_ij = a dense tensor of log-weights, learned or given; −∞ is impossible.
///
/// Shape [B, H, N, M], where any axis may be 1 and is then shared. Its gradient has the same
/// shape. Cost: reading N×M numbers; a prior that has a formula is cheaper as its own type.
#[derive(Clone, Debug)]
pub struct Bias<'a, T> {
    log_weights: CowArray<'a, T, Ix4>,
    name: &'static str,
}

impl<'a, T: Real> Bias<'a, T> {
    /// Log-weights that broadcast to [B, H, N, M]; borrowed when the last axis is contiguous.
    pub fn new(log_weights: impl Into<CowArray<'a, T, Ix4>>) -> Self {
        Self::named("bias", log_weights.into())
    }

    pub(super) fn named(name: &'static str, log_weights: CowArray<'a, T, Ix4>) -> Self {
        let last = log_weights.strides()[3];
        let log_weights = if last == 1 || log_weights.dim().3 <= 1 {
            log_weights
        } else {
            CowArray::from(log_weights.as_standard_layout().into_owned())
        };
        Self { log_weights, name }
    }
}

impl<T: Real> Prior<T> for Bias<'_, T> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        let whole = [shape.batch, shape.heads, shape.queries, shape.keys];
        let fits = self.log_weights.shape().iter().zip(whole).all(|(&n, all)| n == 1 || n == all);
        if fits {
            return Ok(());
        }
        Err(Error::shape(
            self.name,
            format!("{whole:?}, any axis of which may be 1"),
            self.log_weights.shape(),
            "Bias entries are log-weights, one per edge, shared along axes of length 1.",
        ))
    }
    fn add_log_weights(&self, block: &Block, mut scores: TileMut<'_, T>) {
        let (b, h, n, m) = self.log_weights.dim();
        let b = if b == 1 { 0 } else { block.batch };
        let h = if h == 1 { 0 } else { block.head };
        let query = |r: usize| if n == 1 { 0 } else { block.queries.start + r };
        if m == 1 {
            for r in 0..scores.rows {
                let weight = self.log_weights[[b, h, query(r), 0]];
                scores.row_mut(r).iter_mut().for_each(|x| *x = add_log_weight(*x, weight));
            }
            return;
        }
        add_log_weights(InstructionSet::detect(), scores, |r| {
            let row = self.log_weights.slice(s![b, h, query(r), block.keys.clone()]);
            row.to_slice().expect("the last axis of a bias is contiguous")
        });
    }
    fn parameters(&self) -> Vec<Parameter> {
        let (b, h, n, m) = self.log_weights.dim();
        vec![Parameter::scores(self.name, [b, h, n, m])]
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    ) {
        into[0].add_tile(block, gradient);
    }
}
