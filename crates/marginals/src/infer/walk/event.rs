//! Events: what may be known, or asked, of a walk.

use std::collections::BTreeMap;

use crate::Real;
use ndarray::{Array4, ArrayViewMut1, Zip, s};

use crate::infer::Problem;
use crate::infer::Steps;
use crate::infer::statistic::{Linear, Request};
use crate::posterior::Found;
use crate::{Error, check_room};

/// Something that a walk may or may not do, given where it starts.
///
/// A conjunction of: step t goes from a to b (step 0 is the first), the number of hops is h, the
/// walk arrives, the walk ends at j. An event that contradicts itself, or needs more than H hops,
/// has probability 0.
///
/// ```
/// use marginals::infer::walk::Event;
/// let by_way_of = Event::any().using(0, 4, 2).using(1, 2, 0);
/// let known = Event::any().ending_at(0).with_hops(2);
/// let both = by_way_of.and(&known);
/// # assert_eq!(both, Event::any().with_hops(2).using(1, 2, 0).using(0, 4, 2).ending_at(0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Edges by step.
    edges: BTreeMap<usize, (usize, usize)>,
    hops: Option<usize>,
    end: End,
    contradicts_itself: bool,
}

/// Where a walk ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// Anywhere, or lost.
    #[default]
    Unknown,
    /// At some node.
    Arrived,
    /// At this node.
    At(usize),
}

impl Event {
    /// The sure event.
    pub fn any() -> Self {
        Self::default()
    }

    /// And step `step`, counted from 0, is made and goes from node `from` to node `to`.
    pub fn using(mut self, step: usize, from: usize, to: usize) -> Self {
        let edge = *self.edges.entry(step).or_insert((from, to));
        self.contradicts_itself |= edge != (from, to);
        self
    }

    /// And the walk has `hops` hops.
    pub fn with_hops(mut self, hops: usize) -> Self {
        self.contradicts_itself |= self.hops.is_some_and(|known| known != hops);
        self.hops = Some(hops);
        self
    }

    /// And the walk does not get lost.
    pub fn arriving(mut self) -> Self {
        if self.end == End::Unknown {
            self.end = End::Arrived;
        }
        self
    }

    /// And the walk ends at `node`.
    pub fn ending_at(mut self, node: usize) -> Self {
        self.contradicts_itself |= matches!(self.end, End::At(known) if known != node);
        self.end = End::At(node);
        self
    }

    /// Both events.
    pub fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.contradicts_itself |= other.contradicts_itself;
        for (&step, &(from, to)) in &other.edges {
            both = both.using(step, from, to);
        }
        if let Some(hops) = other.hops {
            both = both.with_hops(hops);
        }
        match other.end {
            End::Unknown => both,
            End::Arrived => both.arriving(),
            End::At(node) => both.ending_at(node),
        }
    }

    /// Hops made when the last edge named is behind.
    fn least_hops(&self) -> usize {
        self.edges.last_key_value().map_or(0, |(step, _)| step + 1)
    }
}

/// Powers that probabilities of events are read from: (P^s)\[·, a\] for some nodes a, and P^s 1.
struct Powers {
    /// The columns; `None` is the vector of ones.
    targets: Vec<Option<usize>>,
    /// By s: [B, H, N, targets].
    values: Vec<Array4<f64>>,
}

impl Powers {
    /// (P^s)\[node, target\].
    fn at(&self, s: usize, place: (usize, usize), node: usize, target: Option<usize>) -> f64 {
        let column = self.targets.iter().position(|&t| t == target);
        let column = column.expect("every target of an event has a column");
        self.values[s][[place.0, place.1, node, column]]
    }
}

/// 1 for what rounding brought above it; NaN stays.
fn at_most_one(p: f64) -> f64 {
    if p > 1.0 { 1.0 } else { p }
}

/// Bytes per node and hop when hops are asked for: P^h 1, joint and conditional probability.
const HOP_BYTES: usize = 24;

