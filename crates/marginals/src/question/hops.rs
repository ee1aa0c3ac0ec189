use ndarray::Array4;

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Nothing;
use crate::infer::walk::{Event, Walks};
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// P(h | start, an event) for h = 0 … H and every start of a walk, [B, H, N, hops + 1].
///
/// Given [`Event::any`] it is P(h). Given [`Event::arriving`] it is P(h) (P^h 1)_i over its sum:
/// a walk that arrived is less likely to have tried many hops past dead queries. Given
/// [`Event::ending_at`] j it is P(h) (P^h)_ij over its sum. 0 throughout where the event is
/// impossible. Cost: a pass over the keys per hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hops {
    /// Event that is known of the walk.
    pub given: Event,
}

impl<'v, T: Real> Question<'v, T> for Hops {
    type Answer = Array4<T>;
    type Upstream = Nothing;
    type Plan = ();

    fn plan(&self, posterior: &Posterior<'_, T>, _: &mut Request<'v, T>) -> Result<(), Error> {
        posterior.require_walk("hops")
    }

    fn answer(&self, _: &(), found: &Found<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        Walks::of("hops", found)?.hops(&self.given)
    }

    fn backward<'g>(
        &self,
        _: &(),
        _: &'g Found<'_, '_, 'v, T>,
        (): (),
        _: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

impl NamedQuestion for Hops {
    const NAME: &'static str = "hops";
    const DEFINITION: &'static str = "P(h | the walk arrives), of walks";
    const SHAPE: &'static str = "[B, H, N, hops + 1]";

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(Hops { given: Event::any().arriving() }))
    }
}
