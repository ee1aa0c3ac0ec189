use ndarray::Array3;

use super::Entropy;
use crate::infer::Request;
use crate::posterior::{Found, Posterior};
use crate::{Error, Real, Shape};

impl<T: Real> Posterior<'_, T> {
    /// −E_p[log q] of every factor, in nats, [B, H, F], this posterior being p and `other` q.
    ///
    /// Both must have the same structure and sizes; priors, potentials, queries and keys may
    /// differ. +∞ where q rules out an edge that p may have, 0 where p has nothing possible. Cost:
    /// a pass over the scores of each, and one over both together.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`] and [`Error::Shape`] where the two cannot be compared.
    pub fn cross_entropy(&self, other: &Posterior<'_, T>) -> Result<Array3<T>, Error> {
        self.check_comparable(other)?;
        if let (Some(own), Some(others)) = (self.inference.sets(), other.inference.sets()) {
            own.check_sums(&self.problem)?;
            others.check_sums(&other.problem)?;
            let (b, h) = (self.shape().batch, self.shape().heads);
            let all = own.cross_entropy(&self.problem, (others, &other.problem));
            let all = Array3::from_shape_vec((b, h, self.factor_count()), all);
            return Ok(all.expect("one entry per factor"));
        }
        let (own, others) = (self.normalisers()?, other.normalisers()?);
        let theirs = others.choices("cross-entropy")?;
        let edges = own.choices("cross-entropy")?;
        let other = (theirs, &other.problem, &others.finding);
        Ok(own.by_factor(edges.cross_entropy(&self.problem, &own.finding, other)?))
    }

    /// KL(p ‖ q) = E_p[log p − log q] of every factor, in nats, [B, H, F]; never negative. See
    /// [`cross_entropy`](Self::cross_entropy).
    ///
    /// # Errors
    /// As there.
    pub fn kl_to(&self, other: &Posterior<'_, T>) -> Result<Array3<T>, Error> {
        let cross = self.cross_entropy(other)?;
        let entropy = self.ask(Entropy)?;
        let positive = |x: T| if x < T::zero() { T::zero() } else { x };
        Ok(ndarray::Zip::from(&cross).and(&entropy).map_collect(|&c, &h| positive(c - h)))
    }

    /// A pass that finds out the normalisers alone.
    pub(crate) fn normalisers(&self) -> Result<Found<'_, '_, 'static, T>, Error> {
        let request = Request::new(&self.problem.shape);
        let keys = 0..self.problem.shape.keys;
        let finding = self.inference.find(&self.problem, &request, keys, true)?;
        Ok(Found { posterior: self, request, finding })
    }

    fn check_comparable(&self, other: &Posterior<'_, T>) -> Result<(), Error> {
        if self.structure != other.structure {
            return Err(Error::NotAnswerable {
                question: "cross-entropy".into(),
                why: format!(
                    "one posterior is over `{}`, the other over `{}`",
                    self.structure, other.structure
                ),
                instead: "Compare posteriors over the same structure.".into(),
            });
        }
        let sizes = |s: &Shape| [s.batch, s.heads, s.key_heads, s.queries, s.keys];
        let (own, others) = (sizes(self.shape()), sizes(other.shape()));
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
