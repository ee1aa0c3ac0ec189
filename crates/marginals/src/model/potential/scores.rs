use marginals_kernels::{Tile, TileMut};
use serde::{Deserialize, Serialize};

use super::contract::{Potential, PotentialPart};
use super::features::{FeatureGradient, Features};
use crate::model::part::Part;
use crate::model::tensors::Inputs;
use crate::{Block, Error, Real, Shape};

/// log ψ_ij given as it is: a query is the row of its scores, one for each key, and keys hold nothing.
///
/// For scores that another model makes. q is [B, H, N, M] and k [B, Hk, M, 0]; in a file of inputs the
/// tensor `scores` [B, H, N, M] takes the place of both. −∞ is impossible, and keeps log-weights of any
/// size from making it possible. The gradient of the queries is that of the scores.
///
/// ```
/// use marginals::{Model, potential::Scores, prior::Uniform, question::Marginals};
/// use marginals::structure::EachQueryPicksOne;
/// # use ndarray::{Array4, array};
/// let scores = array![[[[0.0, 3f64.ln()], [0.0, f64::NEG_INFINITY]]]];
/// let keys = Array4::zeros((1, 1, 2, 0));
/// let model = Model::new(EachQueryPicksOne, Uniform, Scores);
/// let p = model.posterior(scores.view(), keys.view())?.ask(Marginals)?;
/// assert!((p[[0, 0, 0, 1]] - 0.75).abs() < 1e-15 && p[[0, 0, 1, 1]] == 0.0);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scores;

impl Part for Scores {
    const NAME: &'static str = "scores";
    const MEANING: &'static str =
        "log ψ_ij as given, in the tensor `scores` [B, H, N, M] in place of q and k";
    const EXAMPLE: &'static str = "\"scores\"";
}

impl PotentialPart for Scores {
    fn build<T: Real>(&self, _inputs: &Inputs<'_, T>) -> Result<Box<dyn Potential<T>>, Error> {
        Ok(Box::new(*self))
    }
}

impl<T: Real> Potential<T> for Scores {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn check(&self, shape: &Shape) -> Result<(), Error> {
        if shape.query_width == shape.keys {
            return Ok(());
        }
        Err(Error::shape(
            "q",
            format!("[B, H, N, {}], a score for each key", shape.keys),
            &[shape.batch, shape.heads, shape.queries, shape.query_width],
            "Of the potential `scores` a query is the row of its scores.",
        ))
    }

    fn log_potential(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        _k: &Features<'_, T>,
        mut scores: TileMut<'_, T>,
    ) {
        for (r, i) in block.queries.clone().enumerate() {
            scores.row_mut(r).copy_from_slice(&q.row(i)[block.keys.clone()]);
        }
    }

    fn backward(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        _k: &Features<'_, T>,
        _log_potential: Option<Tile<'_, T>>,
        gradient: TileMut<'_, T>,
        into: &mut FeatureGradient<'_, T>,
    ) -> Result<(), Error> {
        for (r, row) in into.q.chunks_exact_mut(q.depth().max(1)).take(gradient.rows).enumerate() {
            let own = row[block.keys.clone()].iter_mut().zip(gradient.row(r));
            own.for_each(|(x, &g)| *x += g);
        }
        Ok(())
    }
}
