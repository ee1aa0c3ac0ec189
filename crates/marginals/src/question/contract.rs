//! The contract of questions.

use super::upstream::Upstream;
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// A question, or several: what a pass must find out, how the answer reads, and what its gradient says
/// of what was found.
///
/// `'v` is how long borrowed values live.
pub trait Question<'v, T: Real> {
    /// The answer.
    type Answer;
    /// Type of the gradient of a loss in the answer.
    type Upstream: Upstream;
    /// Where the statistics it asked for stand.
    type Plan;

    /// Adds the statistics that the answer is made of to what the pass finds out.
    ///
    /// # Errors
    /// [`Error`], where the question does not fit the model or the sizes.
    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Self::Plan, Error>;

    /// Whether the answer reads a normaliser or expectations. Where edges depend on each other, what is
    /// searched for and not summed over may be found where sums are out of reach.
    fn reads_sums(&self) -> bool {
        true
    }

    /// The answer, from what was found.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`] where the structure does not answer it.
    fn answer(
        &self,
        plan: &Self::Plan,
        found: &Found<'_, '_, 'v, T>,
    ) -> Result<Self::Answer, Error>;

    /// The answer off a finding that is read once, so that what is large may be moved out.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    fn take(
        &self,
        plan: &Self::Plan,
        found: &mut Found<'_, '_, 'v, T>,
    ) -> Result<Self::Answer, Error> {
        self.answer(plan, found)
    }

    /// Adds what the gradient in the answer says of the statistics, by the chain rule.
    ///
    /// # Errors
    /// [`Error::Shape`] where the gradient has not the answer's shape.
    fn backward<'g>(
        &self,
        plan: &Self::Plan,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: <Self::Upstream as Upstream>::Of<'g, T>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error>;
}

macro_rules! several {
    ($($question:ident $index:tt),+) => {
        impl<'v, T: Real, $($question: Question<'v, T>),+> Question<'v, T> for ($($question,)+) {
            type Answer = ($($question::Answer,)+);
            type Upstream = ($($question::Upstream,)+);
            type Plan = ($($question::Plan,)+);
            fn plan(
                &self,
                posterior: &Posterior<'_, T>,
                request: &mut Request<'v, T>,
            ) -> Result<Self::Plan, Error> {
                Ok(($(self.$index.plan(posterior, request)?,)+))
            }
            fn reads_sums(&self) -> bool {
                false $(|| self.$index.reads_sums())+
            }
            fn answer(
                &self,
                plan: &Self::Plan,
                found: &Found<'_, '_, 'v, T>,
            ) -> Result<Self::Answer, Error> {
                Ok(($(self.$index.answer(&plan.$index, found)?,)+))
            }
            fn take(
                &self,
                plan: &Self::Plan,
                found: &mut Found<'_, '_, 'v, T>,
            ) -> Result<Self::Answer, Error> {
                Ok(($(self.$index.take(&plan.$index, found)?,)+))
            }
            fn backward<'g>(
                &self,
                plan: &Self::Plan,
                found: &'g Found<'_, '_, 'v, T>,
                upstream: <Self::Upstream as Upstream>::Of<'g, T>,
                slopes: &mut Slopes<'g, T>,
            ) -> Result<(), Error> {
                $(self.$index.backward(&plan.$index, found, upstream.$index, slopes)?;)+
                Ok(())
            }
        }
    };
}
several!(A 0);
several!(A 0, B 1);
several!(A 0, B 1, C 2);
several!(A 0, B 1, C 2, D 3);
several!(A 0, B 1, C 2, D 3, E 4);
several!(A 0, B 1, C 2, D 3, E 4, F 5);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12);
