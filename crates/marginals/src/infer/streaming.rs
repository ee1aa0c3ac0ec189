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
mod blocks;
mod centre;
mod columns;
mod forward;
mod gather;
mod heads;
mod logistic;
mod noise;
mod rows;
pub(crate) mod rule;
mod run;
mod scorer;
mod second_pass;
mod softmax;
mod task;

use std::ops::Range;
use std::sync::PoisonError;

use super::finding::{Finding, Merge};
use super::slopes::Slopes;
use super::statistic::Request;
use super::{ChoiceQuestions, EdgeQuestions, Gradients, Inference, Problem, Values};
use crate::{Error, Parameter, Real, Reference, Shape};
use second_pass::Known;

pub(crate) use centre::centre;
pub use logistic::Logistic;
pub(crate) use noise::{NULL_KEY, draw};
pub use rule::{
    BackwardTile, ByKey, FactorSlopes, Folded, Order, RowFold, RowRule, RowSlopes, Rule, Strip,
    Wants, Weights,
};
pub use softmax::{NullEdge, NullScore, Softmax};

pub(crate) use backward::QUERY_BLOCK as BACKWARD_QUERIES;
pub(crate) use blocks::{ALIGN, TASKS};
pub(crate) use run::Run;
pub(crate) use scorer::Scorer;

/// The passes for any number format. They are called through an [`Engine`](crate::engine::Engine), so
/// that they are compiled here.
pub(crate) mod generic {
    pub(crate) use super::backward::backward;
    pub(crate) use super::forward::find;
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
        let finding = problem.seen(finding);
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
        problem.engine.column_mass(&self.0, problem, &problem.seen(finding))
    }

    fn marginals(&self, problem: &Problem<'_, T>, finding: &Finding<T>) -> Vec<T> {
        problem.engine.marginals(&self.0, problem, &problem.seen(finding))
    }

    fn choices(&self) -> Option<&dyn ChoiceQuestions<T>> {
        Some(self)
    }
}

impl<T: Real> ChoiceQuestions<T> for Streaming<'_, T> {
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
        self.known(problem, &problem.seen(finding)).draw_sets(count, seed)
    }

    fn cross_entropy(
        &self,
        problem: &Problem<'_, T>,
        finding: &Finding<T>,
        (other, others_problem, others): (&dyn ChoiceQuestions<T>, &Problem<'_, T>, &Finding<T>),
    ) -> Result<Vec<T>, Error> {
        if self.0.merge() == Merge::Sequence {
            return Err(Error::NotAnswerable {
                question: "cross-entropy".into(),
                why: "the probability of an edge depends on those between".into(),
                instead: "Compare the marginals of both.".into(),
            });
        }
        let (finding, others) = (problem.seen(finding), others_problem.seen(others));
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
        self.known(problem, &problem.seen(finding)).log_probability(head, query, key)
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
