use ndarray::Array4;

use super::Question;
use super::upstream::Nothing;
use crate::infer::walk::{Event, Walks};
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// P(event | start, another event) of each event and every start of a walk, [B, H, N, events].
///
/// A single edge is P(step t goes a → b | i) = P(hops > t) (P^t)_ia P_ab; joint edges, hops and
/// ends multiply the powers between them. 0 for what is impossible, and where what is given is. Refuses
/// nodes that do not exist. Cost: one pass over the keys per hop, carrying a column for every node at
/// which an edge starts or a walk ends: O(hops · N) memory for each, never N × N.
#[derive(Clone, Debug)]
pub struct EventProbability<'v> {
    /// The events.
    pub events: &'v [Event],
    /// Event that is known of the walk: [`Event::any`] for nothing.
    pub given: Event,
}

impl<'v, T: Real> Question<'v, T> for EventProbability<'v> {
    type Answer = Array4<T>;
    type Upstream = Nothing;
    type Plan = ();

    fn plan(&self, posterior: &Posterior<'_, T>, _: &mut Request<'v, T>) -> Result<(), Error> {
        posterior.require_walk("event-probability")
    }

    fn answer(&self, _: &(), found: &Found<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        let walks = Walks::of("event-probability", found)?;
        match self.given == Event::any() {
            true => walks.probability(self.events),
            false => walks.conditional(self.events, &self.given),
        }
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
