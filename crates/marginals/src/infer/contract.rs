//! The contract of inferences.

use std::fmt::Debug;
use std::ops::Range;

use super::coupled::contract::{EdgeSet, Moments, PerQuery};
use super::entropic::Margins;
use super::finding::Finding;
use super::problem::{Gradients, Problem, Values};
use super::slopes::Slopes;
use super::statistic::Request;
use super::streaming::rule::Rule;
use super::walk::hops::HopDistribution;
use crate::{Error, Parameter, Real, Reference, Shape};

/// A way of inferring the posterior over edges.
pub trait Inference<T: Real>: Debug + Send + Sync {
    /// The name used in messages and model files.
    fn name(&self) -> &'static str;

    /// Refuses problems that it is not for.
    ///
    /// # Errors
    /// [`Error`], naming what does not fit.
    fn check(&self, _problem: &Problem<'_, T>) -> Result<(), Error> {
        Ok(())
    }

    /// Reference that log-weights may be relative to: its posterior must not depend on it, and log Z gets
    /// back what was taken out.
    fn reference(&self) -> Reference {
        Reference::Nothing
    }

    /// Refuses questions about the log-partition where it has none to tell.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`], naming what is answered.
    fn require_log_partition(&self, _question: &str) -> Result<(), Error> {
        Ok(())
    }

    /// Refuses questions about single edges where it does not answer them.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`], naming what is answered.
    fn require_edges(&self, _question: &str) -> Result<(), Error> {
        Ok(())
    }

    /// Number of independent choices per head.
    fn factors(&self, shape: &Shape) -> usize {
        shape.queries
    }

    /// Masses of the nodes, where edges move them: what a transport takes the place of.
    fn margins(&self, _shape: &Shape) -> Option<Margins> {
        None
    }

    /// Finding over a range of keys. Where `complete`, they are all, and what factors may choose
    /// beside their keys is taken in.
    ///
    /// # Errors
    /// [`Error`], where the range is not one that it can be run over.
    fn find(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        keys: Range<usize>,
        complete: bool,
    ) -> Result<Finding<T>, Error>;

    /// Takes in what factors may choose beside their keys, once all of these have been merged.
    fn complete(
        &self,
        _problem: &Problem<'_, T>,
        _request: &Request<'_, T>,
        finding: &mut Finding<T>,
    ) {
        finding.complete = true;
    }

    /// Gradients of everything from those in what was found, over a range of keys.
    ///
    /// # Errors
    /// [`Error::NoGradient`] where a part of the model does not define its own.
    fn backward(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        finding: &Finding<T>,
        slopes: &Slopes<'_, T>,
        keys: Range<usize>,
        values: Values,
    ) -> Result<Gradients<T>, Error>;

    /// Questions about single edges, where it answers them.
    fn edges(&self) -> Option<&dyn EdgeQuestions<T>> {
        None
    }

    /// Questions about whole edge sets, where it answers them.
    fn sets(&self) -> Option<&dyn SetQuestions<T>> {
        None
    }

    /// Parts of the paths, where it answers questions about them.
    fn steps(&self) -> Option<Steps<'_, T>> {
        None
    }

    /// Learnable parameters of the structure.
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }
}

/// Parts of a walk.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'s, T: Real> {
    /// P(h).
    pub hops: &'s HopDistribution,
    /// The inference of one step.
    pub step: &'s dyn Inference<T>,
}

/// Questions about single edges: passes over the posterior, its normalisers known.
pub trait EdgeQuestions<T: Real> {
    /// Σ_i p_ij of every key, [B, H, M] flat.
    fn column_mass(&self, problem: &Problem<'_, T>, finding: &Finding<T>) -> Vec<T>;

    /// p_ij, [B, H, N, M] flat.
    fn marginals(&self, problem: &Problem<'_, T>, finding: &Finding<T>) -> Vec<T>;

    /// Questions about choices, where factors are such.
    fn choices(&self) -> Option<&dyn ChoiceQuestions<T>> {
        None
    }
}

/// Questions about factors that choose one edge, or each edge by itself.
pub trait ChoiceQuestions<T: Real> {
    /// Whether a query has at most one edge, whose probability depends on its score and a normaliser.
    fn has_one_edge(&self) -> bool;

    /// Whether draws are of sets of edges, and not of one edge per factor.
    fn draws_sets(&self) -> bool;

    /// Draws of independent edges, one byte each, [S, B, H, N, M] flat.
    fn draw_sets(
        &self,
        problem: &Problem<'_, T>,
        finding: &Finding<T>,
        count: usize,
        seed: u64,
    ) -> Vec<u8>;

    /// −E_p[log q] of every factor, q being the same inference of another problem.
    fn cross_entropy(
        &self,
        problem: &Problem<'_, T>,
        finding: &Finding<T>,
        other: (&dyn ChoiceQuestions<T>, &Problem<'_, T>, &Finding<T>),
    ) -> Result<Vec<T>, Error>;

    /// log p_ij of one edge; `None` where it depends on others.
    fn log_probability(
        &self,
        problem: &Problem<'_, T>,
        finding: &Finding<T>,
        head: (usize, usize),
        edge: (usize, usize),
    ) -> Option<T>;

    /// The rule behind it, for comparisons of two.
    fn rule(&self) -> &Rule<'_, T>;
}

/// Questions about whole edge sets, by factor.
pub trait SetQuestions<T: Real> {
    /// Most edges of one query.
    fn per_query(&self) -> PerQuery;

    /// Number of scores of a factor: of its edges, and the structure's own.
    fn scores(&self, shape: &Shape) -> usize;

    /// Refuses problems in which sums over edge sets are out of reach.
    ///
    /// # Errors
    /// [`Error::Value`] with the limit, and what to ask instead.
    fn check_sums(&self, problem: &Problem<'_, T>) -> Result<(), Error>;

    /// The best edge sets, best first.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`] where there is no algorithm for so many.
    fn best(&self, problem: &Problem<'_, T>, count: usize) -> Result<Vec<Vec<EdgeSet>>, Error>;

    /// Independent draws, each the numbers of its edges; `None` where no edge set is possible.
    fn draws(
        &self,
        problem: &Problem<'_, T>,
        count: usize,
        seed: u64,
    ) -> Vec<Vec<Option<Vec<usize>>>>;

    /// Highest score of the edge sets that have each edge, [B, H, N, M] flat.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`] where there is no algorithm for it.
    fn max_marginals(&self, problem: &Problem<'_, T>) -> Result<Vec<T>, Error>;

    /// Log of the number of possible edge sets.
    fn log_count(&self, problem: &Problem<'_, T>) -> Vec<T>;

    /// P(φ_ij = 1 and φ of the `given` edge = 1) of every edge, [B, H, N, M] flat.
    fn pairs(&self, problem: &Problem<'_, T>, given: (usize, usize)) -> Vec<T>;

    /// −E_p[log q], p being this posterior and q the `other`, of the same structure.
    fn cross_entropy(
        &self,
        problem: &Problem<'_, T>,
        other: (&dyn SetQuestions<T>, &Problem<'_, T>),
    ) -> Vec<T>;

    /// E[log p] of this posterior under another of these moments.
    fn expected_log_probability(&self, problem: &Problem<'_, T>, under: &[Moments]) -> Vec<f64>;
}
