use ndarray::Array3;

use super::{Posterior, question::Entropy};
use crate::infer::exact::{self, Request};
use crate::{Error, Real, Shape};

impl<T: Real> Posterior<'_, T> {
    /// −E_p[log q] of every factor, in nats, [B, H, F], this posterior being p and `other` q.
    ///
    /// Both must have the same structure and sizes; priors, potentials, queries and keys may
    /// differ. +∞ where q rules out an edge that p may have, 0 where p has nothing possible. Cost:
    /// a pass over the scores of each, and one over both together.
    pub fn cross_entropy(&self, other: &Posterior<'_, T>) -> Result<Array3<T>, Error> {
        self.check_comparable(other)?;
        let own = self.run(Request::default());
        let others = other.run(Request::default());
        let entropy = exact::cross_entropy(self, &own.summary, other, &others.summary);
        Ok(own.by_factor(entropy))
    }

    /// KL(p ‖ q) = E_p[log p − log q] of every factor, in nats, [B, H, F]; never negative. See
    /// [`cross_entropy`](Self::cross_entropy).
    pub fn kl_to(&self, other: &Posterior<'_, T>) -> Result<Array3<T>, Error> {
        let cross = self.cross_entropy(other)?;
        let entropy = self.ask(Entropy)?;
        let positive = |x: T| if x < T::zero() { T::zero() } else { x };
        Ok(ndarray::Zip::from(&cross).and(&entropy).map_collect(|&c, &h| positive(c - h)))
    }

    fn check_comparable(&self, other: &Posterior<'_, T>) -> Result<(), Error> {
        if self.structure.name() != other.structure.name() {
            return Err(Error::NotAnswerable {
                question: "cross-entropy".into(),
                why: format!(
                    "one posterior is over `{}`, the other over `{}`",
                    self.structure.name(),
                    other.structure.name()
                ),
                instead: "Compare posteriors over the same structure.".into(),
            });
        }
        let sizes = |s: &Shape| [s.batch, s.heads, s.key_heads, s.queries, s.keys];
        let (own, others) = (sizes(&self.shape), sizes(&other.shape));
        if own == others {
            return Ok(());
        }
        Err(Error::shape(
            "other",
            format!("[B, H, Hk, N, M] = {own:?}"),
            &others,
            "Compare posteriors over the same nodes.",
        ))
    }
}
