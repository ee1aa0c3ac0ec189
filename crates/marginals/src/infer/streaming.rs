//! Exact inference in structures that fall apart, by streaming.
//!
//! The scores are made in tiles and never kept. A **forward** pass folds them into a
//! [`Finding`]: normalisers, posterior expectations, best edges; the findings of two ranges of keys
//! merge into that of their union. Questions about single edges across factors (column mass,
//! marginals, draws of sets) take a **second pass** against the normalisers found by the first, and
//! so does the **backward** pass.
//!
//! How the scores of a query become probabilities is a [`RowRule`]: the softmax, with or without
//! having no edge, the logistic function, the nearest accepted key. Where keys choose, columns are
//! normalised instead.
//!
//! How work is cut depends on the sizes alone, never on the number of threads, so results are the
//! same at any thread count.

mod backward;
mod columns;
mod forward;
mod gather;
mod heads;
mod logistic;
mod rows;
mod rule;
mod run;
mod scorer;
mod second_pass;
mod softmax;

use std::ops::Range;
use std::sync::PoisonError;

use super::finding::{Finding, Merge};
use super::slopes::Slopes;
use super::statistic::Request;
use super::{EdgeQuestions, Gradients, Inference, Problem, Values};
use crate::prior::Prior;
use crate::{Block, Error, Parameter, Real, Reference, Shape};
use second_pass::Known;

pub(crate) use forward::{NULL_KEY, draw};
pub(crate) use heads::medians;
pub use logistic::Logistic;
pub(crate) use logistic::softplus;
pub(crate) use rule::at;
pub use rule::{
    BackwardTile, FactorSlopes, Folded, Order, RowFold, RowRule, RowSlopes, Strip, Wants, Weights,
};
pub use softmax::{NullEdge, NullScore, Softmax};

pub(crate) use backward::QUERY_BLOCK as BACKWARD_QUERIES;
pub(crate) use run::Run;
pub(crate) use scorer::Scorer;

/// The passes for any number format. They are called through an [`Engine`](crate::engine::Engine), so
/// that they are compiled here.
pub(crate) mod generic {
    pub(crate) use super::backward::backward;
    pub(crate) use super::forward::find;
}

/// Who chooses, and how.
#[derive(Debug)]
pub enum Rule<'a, T> {
    /// Queries choose, or each edge by itself.
    Rows(Box<dyn RowRule<T> + 'a>),
    /// Keys choose among the queries, each exactly one.
    Columns(ByKey),
}

/// The rule of keys that choose: p_ij = e^θ_ij / Σ_i' e^θ_i'j.
#[derive(Clone, Copy, Debug)]
pub struct ByKey;

impl<T: Real> Rule<'_, T> {
    /// Number of independent choices per head: queries, or keys where keys choose.
    pub fn factors(&self, shape: &Shape) -> usize {
        match self {
            Self::Rows(_) => shape.queries,
            Self::Columns(_) => shape.keys,
        }
    }

    pub(crate) fn merge(&self) -> Merge {
        match self {
            Self::Rows(rule) => rule.merge(),
            Self::Columns(_) => Merge::Factors,
        }
    }

    pub(crate) fn order(&self) -> Order {
        match self {
            Self::Rows(rule) => rule.order(),
            Self::Columns(_) => Order::Any,
        }
    }
}

/// Streaming inference under a rule.
#[derive(Debug)]
pub struct Streaming<'a, T>(Rule<'a, T>);

impl<'a, T: Real> Streaming<'a, T> {
    /// Where queries (or single edges) choose by `rule`.
    pub fn rows(rule: impl RowRule<T> + 'a) -> Self {
        Self(Rule::Rows(Box::new(rule)))
    }

    /// Where keys choose.
    pub fn columns() -> Self {
        Self(Rule::Columns(ByKey))
    }

    fn known<'k, 'p>(
        &'k self,
        problem: &'k Problem<'p, T>,
        finding: &'k Finding<T>,
    ) -> Known<'k, 'p, T> {
        Known { rule: &self.0, problem, normalisers: &finding.normalisers }
    }
}

