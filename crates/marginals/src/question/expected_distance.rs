use std::sync::Arc;

use marginals_kernels::TileMut;
use ndarray::{Array3, ArrayView3};

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Numbers;
use crate::infer::slopes::flat;
use crate::infer::{EdgeFunction, Handle, Linear, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Block, Error, Real};

/// E[Σ_j φ_ij |i − j|] of every query, [B, H, N], in positions: how far it looks.
///
/// Positions are those of the model's offsets. Having no edge counts as distance 0; of a walk, the sum
/// over its picks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpectedDistance;

/// |i − j|.
#[derive(Debug)]
pub(crate) struct Distance;

impl Distance {
    /// Name of the answer that its expectation is.
    pub(crate) const EXPECTED: &str = ExpectedDistance::NAME;
}

impl<T: Real> EdgeFunction<T> for Distance {
    fn fill(&self, block: &Block, mut values: TileMut<'_, T>) {
        for (r, i) in block.queries.clone().enumerate() {
            for (x, j) in values.row_mut(r).iter_mut().zip(block.keys.clone()) {
                *x = T::of(block.distance(i, j).unsigned_abs() as f64);
            }
        }
    }
}

impl<'v, T: Real> Question<'v, T> for ExpectedDistance {
    type Answer = Array3<T>;
    type Upstream = Numbers;
    type Plan = Handle;

    fn plan(&self, _: &Posterior<'_, T>, request: &mut Request<'v, T>) -> Result<Handle, Error> {
        Ok(request.linear(Linear::Edge(Arc::new(Distance))))
    }

    fn answer(&self, plan: &Handle, found: &Found<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        let expected = found.finding.expectation(*plan).values.clone();
        Ok(found.by_query(found.unscaled(expected)))
    }

    fn backward<'g>(
        &self,
        plan: &Handle,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: Option<ArrayView3<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        if let Some(gradient) = found.check_by_query("expected-distance", upstream)? {
            slopes.add_linear(*plan, found.scaled(flat(gradient), 1));
        }
        Ok(())
    }
}

impl NamedQuestion for ExpectedDistance {
    const NAME: &'static str = "expected-distance";
    const DEFINITION: &'static str = "E|i − j|";
    const SHAPE: &'static str = "[B, H, N]";
    const DIFFERENTIABLE: bool = true;

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(ExpectedDistance))
    }
}
