use std::sync::Arc;

use ndarray::{Array4, ArrayView4};

use super::Question;
use super::upstream::Vectors;
use crate::infer::{EdgeFunction, Handle, Linear, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// E[Σ_j φ_ij f_c(i, j)] of every query and given functions, [B, H, N, C].
///
/// Any linear functional of the posterior, with its gradient in everything the posterior depends on and
/// in the functions' own parameters. How far a query looks is this with f = |i − j|. 0 for a query
/// without an edge. Cost: the function and one multiplication per possible edge and function.
///
/// ```
/// # use marginals::{Block, Model, TileMut, potential::Dot, prior::Causal, structure::EachQueryPicksOne};
/// use marginals::infer::EdgeFunction;
/// use marginals::question::ExpectedOf;
/// /// Whether an edge stays at its query.
/// #[derive(Debug)]
/// struct Stays;
/// impl EdgeFunction<f64> for Stays {
///     fn fill(&self, block: &Block, mut values: TileMut<'_, f64>) {
///         for (r, i) in block.queries.clone().enumerate() {
///             for (x, j) in values.row_mut(r).iter_mut().zip(block.keys.clone()) {
///                 *x = f64::from(u8::from(block.distance(i, j) == 0));
///             }
///         }
///     }
/// }
/// # let q = ndarray::Array4::<f64>::zeros((1, 1, 4, 2));
/// let model = Model::new(EachQueryPicksOne, Causal, Dot::new(1.0));
/// let posterior = model.posterior(q.view(), q.view())?;
/// let stays = posterior.ask(ExpectedOf(&[&Stays]))?;
/// assert_eq!(stays[[0, 0, 3, 0]], 0.25);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ExpectedOf<'v, T>(pub &'v [&'v dyn EdgeFunction<T>]);

impl<'v, T: Real> Question<'v, T> for ExpectedOf<'v, T> {
    type Answer = Array4<T>;
    type Upstream = Vectors;
    type Plan = Vec<Handle>;

    fn plan(
        &self,
        _: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Vec<Handle>, Error> {
        let wanted = |&function: &&'v dyn EdgeFunction<T>| Linear::Edge(Arc::new(function));
        Ok(self.0.iter().map(|function| request.linear(wanted(function))).collect())
    }

    fn answer(&self, plan: &Vec<Handle>, found: &Found<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        let shape = found.shape();
        let mut all = Array4::zeros((shape.batch, shape.heads, shape.queries, plan.len()));
        for (c, &function) in plan.iter().enumerate() {
            let expected = found.finding.expectation(function).values.clone();
            let expected = found.by_query(found.unscaled(expected));
            all.index_axis_mut(ndarray::Axis(3), c).assign(&expected);
        }
        Ok(all)
    }

    fn backward<'g>(
        &self,
        plan: &Vec<Handle>,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: Option<ArrayView4<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        let checked = found.check_by_query_of("expected-of", upstream, plan.len())?;
        let Some(gradient) = checked else { return Ok(()) };
        for (c, &function) in plan.iter().enumerate() {
            let own = gradient.index_axis(ndarray::Axis(3), c);
            let own: Vec<T> = own.iter().copied().collect();
            slopes.add_linear(function, found.scaled(own.into(), 1));
        }
        Ok(())
    }
}