impl<T: Real> Inference<T> for Streaming<'_, T> {
    fn name(&self) -> &'static str {
        "streaming"
    }

    fn factors(&self, shape: &Shape) -> usize {
        self.0.factors(shape)
    }

    fn reference(&self) -> Reference {
        match &self.0 {
            Rule::Columns(_) => Reference::OfKey,
            Rule::Rows(rule) if rule.merge() == Merge::Mixture => Reference::OfQuery,
            // What edges are compared with, each by itself, is 0.
            Rule::Rows(_) => Reference::Nothing,
        }
    }

    fn find(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        keys: Range<usize>,
        complete: bool,
    ) -> Result<Finding<T>, Error> {
        Ok(problem.engine.find(&self.0, problem, request, keys, complete))
    }

    fn complete(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        finding: &mut Finding<T>,
    ) {
        let (heads, factors) = (problem.shape.heads.max(1), problem.shape.queries.max(1));
        let place = |row: usize| {
            let head = row / factors;
            ((head / heads, head % heads), row % factors)
        };
        if let Rule::Rows(rule) = &self.0 {
            rule.complete(request, finding, &place);
        }
        finding.complete = true;
    }

    fn backward(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        finding: &Finding<T>,
        slopes: &Slopes<'_, T>,
        keys: Range<usize>,
        values: Values,
    ) -> Result<Gradients<T>, Error> {
        let finding = finding.seen_from(problem);
        let one_at_a_time = problem.depends_on_nodes.as_ref();
        let _guard = one_at_a_time.map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner));
        problem.engine.backward(&self.0, problem, request, &finding, slopes, (keys, values))
    }

    fn edges(&self) -> Option<&dyn EdgeQuestions<T>> {
        Some(self)
    }

    fn parameters(&self) -> Vec<Parameter> {
        match &self.0 {
            Rule::Rows(rule) => rule.parameters(),
            Rule::Columns(_) => Vec::new(),
        }
    }
}

impl<T: Real> EdgeQuestions<T> for Streaming<'_, T> {
    fn column_mass(&self, problem: &Problem<'_, T>, finding: &Finding<T>) -> Vec<T> {
        problem.engine.column_mass(&self.0, problem, &finding.seen_from(problem))
    }

    fn marginals(&self, problem: &Problem<'_, T>, finding: &Finding<T>) -> Vec<T> {
        problem.engine.marginals(&self.0, problem, &finding.seen_from(problem))
    }

    fn has_one_edge(&self) -> bool {
        matches!(&self.0, Rule::Rows(rule) if rule.merge() == Merge::Mixture)
    }

    fn draws_sets(&self) -> bool {
        matches!(&self.0, Rule::Rows(rule) if rule.has_many_edges())
    }

    fn draw_sets(
        &self,
        problem: &Problem<'_, T>,
        finding: &Finding<T>,
        count: usize,
        seed: u64,
    ) -> Vec<u8> {
        self.known(problem, &finding.seen_from(problem)).draw_sets(count, seed)
    }

    fn cross_entropy(
        &self,
        problem: &Problem<'_, T>,
        finding: &Finding<T>,
        (other, others_problem, others): (&dyn EdgeQuestions<T>, &Problem<'_, T>, &Finding<T>),
    ) -> Result<Vec<T>, Error> {
        if self.0.merge() == Merge::Sequence {
            return Err(Error::NotAnswerable {
                question: "cross-entropy".into(),
                why: "the probability of an edge depends on those between".into(),
                instead: "Compare the marginals of both.".into(),
            });
        }
        let (finding, others) = (finding.seen_from(problem), others.seen_from(others_problem));
        let own = self.known(problem, &finding);
        let normalisers = &others.normalisers;
        let theirs = Known { rule: other.rule(), problem: others_problem, normalisers };
        Ok(own.cross_entropy(&finding, &theirs, &others))
    }

    fn log_probability(
        &self,
        problem: &Problem<'_, T>,
        finding: &Finding<T>,
        head: (usize, usize),
        (query, key): (usize, usize),
    ) -> Option<T> {
        self.known(problem, &finding.seen_from(problem)).log_probability(head, query, key)
    }

    fn rule(&self) -> &Rule<'_, T> {
        &self.0
    }
}

