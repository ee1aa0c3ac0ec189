use marginals_kernels::TileMut;
use serde::{Deserialize, Serialize};

use super::contract::{Coverage, Prior, PriorPart};
use super::product::Combine;
use crate::model::part::Part;
use crate::model::tensors::Inputs;
use crate::{Block, Error, Real};

/// log w_ij = 0: every edge alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uniform;

impl Combine for Uniform {}

impl Part for Uniform {
    const NAME: &'static str = "uniform";
    const MEANING: &'static str = "log w_ij = 0";
    const EXAMPLE: &'static str = "\"uniform\"";
}

impl PriorPart for Uniform {
    fn build<'a, T: Real>(&self, _inputs: &Inputs<'a, T>) -> Result<Box<dyn Prior<T> + 'a>, Error> {
        Ok(Box::new(*self))
    }
}

impl<T: Real> Prior<T> for Uniform {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn add_log_weights(&self, _block: &Block, _scores: TileMut<'_, T>) {}
    fn coverage(&self, _block: &Block) -> Coverage {
        Coverage::Free
    }
    fn is_mask(&self) -> bool {
        true
    }
    fn log_tail(&self, block: &Block) -> Option<f64> {
        Some((block.keys.len() as f64).ln())
    }
}
