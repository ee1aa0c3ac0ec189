use std::fmt::Debug;

use marginals_kernels::TileMut;
use ndarray::Array4;

use super::{Pass, Posterior, Question};
use crate::infer::exact::Request;
use crate::model::structure::Factorisation;
use crate::{Block, Error, Real};

/// Functions f_c(i, j) of an edge's place, by the block: what [`ExpectedOf`] averages.
pub trait EdgeFunctions<T>: Debug + Sync {
    /// Number C of functions, at least 1.
    fn count(&self) -> usize;

    /// Writes f_index over `block`. Must be finite wherever an edge is possible.
    fn fill(&self, index: usize, block: &Block, values: TileMut<'_, T>);
}

/// E[Σ_j φ_ij f_c(i, j)] of every query and function, [B, H, N, C].
///
/// [`ExpectedDistance`](super::question::ExpectedDistance) is this with f = |i − j|. 0 for a query
/// without an edge. Cost: the function and one multiplication per possible edge and function.
/// Refused where keys choose.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedOf<'v, T>(pub &'v dyn EdgeFunctions<T>);

impl<'v, T: Real> Question<'v, T> for ExpectedOf<'v, T> {
    type Answer = Array4<T>;
    fn request(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        let refuse = |why: &str, instead: &str| {
            Err(Error::NotAnswerable {
                question: "expected-of".into(),
                why: why.into(),
                instead: instead.into(),
            })
        };
        if matches!(posterior.factorisation, Factorisation::PerKey) {
            return refuse("here keys choose", "Ask where queries choose, or of the marginals.");
        }
        if request.functions.is_some() {
            return refuse(
                "the pass averages other functions already",
                "Give one list of functions to one question.",
            );
        }
        request.functions = Some(self.0);
        Ok(())
    }
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        pass.require(pass.request.functions.is_some(), "expected-of")?;
        let shape = pass.posterior.shape();
        let dimensions = (shape.batch, shape.heads, shape.queries, self.0.count());
        Ok(Array4::from_shape_vec(dimensions, pass.summary.functions.clone())
            .expect("one number per query and function"))
    }
}