/// Second passes for any number format.
pub(crate) fn column_mass<T: Real>(
    rule: &Rule<'_, T>,
    problem: &Problem<'_, T>,
    finding: &Finding<T>,
) -> Vec<T> {
    Known { rule, problem, normalisers: &finding.normalisers }.column_mass()
}

/// See [`column_mass`].
pub(crate) fn marginals<T: Real>(
    rule: &Rule<'_, T>,
    problem: &Problem<'_, T>,
    finding: &Finding<T>,
) -> Vec<T> {
    Known { rule, problem, normalisers: &finding.normalisers }.marginals()
}

/// Queries that share a pass over the keys: their features and accumulators stay in cache.
const QUERY_BLOCK: usize = 192;
/// Keys per tile of the forward pass.
const KEY_BLOCK: usize = 512;
/// Elements from one row of a tile to the next. A power of two would put the rows a product reads
/// side by side into the same few lines of the first-level cache.
const STRIDE: usize = KEY_BLOCK + 16;
/// Most rows per tile of the forward pass, on any instruction set.
const STRIP: usize = 24;
/// Key blocks start at multiples of this, counted from the first key of a pass, so that they are
/// whole panels on every instruction set.
pub(crate) const ALIGN: usize = 64;
/// Tasks wanted before the keys are split too. A constant, so that the cut does not depend on the
/// number of threads.
pub(crate) const TASKS: usize = 16;

/// `range` in blocks of at most `size`, starting at `first` plus a multiple of [`ALIGN`].
fn blocks(
    range: std::ops::Range<usize>,
    first: usize,
    size: usize,
) -> impl Iterator<Item = std::ops::Range<usize>> {
    let start = first + (range.start - first) / ALIGN * ALIGN;
    let end = if range.is_empty() { start } else { range.end };
    (start..end).step_by(size).map(move |from| from..from.saturating_add(size).min(end))
}

/// `block` without the keys on either side that none of its queries can have, still starting
/// aligned from `first`.
fn narrowed<T: Real>(prior: &dyn Prior<T>, block: Block, first: usize) -> Block {
    let live = prior.live_keys(&block);
    let keys = blocks(live, first, usize::MAX).next().unwrap_or(block.keys.start..block.keys.start);
    Block { keys, ..block }
}

/// `range` cut into at most `parts` runs of whole multiples of [`ALIGN`].
fn split(range: std::ops::Range<usize>, parts: usize) -> Vec<std::ops::Range<usize>> {
    let size = range.len().div_ceil(parts.max(1)).next_multiple_of(ALIGN).max(ALIGN);
    if range.is_empty() {
        return vec![range];
    }
    range.clone().step_by(size).map(|from| from..(from + size).min(range.end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range((from, to): (usize, usize)) -> std::ops::Range<usize> {
        from..to
    }

    #[test]
    fn blocks_cover_a_range_and_start_aligned() {
        let got: Vec<_> = blocks(70..200, 0, 64).collect();
        assert_eq!(got, [64..128, 128..192, 192..200]);
        assert_eq!(blocks(70..70, 0, 64).count(), 0);
        let got: Vec<_> = blocks(10..100, 10, 256).collect();
        assert_eq!(got, [(10, 100)].map(range));
    }

    #[test]
    fn splits_cover_a_range() {
        assert_eq!(split(0..200, 2), [0..128, 128..200]);
        assert_eq!(split(5..5, 4), [(5, 5)].map(range));
        assert_eq!(split(0..10, 16), [(0, 10)].map(range));
    }
}