/// Walks of one posterior, to be asked about single picks.
pub(crate) struct Walks<'f, T: Real> {
    pub(super) walking: Steps<'f, T>,
    pub(super) problem: &'f Problem<'f, T>,
    /// Finding of one step.
    pub(super) step: &'f crate::infer::Finding<T>,
}

impl<'f, T: Real> Walks<'f, T> {
    /// The walks of a pass.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`] where the structure is not one of walks.
    pub fn of(question: &str, found: &'f Found<'f, 'f, '_, T>) -> Result<Self, Error> {
        let posterior = found.posterior;
        posterior.require_walk(question)?;
        let walking = posterior.inference().steps().expect("walks have paths");
        let step = found.finding.steps.first().expect("a walk has at least one hop");
        Ok(Self { walking, problem: &posterior.problem, step })
    }

    fn shape(&self) -> &crate::Shape {
        &self.problem.shape
    }

    /// P(event | start) of each event and every start, [B, H, N, events].
    ///
    /// A single edge is P(step t goes a → b | i) = P(hops > t) (P^t)_ia P_ab; joint edges, hops and
    /// ends multiply the powers between them. 0 for what is impossible. Refuses nodes that do not
    /// exist. Cost: one pass over the keys per hop, carrying a column for every node at which an
    /// edge starts or a walk ends: O(hops · N) memory for each, never N × N.
    pub fn probability(&self, events: &[Event]) -> Result<Array4<T>, Error> {
        Ok(self.probabilities(events)?.mapv(|p| T::of(at_most_one(p))))
    }

    /// P(event | start, `given`) of each event and every start, [B, H, N, events].
    ///
    /// 0 where `given` itself is impossible. Such as the edge a walk used, given where it ended, or
    /// one edge given another. Cost: that of [`probability`](Self::probability).
    pub fn conditional(&self, events: &[Event], given: &Event) -> Result<Array4<T>, Error> {
        let mut all: Vec<Event> = events.iter().map(|event| event.and(given)).collect();
        all.push(given.clone());
        let found = self.probabilities(&all)?;
        let condition = found.slice(s![.., .., .., events.len()..]);
        let mut out = Array4::zeros(found.slice(s![.., .., .., ..events.len()]).raw_dim());
        Zip::from(&mut out)
            .and(found.slice(s![.., .., .., ..events.len()]))
            .and_broadcast(condition)
            .for_each(|out, &joint, &condition| {
                let p = if condition == 0.0 { 0.0 } else { joint / condition };
                *out = T::of(at_most_one(p));
            });
        Ok(out)
    }

    /// P(h | start, `given`) for h = 0 … H and every start, [B, H, N, hops + 1].
    ///
    /// Given [`Event::any`] it is P(h). Given [`Event::arriving`] it is P(h) (P^h 1)_i over its sum:
    /// a walk that arrived is less likely to have tried many hops past dead queries. Given
    /// [`Event::ending_at`] j it is P(h) (P^h)_ij over its sum. 0 throughout where `given` is
    /// impossible.
    pub fn hops(&self, given: &Event) -> Result<Array4<T>, Error> {
        let shape = self.shape();
        let nodes = [shape.batch, shape.heads, shape.queries, self.walking.hops.hops() + 1];
        check_room("hops", &nodes, HOP_BYTES)?;
        let each: Vec<Event> =
            (0..=self.walking.hops.hops()).map(|h| Event::any().with_hops(h)).collect();
        self.conditional(&each, given)
    }

    fn probabilities(&self, events: &[Event]) -> Result<Array4<f64>, Error> {
        for event in events {
            let edges = event.edges.values().flat_map(|&(from, to)| [from, to]);
            let end = match event.end {
                End::At(node) => Some(node),
                _ => None,
            };
            edges.chain(end).try_for_each(|node| self.check_node("event", node))?;
        }
        let shape = self.shape();
        let powers = self.powers(events)?;
        let dimensions = (shape.batch, shape.heads, shape.queries, events.len());
        let mut out = Array4::zeros(dimensions);
        for (index, event) in events.iter().enumerate() {
            if event.contradicts_itself || event.least_hops() > self.walking.hops.hops() {
                continue;
            }
            for b in 0..shape.batch {
                for h in 0..shape.heads {
                    self.of_event(event, &powers, (b, h), out.slice_mut(s![b, h, .., index]));
                }
            }
        }
        Ok(out)
    }

