use crate::Real;
use ndarray::Array3;

use super::{Pass, Posterior, Question};
use crate::Error;
use crate::infer::exact::Request;

/// The most probable edge of every factor, [B, H, F]: the index of its key (of its query where keys
/// choose), −1 for no edge.
///
/// No edge is the answer where nothing is possible, and where a null edge is the likeliest; it wins
/// ties, which otherwise go to the smallest index. Independent edges: the likeliest single edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Map;

impl<'v, T: Real> Question<'v, T> for Map {
    type Answer = Array3<i64>;
    fn request(
        &self,
        _posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        request.best = true;
        Ok(())
    }
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Array3<i64>, Error> {
        pass.require(pass.request.best, "map")?;
        Ok(pass.by_factor(pass.summary.best.iter().map(|c| c.index).collect()))
    }
}
