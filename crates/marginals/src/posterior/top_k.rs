use crate::{Real, check_room};
use ndarray::Array4;

use super::{Pass, Posterior, Question};
use crate::Error;
use crate::infer::exact::{Candidate, Request};

/// Bytes per place at the peak: an edge with its score while the keys are read, and once more in the
/// answer.
const ENTRY_BYTES: usize = 32;

/// The k most probable edges of every factor, best first.
///
/// Ties go to the smaller index. A null edge takes part as −1; places that no possible edge fills
/// hold −1 with probability 0. The first is [`Map`](super::question::Map). More places than there is
/// memory for are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopK(pub usize);

/// The answer to [`TopK`], both [B, H, F, k].
#[derive(Clone, Debug, PartialEq)]
pub struct TopKAnswer<T> {
    /// Index of the key (of the query where keys choose), or −1.
    pub index: Array4<i64>,
    /// Its probability.
    pub probability: Array4<T>,
}

impl<'v, T: Real> Question<'v, T> for TopK {
    type Answer = TopKAnswer<T>;
    fn request(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        if self.0 == 0 {
            return Err(Error::value("top-k", "at least 1", 0));
        }
        let shape = posterior.shape();
        let factors = [shape.batch, shape.heads, posterior.factor_count(), self.0];
        check_room("top-k", &factors, ENTRY_BYTES)?;
        request.top = request.top.max(self.0);
        Ok(())
    }
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<TopKAnswer<T>, Error> {
        pass.require(pass.request.top >= self.0, "top-k")?;
        let shape = pass.posterior.shape();
        let dimensions = (shape.batch, shape.heads, pass.posterior.factor_count(), self.0);
        let kept = || {
            let lists = pass.summary.top.chunks_exact(pass.request.top);
            lists.flat_map(|list| list[..self.0].iter())
        };
        let index = kept().map(|c: &Candidate<T>| c.index).collect();
        let probability = kept().map(|c| c.score).collect();
        Ok(TopKAnswer {
            index: Array4::from_shape_vec(dimensions, index).expect("k per factor"),
            probability: Array4::from_shape_vec(dimensions, probability).expect("k per factor"),
        })
    }
}
