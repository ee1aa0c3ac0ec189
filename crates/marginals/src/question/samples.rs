use ndarray::{Array4, Array5};

use super::Question;
use super::named::{AnyQuestion, Asking, IntoTensors, NamedQuestion, Tensor};
use super::upstream::Nothing;
use crate::infer::coupled::PerQuery;
use crate::infer::finding::Extremes;
use crate::infer::{ChoiceQuestions, EdgeQuestions, Extremal, Handle, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real, Shape, check_room};

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
    /// −1 for none. Of edge sets that give every query one edge at most, one per query, [S, B, H, N];
    /// all −1 where no edge set is possible.
    Choices(Array4<i64>),
    /// Sets of edges, [S, B, H, N, M]: 1 where there is an edge. For independent edges, and for edge sets
    /// that may give a query several.
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

impl Draws {
    /// Edge sets, `count` of each factor in turn, the factors being heads or queries; none where there is
    /// no edge set.
    pub(crate) fn of_sets(
        shape: &Shape,
        per_query: PerQuery,
        count: usize,
        by_factor: impl ExactSizeIterator<Item = impl Iterator<Item = Option<Vec<usize>>>>,
    ) -> Self {
        let (b, h, n, m) = (shape.batch, shape.heads, shape.queries, shape.keys);
        let per_head = by_factor.len() / (b * h).max(1);
        let mut all = match per_query {
            PerQuery::One => Self::Choices(Array4::from_elem((count, b, h, n), -1)),
            PerQuery::Several => Self::Sets(Array5::zeros((count, b, h, n, m))),
        };
        for (factor, sets) in by_factor.enumerate() {
            let (head, first) = (factor / per_head, factor % per_head);
            let place = (head / h, head % h);
            for (set, edges) in sets.enumerate() {
                for edge in edges.into_iter().flatten() {
                    let (i, j) = (first + edge / m, edge % m);
                    match &mut all {
                        Self::Choices(keys) => {
                            keys[[set, place.0, place.1, i]] = j as i64 + shape.key_offset;
                        }
                        Self::Sets(bits) => bits[[set, place.0, place.1, i, j]] = 1,
                    }
                }
            }
        }
        all
    }
}

impl<'v, T: Real> Question<'v, T> for Samples {
    type Answer = Draws;
    type Upstream = Nothing;
    /// Where the winners stand; sets are drawn in a pass of their own.
    type Plan = Option<Handle>;

    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Option<Handle>, Error> {
        let inference = posterior.inference();
        inference.require_edges("samples")?;
        let choices = inference.edges().and_then(EdgeQuestions::choices);
        if self.count == 0 {
            return Err(Error::value("samples", "at least 1 draw", 0));
        }
        let shape = posterior.shape();
        let (b, h) = (shape.batch, shape.heads);
        if let Some(sets) = inference.sets() {
            let (n, m) = (shape.queries, shape.keys);
            match sets.per_query() {
                PerQuery::One => check_room("samples", &[self.count, b, h, n], CHOICE_BYTES)?,
                PerQuery::Several => {
                    check_room("samples", &[self.count, b, h, n, m], CHOICE_BYTES)?
                }
            }
            return Ok(None);
        }
        if choices.is_some_and(ChoiceQuestions::draws_sets) {
            let sizes = [self.count, b, h, shape.queries, shape.keys];
            check_room("samples", &sizes, SET_BYTES)?;
            return Ok(None);
        }
        check_room("samples", &[self.count, b, h, posterior.factor_count()], CHOICE_BYTES)?;
        Ok(Some(request.extremal(Extremal::Draws { count: self.count, seed: self.seed })))
    }

    fn answer(&self, plan: &Option<Handle>, found: &Found<'_, '_, 'v, T>) -> Result<Draws, Error> {
        let Some(plan) = plan else {
            let shape = found.shape();
            let problem = &found.posterior.problem;
            if let Some(sets) = found.posterior.inference().sets() {
                let draws = sets.draws(problem, self.count, self.seed);
                let draws = draws.into_iter().map(|of_factor| of_factor.into_iter());
                return Ok(Draws::of_sets(shape, sets.per_query(), self.count, draws));
            }
            let edges = found.choices("samples")?;
            let bits = edges.draw_sets(problem, &found.finding, self.count, self.seed);
            let sizes = (self.count, shape.batch, shape.heads, shape.queries, shape.keys);
            let sets = Array5::from_shape_vec(sizes, bits).expect("one bit per edge and draw");
            return Ok(Draws::Sets(sets));
        };
        let Extremes::Draws { edges, .. } = found.finding.extremes(*plan) else {
            unreachable!("draws were asked for")
        };
        // Draws of a factor lie side by side; the answer has draws outermost.
        let (b, h, f) = found.factor_sizes();
        let winners = edges.iter().map(|edge| edge.index).collect();
        let by_factor = Array4::from_shape_vec((b, h, f, self.count), winners);
        let outermost = by_factor.expect("draws of every factor").permuted_axes([3, 0, 1, 2]);
        Ok(Draws::Choices(outermost.as_standard_layout().into_owned()))
    }

    fn backward<'g>(
        &self,
        _: &Option<Handle>,
        _: &'g Found<'_, '_, 'v, T>,
        (): (),
        _: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

impl NamedQuestion for Samples {
    const NAME: &'static str = "samples";
    const DEFINITION: &'static str = "S exact draws, asked as samples=S";
    const SHAPE: &'static str = "[S, B, H, F]; sets of edges [S, B, H, N, M]";
    const ARGUMENT: Option<&'static str> = Some("S");

    fn make<'v, T: Real>(
        asking: &Asking<'v, T>,
    ) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        let count = asking.argument.unwrap_or_default();
        Ok(Box::new(Samples { count, seed: asking.seed }))
    }
}

impl<T> IntoTensors<T> for Draws {
    fn into_tensors(self) -> Vec<(&'static str, Tensor<T>)> {
        vec![match self {
            Self::Choices(choices) => ("", Tensor::Index(choices.into_dyn())),
            Self::Sets(sets) => ("", Tensor::Bits(sets.into_dyn())),
        }]
    }
}
