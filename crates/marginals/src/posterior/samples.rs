use crate::{Real, check_room};
use ndarray::{Array4, Array5};

use super::{Pass, Posterior, Question};
use crate::Error;
use crate::infer::exact::Request;
use crate::model::structure::Factorisation;

/// Bytes per drawn choice at the peak: the best edge under its noise, its index, and the index again
/// while draws are brought outermost.
const CHOICE_BYTES: usize = 32;
/// Bytes per edge of a drawn set.
const SET_BYTES: usize = 1;

/// Exact, independent draws from the posterior.
///
/// A choice is drawn as the best edge under Gumbel noise, an independent edge by comparing a
/// uniform number with its probability. The noise of an edge is a function of (seed, batch, head,
/// query, key, draw) alone (Philox4x32-10), so a seed gives the same draws at any number of
/// threads and however the keys are cut. Cost: two logarithms per possible edge and draw. More draws
/// than there is memory for are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Samples {
    /// How many draws.
    pub count: usize,
    /// The seed.
    pub seed: u64,
}

/// The answer to [`Samples`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Draws {
    /// One edge per factor, [S, B, H, F]: the index of its key (of its query where keys choose),
    /// −1 for none.
    Choices(Array4<i64>),
    /// Sets of edges, [S, B, H, N, M]: 1 where there is an edge. For independent edges.
    Sets(Array5<u8>),
}

impl Draws {
    /// The drawn choices, where factors choose one edge.
    pub fn choices(&self) -> Option<&Array4<i64>> {
        match self {
            Self::Choices(choices) => Some(choices),
            Self::Sets(_) => None,
        }
    }

    /// The drawn sets, where edges are independent.
    pub fn sets(&self) -> Option<&Array5<u8>> {
        match self {
            Self::Choices(_) => None,
            Self::Sets(sets) => Some(sets),
        }
    }
}

impl<'v, T: Real> Question<'v, T> for Samples {
    type Answer = Draws;
    fn request(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        if self.count == 0 {
            return Err(Error::value("samples", "at least 1 draw", 0));
        }
        if request.draws.is_some_and(|asked| asked != (self.count, self.seed)) {
            return Err(Error::NotAnswerable {
                question: "samples".into(),
                why: "this pass already draws another number of samples, or with another seed"
                    .into(),
                instead: "Draw all samples at once, or in two passes.".into(),
            });
        }
        let shape = posterior.shape();
        let (b, h) = (shape.batch, shape.heads);
        match posterior.factorisation {
            Factorisation::PerEdge => {
                check_room("samples", &[self.count, b, h, shape.queries, shape.keys], SET_BYTES)?;
            }
            _ => {
                let factors = posterior.factor_count();
                check_room("samples", &[self.count, b, h, factors], CHOICE_BYTES)?;
            }
        }
        request.draws = Some((self.count, self.seed));
        Ok(())
    }
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Draws, Error> {
        pass.require(pass.request.draws == Some((self.count, self.seed)), "samples")?;
        let shape = pass.posterior.shape();
        let (b, h, factors) = (shape.batch, shape.heads, pass.posterior.factor_count());
        if pass.posterior.factorisation == Factorisation::PerEdge {
            let bits = T::draw_sets(pass.posterior, &pass.summary, self.count, self.seed);
            let dimensions = (self.count, b, h, shape.queries, shape.keys);
            return Ok(Draws::Sets(
                Array5::from_shape_vec(dimensions, bits).expect("one bit per edge and draw"),
            ));
        }
        // Draws of a factor lie side by side; the answer has draws outermost.
        let by_factor =
            Array4::from_shape_vec((b, h, factors, self.count), pass.summary.draws.clone())
                .expect("draws of every factor");
        let outermost = by_factor.permuted_axes([3, 0, 1, 2]);
        Ok(Draws::Choices(outermost.as_standard_layout().into_owned()))
    }
}
