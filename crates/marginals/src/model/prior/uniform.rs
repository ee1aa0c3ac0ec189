use crate::Real;
use marginals_kernels::TileMut;

use super::{Coverage, Prior};
use crate::Block;

/// log w_ij = 0: every edge alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uniform;

impl<T: Real> Prior<T> for Uniform {
    fn name(&self) -> &'static str {
        "uniform"
    }
    fn add_log_weights(&self, _block: &Block, _scores: TileMut<'_, T>) {}
    fn coverage(&self, _block: &Block) -> Coverage {
        Coverage::Free
    }
    fn is_mask(&self) -> bool {
        true
    }
}