    /// P(event | start) of every start of one head.
    fn of_event(
        &self,
        event: &Event,
        powers: &Powers,
        place: (usize, usize),
        mut into: ArrayViewMut1<'_, f64>,
    ) {
        // Σ_h P(h) P(ends as it should | at `node` with the edges named behind).
        let finish = |node: usize| -> f64 {
            let least = event.least_hops();
            let hops =
                (least..=self.walking.hops.hops()).filter(|&h| event.hops.is_none_or(|x| x == h));
            let ends = |left| match event.end {
                End::Unknown => 1.0,
                End::Arrived => powers.at(left, place, node, None),
                End::At(end) => powers.at(left, place, node, Some(end)),
            };
            // Where the number of hops is impossible, nothing is asked of the powers.
            let possible = hops.map(|h| (h, self.walking.hops.probability(place.1, h)));
            possible.filter(|(_, p)| *p > 0.0).map(|(h, p)| p * ends(h - least)).sum()
        };
        let Some((&first, &(from, _))) = event.edges.first_key_value() else {
            into.iter_mut().enumerate().for_each(|(i, p)| *p = finish(i));
            return;
        };
        // Backwards: the end, then each edge and the steps between it and the next.
        let mut rest = 1.0;
        let mut next: Option<(usize, usize)> = None;
        for (&step, &(from, to)) in event.edges.iter().rev() {
            rest *= match next {
                None => finish(to),
                Some((later, start)) => powers.at(later - step - 1, place, to, Some(start)),
            };
            rest *= self.pick(place, from, to).exp();
            next = Some((step, from));
        }
        for (i, p) in into.iter_mut().enumerate() {
            *p = powers.at(first, place, i, Some(from)) * rest;
        }
    }

    /// The powers that `events` are read from.
    fn powers(&self, events: &[Event]) -> Result<Powers, Error> {
        let hops = self.walking.hops.hops();
        let mut targets: Vec<Option<usize>> = Vec::new();
        let mut deepest = 0;
        for event in events {
            let least = event.least_hops();
            if event.contradicts_itself || least > hops {
                continue;
            }
            // Σ_j P_ij is a step like the others; edges ask for the steps before and between them.
            let starts = event.edges.values().map(|&(from, _)| Some(from));
            let end = match event.end {
                End::Unknown => None,
                End::Arrived => Some(None),
                End::At(node) => Some(Some(node)),
            };
            if end.is_some() {
                deepest = deepest.max(event.hops.unwrap_or(hops).min(hops).saturating_sub(least));
            }
            let mut free = 0;
            for &step in event.edges.keys() {
                deepest = deepest.max(step - free);
                free = step + 1;
            }
            for target in starts.chain(end) {
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }

        let shape = self.shape();
        let dimensions = (shape.batch, shape.heads, shape.queries, targets.len());
        let mut columns = Array4::from_shape_fn(dimensions, |(_, _, i, c)| match targets[c] {
            Some(node) if node != i => T::zero(),
            _ => T::one(),
        });
        let mut values = vec![columns.mapv(T::f64)];
        if !targets.is_empty() {
            for _ in 0..deepest {
                let mut request = Request::new(self.shape());
                let carried = request.values(columns.view())?;
                let carried = request.linear(Linear::Value(carried));
                let keys = 0..self.shape().keys;
                let mut found = self.walking.step.find(self.problem, &request, keys, true)?;
                drop(request);
                let gathered = found.take_expectation(carried);
                let product = found.unscaled(gathered, targets.len());
                let product = Array4::from_shape_vec(dimensions, product);
                columns = product.expect("one row per query");
                values.push(columns.mapv(T::f64));
            }
        }
        Ok(Powers { targets, values })
    }
}
