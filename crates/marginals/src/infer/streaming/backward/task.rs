//! State that the tasks of one backward pass share.

use std::ops::Range;

use super::super::rule::{Order, RowRule, Rule};
use super::super::scorer::Scorer;
use super::coefficients::{Coefficients, TableSlopes};
use crate::infer::finding::{Finding, Merge};
use crate::infer::statistic::Request;
use crate::infer::{Problem, Values};
use crate::{Block, Parameter, Real};

/// State that every task of one backward pass shares.
pub(super) struct Task<'a, 'p, T: Real> {
    pub rule: &'a Rule<'a, T>,
    pub problem: &'a Problem<'p, T>,
    pub request: &'a Request<'a, T>,
    pub finding: &'a Finding<T>,
    pub of_values: Values,
    /// The keys that are differentiated.
    pub keys: Range<usize>,
    pub coefficients: Coefficients<'a, T>,
    pub prior_parameters: Vec<Parameter>,
    /// Those of functions of edges, in the order in which tiles visit them.
    pub edge_parameters: Vec<Parameter>,
    pub potential_parameters: Vec<Parameter>,
    /// Gradient in θ and in log w of having no edge; empty where every query has one.
    pub none_slopes: Vec<[f64; 2]>,
}

impl<T: Real> Task<'_, '_, T> {
    /// How many sets of values each key head has in a table.
    pub fn sets(&self, table: usize) -> usize {
        let heads = self.request.values[table].tensor.dim().1;
        heads / self.problem.shape.key_heads.max(1)
    }

    pub fn scorer(&self) -> Scorer<'_, T> {
        Scorer { prior: &*self.problem.prior, potential: self.problem.potential }
    }

    /// Whether keys choose.
    pub fn is_by_column(&self) -> bool {
        matches!(self.rule, Rule::Columns(_))
    }

    /// Whether keys are read in order, with a running state.
    pub fn is_in_order(&self) -> bool {
        self.rule.order() == Order::LastFirst
    }

    /// Whether anything is learned through log-weights.
    pub fn learns_prior(&self) -> bool {
        !self.prior_parameters.is_empty() || self.problem.depends_on_nodes.is_some()
    }

    /// Whether a KL's gradient in log w takes a running state.
    pub fn learns_in_order(&self) -> bool {
        self.is_in_order() && self.learns_prior() && !self.coefficients.ratio.is_empty()
    }

    /// Whether edges of one query vary one by one.
    pub fn has_many_edges(&self) -> bool {
        match self.rule {
            Rule::Rows(rule) => rule.has_many_edges(),
            Rule::Columns(_) => true,
        }
    }

    /// Whether what multiplies p whatever the edge is in the centre of a row.
    pub fn holds_mass_in_centre(&self) -> bool {
        let is_mixture = |rule: &dyn RowRule<T>| rule.merge() == Merge::Mixture;
        let by_p = self.finding.log_scale.is_empty();
        by_p && matches!(self.rule, Rule::Rows(rule) if is_mixture(&**rule))
    }

    /// Whether keys choose and f has no term in their own probabilities, so that whole columns are
    /// differentiated at a time.
    pub fn is_linear_by_column(&self) -> bool {
        let coefficients: &Coefficients<'_, T> = &self.coefficients;
        self.is_by_column()
            && coefficients.log_p.is_empty()
            && !coefficients.tables.iter().any(TableSlopes::is_centred)
            && self.finding.log_scale.is_empty()
    }

    /// Whether log w is read apart from the scores.
    pub fn reads_weights(&self) -> bool {
        let learned = self.learns_prior();
        let kl = !self.coefficients.ratio.is_empty() && !self.problem.prior.is_mask();
        kl || (learned && !self.coefficients.prior.is_empty())
    }

    /// Flat index of the factor that edge (query `i`, column `c` of `block`) belongs to.
    #[inline(always)]
    pub fn factor(&self, block: &Block, i: usize, c: usize) -> usize {
        let shape = &self.problem.shape;
        let head = shape.head_number((block.batch, block.head));
        match self.rule {
            // Where keys choose a finding may be of some of the keys.
            Rule::Columns(_) => head * self.keys.len() + block.keys.start - self.keys.start + c,
            Rule::Rows(_) => head * shape.queries + i,
        }
    }
}
