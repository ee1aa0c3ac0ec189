use marginals_kernels::TileMut;
use serde::{Deserialize, Serialize};

use super::contract::{Distance, DistancePart};
use crate::model::part::Part;
use crate::model::tensors::Inputs;
use crate::{Block, Error, Real};

/// d_ij = position of query i − position of key j: how many places key j lies behind query i.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index;

impl Part for Index {
    const NAME: &'static str = "index";
    const MEANING: &'static str = "d_ij = i − j, in positions";
    const EXAMPLE: &'static str = "\"index\"";
}

impl DistancePart for Index {
    fn build<'a, T: Real>(
        &self,
        _inputs: &Inputs<'a, T>,
    ) -> Result<Box<dyn Distance<T> + 'a>, Error> {
        Ok(Box::new(*self))
    }
}

impl<T: Real> Distance<T> for Index {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn fill(&self, block: &Block, mut distances: TileMut<'_, f64>) {
        for (r, i) in block.queries.clone().enumerate() {
            for (d, j) in distances.row_mut(r).iter_mut().zip(block.keys.clone()) {
                *d = block.distance(i, j) as f64;
            }
        }
    }
    fn is_index(&self) -> bool {
        true
    }
}
