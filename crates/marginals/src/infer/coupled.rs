//! Exact inference in structures whose edges depend on each other.
//!
//! A structure says what its possible [edge sets](EdgeSets) are and how to sum over them; everything
//! else is the same for all. With x the scores of a factor and n(φ) how often each counts in φ,
//!
//! ```text
//! p(φ) = exp(n(φ)·x) / Z(x),     E[n] = ∂ log Z/∂x,     ∂E[n]/∂x = the Hessian of log Z.
//! ```
//!
//! The marginals are the edges' part of E\[n\], and everything that is averaged is linear in them; so its
//! gradient is the Hessian times what is averaged, which [`EdgeSets::tangents`] gives. Unlike streaming
//! inference this keeps the table of all scores of a head: O(N M) memory.

pub mod contract;
mod gather;
mod lengths;
mod scatter;
pub(in crate::infer) mod tables;

use std::borrow::Cow;
use std::ops::Range;

use ndarray::{Array, ArrayD, ArrayView2, Axis, IxDyn, Slice};

use super::entropic::Margins;
use super::finding::{Finding, Merge};
use super::slopes::Slopes;
use super::statistic::Request;
use super::{EdgeQuestions, Gradients, Inference, Problem, SetQuestions, Values};
use crate::{Error, Parameter, ParameterGradient, Real, Shape, parallel};

pub use contract::{EdgeSet, EdgeSets, Lengths, Moments, Noise, PerQuery, Scores, Tangents};
pub(crate) use lengths::{OF_KEYS, OF_QUERIES, OF_TREES, Ragged};
pub use tables::Factors;

use tables::{Reads, Table};

/// Scores that a structure has of its own, [B or 1, H or 1, …]: transitions, starts, ends.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnScores {
    /// Name, as in `chain.transitions`.
    pub name: &'static str,
    /// The scores, with a leading axis each of batch entries and heads, which may be 1.
    pub values: ArrayD<f64>,
    /// Their shape as they were given, and of their gradient: without some of the leading axes of 1.
    pub shape: Vec<usize>,
}

impl OwnScores {
    /// Those of one batch entry and head.
    fn of(&self, (batch, head): (usize, usize)) -> impl Iterator<Item = f64> + '_ {
        let place =
            |axis: usize, index: usize| if self.values.shape()[axis] == 1 { 0 } else { index };
        let own = self.values.index_axis(Axis(0), place(0, batch));
        own.index_axis_move(Axis(0), place(1, head)).into_iter().copied()
    }

    /// Scores of one batch entry and head.
    pub(crate) fn count(&self) -> usize {
        self.values.shape()[2..].iter().product()
    }

    /// Refuses scores of other batch entries and heads than the nodes have, and such as are no scores.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::Value`], naming them.
    pub fn check(&self, shape: &Shape, rest: &[usize]) -> Result<(), Error> {
        let found = self.values.shape();
        let fits = |own: usize, all: usize| own == 1 || own == all;
        if !fits(found[0], shape.batch) || !fits(found[1], shape.heads) || found[2..] != *rest {
            let (b, h) = (shape.batch, shape.heads);
            return Err(Error::shape(
                self.name,
                format!("{rest:?}, with leading axes of 1 or {b} batch entries and 1 or {h} heads"),
                found,
                "Axes are aligned from the last.",
            ));
        }
        match self.values.iter().find(|x| x.is_nan() || **x == f64::INFINITY) {
            None => Ok(()),
            Some(x) => Err(Error::value(self.name, "finite scores, or −∞ for the impossible", x)),
        }
    }

    fn parameter(&self) -> Parameter {
        Parameter::new(self.name, &self.shape)
    }
}

/// Inference over edge sets.
#[derive(Debug)]
pub struct Coupled<'s> {
    /// The possible edge sets.
    sets: Box<dyn EdgeSets + 's>,
    /// Cut of the edges into factors.
    factors: Factors,
    /// Scores of the structure's own, in the order in which the edge sets number them.
    own: Vec<&'s OwnScores>,
    /// Nodes that are there.
    lengths: &'s Ragged,
}

impl<'s> Coupled<'s> {
    /// Inference over `sets`, whose own scores are `own`.
    pub(crate) fn new(
        sets: impl EdgeSets + 's,
        factors: Factors,
        own: Vec<&'s OwnScores>,
        lengths: &'s Ragged,
    ) -> Self {
        Self { sets: Box::new(sets), factors, own, lengths }
    }
}

/// The factors of all heads, in order.
struct Instances {
    /// The numbers of each.
    scores: Vec<Vec<f64>>,
    /// Keys per row, and the structure's own scores.
    row: usize,
    own: usize,
    lengths: Vec<Lengths>,
}

impl Instances {
    fn views(&self) -> Vec<Scores<'_>> {
        let all = self.scores.iter().zip(&self.lengths);
        all.map(|(values, &lengths)| tables::view(values, self.row, lengths, self.own)).collect()
    }
}

impl Coupled<'_> {
    /// Number of factors of a head.
    fn per_head(&self, shape: &Shape) -> usize {
        match self.factors {
            Factors::Head => 1,
            Factors::Query => shape.queries,
        }
    }

    /// Number of edges of a factor.
    fn edges(&self, shape: &Shape) -> usize {
        match self.factors {
            Factors::Head => shape.queries * shape.keys,
            Factors::Query => shape.keys,
        }
    }

    /// The scores of every factor, from those of the edges of every head.
    fn instances<'t>(
        &self,
        shape: &Shape,
        tables: impl Iterator<Item = &'t Vec<f64>>,
    ) -> Instances {
        let mut all =
            Instances { scores: Vec::new(), row: shape.keys, own: 0, lengths: Vec::new() };
        all.own = self.own.iter().map(|own| own.count()).sum();
        for (head, table) in shape.all_heads().zip(tables) {
            let own: Vec<f64> = self.own.iter().flat_map(|own| own.of(head)).collect();
            let whole = Lengths { queries: shape.queries, keys: shape.keys };
            let lengths = self.lengths.of(head.0, whole);
            let sizes = (shape.queries, shape.keys);
            let cut = tables::factors(table, sizes, lengths, &own, self.factors);
            let of_factor = match self.factors {
                Factors::Head => lengths,
                Factors::Query => Lengths { queries: 1, ..lengths },
            };
            all.lengths.extend(cut.iter().map(|_| of_factor));
            all.scores.extend(cut);
        }
        all
    }

    /// Refuses a question about one edge per query where a query may have several.
    fn require_one_per_query(&self, question: &str) -> Result<(), Error> {
        match self.sets.per_query() {
            PerQuery::One => Ok(()),
            PerQuery::Several => Err(Error::NotAnswerable {
                question: question.into(),
                why: "its structure may give a query several edges, which depend on each other"
                    .into(),
                instead: "Ask for the mean, the marginals, `k-best` or `samples`.".into(),
            }),
        }
    }

    /// Gradients of the structure's own scores, from those of every head.
    fn own_gradients<T: Real>(
        &self,
        shape: &Shape,
        by_factor: &[Vec<f64>],
    ) -> Vec<ParameterGradient<T>> {
        let mut first = self.edges(shape);
        let mut gradients = Vec::with_capacity(self.own.len());
        for own in &self.own {
            let count = own.count();
            let mut sum: ArrayD<f64> = Array::zeros(IxDyn(own.values.shape()));
            for (factor, gradient) in by_factor.iter().enumerate() {
                let head = factor / self.per_head(shape).max(1);
                let (b, h) = (head / shape.heads.max(1), head % shape.heads.max(1));
                let place =
                    |axis: usize, index| if own.values.shape()[axis] == 1 { 0 } else { index };
                let (b, h) = (place(0, b), place(1, h));
                sum.slice_axis_mut(Axis(0), Slice::from(b..b + 1))
                    .slice_axis_mut(Axis(1), Slice::from(h..h + 1))
                    .iter_mut()
                    .zip(&gradient[first..first + count])
                    .for_each(|(sum, g)| *sum += g);
            }
            let flat: Vec<f64> = sum.iter().copied().collect();
            gradients.push(ParameterGradient::from_small(&own.parameter(), &flat));
            first += count;
        }
        gradients
    }
}

/// Questions about a query's one edge.
const OF_ONE_EDGE: [&str; 3] = ["map", "value-variance", "covariance"];
/// Questions that need one choice per factor.
const OF_CHOICES: [&str; 3] = ["top-k", "max-probability", "null-probability"];

impl<T: Real> Inference<T> for Coupled<'_> {
    fn name(&self) -> &'static str {
        "coupled"
    }

    fn check(&self, problem: &Problem<'_, T>) -> Result<(), Error> {
        let shape = &problem.shape;
        crate::check_room(
            "scores",
            &[shape.batch, shape.heads, shape.queries, shape.keys],
            2 * size_of::<f64>(),
        )
    }

    fn require_edges(&self, question: &str) -> Result<(), Error> {
        if OF_CHOICES.contains(&question) {
            return Err(Error::NotAnswerable {
                question: question.into(),
                why: "its structure chooses whole edge sets".into(),
                instead: "Ask for `k-best`, `map` or the marginals.".into(),
            });
        }
        if OF_ONE_EDGE.contains(&question) {
            return self.require_one_per_query(question);
        }
        Ok(())
    }

    fn factors(&self, shape: &Shape) -> usize {
        self.per_head(shape)
    }

    fn margins(&self, shape: &Shape) -> Option<Margins> {
        let whole = Lengths { queries: shape.queries, keys: shape.keys };
        self.sets.margins(shape, &|batch| self.lengths.of(batch, whole))
    }

    fn find(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        keys: Range<usize>,
        _complete: bool,
    ) -> Result<Finding<T>, Error> {
        problem.require_all(&keys, ALL)?;
        if !request.reads_sums {
            let shape = &problem.shape;
            return Ok(Finding::of_sets(request, shape, self.per_head(shape)));
        }
        self.check_sums(problem)?;
        let state = State::find(self, problem, request.wants_prior());
        let tangents = state.tangents_of(self, problem, request);
        let mut finding = gather::find(self, problem, request, &state, &tangents);
        finding.moments = state.moments.into_owned();
        finding.prior_moments = state.prior.into_owned();
        Ok(finding)
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
        problem.require_all(&keys, ALL)?;
        if !request.reads_sums {
            self.check_sums(problem)?;
        }
        scatter::backward(self, problem, request, finding, slopes, values)
    }

    fn edges(&self) -> Option<&dyn EdgeQuestions<T>> {
        Some(self)
    }

    fn sets(&self) -> Option<&dyn SetQuestions<T>> {
        Some(self)
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.own.iter().map(|own| own.parameter()).collect()
    }
}

/// Why an inference over edge sets takes no part of the keys.
const ALL: &str = "edges depend on each other";

/// Scores and moments of every factor.
struct State<'f> {
    tables: Vec<Table>,
    instances: Instances,
    moments: Cow<'f, [Moments]>,
    /// Those of the prior alone; empty where nobody asks.
    prior: Cow<'f, [Moments]>,
}

impl State<'static> {
    /// The state, with the moments found.
    fn find<T: Real>(of: &Coupled<'_>, problem: &Problem<'_, T>, prior: bool) -> Self {
        let (tables, instances) = of.tables(problem, prior);
        let moments = of.sets.moments(&instances.views());
        let prior = match prior {
            false => Vec::new(),
            true => {
                let weights = tables.iter().map(|table| &table.weights);
                of.sets.moments(&of.instances(&problem.shape, weights).views())
            }
        };
        Self { tables, instances, moments: moments.into(), prior: prior.into() }
    }
}

impl<'f> State<'f> {
    /// The state of a pass that has found the moments, or was asked for nothing that they are needed for.
    fn found<T: Real>(
        of: &Coupled<'_>,
        problem: &Problem<'_, T>,
        finding: &'f Finding<T>,
        prior: bool,
    ) -> Self {
        if finding.moments.is_empty() {
            return State::find(of, problem, prior);
        }
        let (tables, instances) = of.tables(problem, prior);
        let prior = if prior { &*finding.prior_moments } else { &[] };
        Self { tables, instances, moments: (&*finding.moments).into(), prior: prior.into() }
    }

    /// Marginals of one head.
    fn marginals(&self, of: &Coupled<'_>, shape: &Shape, head: usize) -> Cow<'_, [f64]> {
        of.marginals_of(&self.moments, shape, head)
    }

    /// Derivatives of the marginals of every head, for each tangent of the request.
    fn tangents_of<T: Real>(
        &self,
        of: &Coupled<'_>,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
    ) -> Vec<(usize, Vec<Vec<f64>>)> {
        let shape = &problem.shape;
        let of_statistic = |(index, function): (usize, &dyn super::EdgeFunction<T>)| {
            let heads: Vec<_> = shape.all_heads().collect();
            let moves =
                parallel::map_each(heads, &|head| gather::on_edges(problem, head, function));
            let directions = of.directions(shape, &self.instances, moves.iter());
            let tangents = of.sets.tangents(&self.instances.views(), &directions);
            let by_head = (0..shape.batch * shape.heads).map(|head| {
                by_head(of, shape, head, |factor| &tangents[factor].expected).into_owned()
            });
            (index, by_head.collect())
        };
        request.tangents().map(of_statistic).collect()
    }
}

/// Edges' numbers of one head, from those of its factors.
fn by_head<'m>(
    of: &Coupled<'_>,
    shape: &Shape,
    head: usize,
    expected: impl Fn(usize) -> &'m Vec<f64>,
) -> Cow<'m, [f64]> {
    let count = of.per_head(shape);
    let edges = of.edges(shape);
    let mut factors = (head * count..(head + 1) * count).map(|factor| &expected(factor)[..edges]);
    match of.factors {
        Factors::Head => factors.next().expect("a factor of every head").into(),
        Factors::Query => factors.collect::<Vec<_>>().concat().into(),
    }
}

impl Coupled<'_> {
    /// Scores of every head, log-weights with them where they are read, and the factors of the scores.
    fn tables<T: Real>(&self, problem: &Problem<'_, T>, weights: bool) -> (Vec<Table>, Instances) {
        let reads = if weights { Reads::ScoresAndWeights } else { Reads::Scores };
        let tables = tables::tables(problem, reads);
        let instances = self.instances(&problem.shape, tables.iter().map(|table| &table.scores));
        (tables, instances)
    }

    /// Marginals of one head, row after row: those of its factors one after the other.
    fn marginals_of<'m>(
        &self,
        moments: &'m [Moments],
        shape: &Shape,
        head: usize,
    ) -> Cow<'m, [f64]> {
        by_head(self, shape, head, |factor| &moments[factor].expected)
    }

    /// Directions of every factor's scores, from those of the edges of every head: 0 for the impossible
    /// and the structure's own.
    fn directions<'t>(
        &self,
        shape: &Shape,
        instances: &Instances,
        of_edges: impl Iterator<Item = &'t Vec<f64>>,
    ) -> Vec<Vec<f64>> {
        let mut all = self.instances(shape, of_edges).scores;
        for (direction, scores) in all.iter_mut().zip(&instances.scores) {
            let edges = scores.len() - instances.own;
            direction[edges..].fill(0.0);
            for (d, &x) in direction.iter_mut().zip(scores) {
                if x == f64::NEG_INFINITY {
                    *d = 0.0;
                }
            }
        }
        all
    }
}

impl<T: Real> EdgeQuestions<T> for Coupled<'_> {
    fn column_mass(&self, problem: &Problem<'_, T>, finding: &Finding<T>) -> Vec<T> {
        let shape = &problem.shape;
        let of_head = |head| {
            let marginals = self.marginals_of(&finding.moments, shape, head);
            let rows = ArrayView2::from_shape((shape.queries, shape.keys), &marginals);
            let sums = rows.expect("a number of every edge").sum_axis(Axis(0));
            sums.into_iter().map(T::of).collect::<Vec<T>>()
        };
        (0..shape.batch * shape.heads).flat_map(of_head).collect()
    }

    fn marginals(&self, problem: &Problem<'_, T>, finding: &Finding<T>) -> Vec<T> {
        let shape = &problem.shape;
        let mut all = Vec::with_capacity(shape.batch * shape.heads * shape.queries * shape.keys);
        for head in 0..shape.batch * shape.heads {
            let marginals = self.marginals_of(&finding.moments, shape, head);
            all.extend(marginals.iter().map(|&p| T::of(p)));
        }
        all
    }
}

impl<T: Real> SetQuestions<T> for Coupled<'_> {
    fn per_query(&self) -> PerQuery {
        self.sets.per_query()
    }

    fn scores(&self, shape: &Shape) -> usize {
        self.edges(shape) + self.own.iter().map(|own| own.count()).sum::<usize>()
    }

    fn check_sums(&self, problem: &Problem<'_, T>) -> Result<(), Error> {
        let shape = &problem.shape;
        let whole = Lengths { queries: shape.queries, keys: shape.keys };
        (0..shape.batch).try_for_each(|batch| {
            let Lengths { queries, keys } = self.lengths.of(batch, whole);
            self.sets.check_sums(queries, keys)
        })
    }

    fn best(&self, problem: &Problem<'_, T>, count: usize) -> Result<Vec<Vec<EdgeSet>>, Error> {
        let (_, instances) = self.tables(problem, false);
        let views = instances.views();
        parallel::try_map(views.len(), &|factor| self.sets.best(&views[factor], count))
    }

    fn draws(
        &self,
        problem: &Problem<'_, T>,
        count: usize,
        seed: u64,
    ) -> Vec<Vec<Option<Vec<usize>>>> {
        let (_, instances) = self.tables(problem, false);
        let views = instances.views();
        parallel::map(views.len(), &|factor| {
            self.sets.draws(&views[factor], count, Noise { seed, factor: factor as u64 })
        })
    }

    fn max_marginals(&self, problem: &Problem<'_, T>) -> Result<Vec<T>, Error> {
        let shape = &problem.shape;
        let (_, instances) = self.tables(problem, false);
        let views = instances.views();
        let all =
            parallel::try_map(views.len(), &|factor| self.sets.max_marginals(&views[factor]))?;
        let of_head = |head| by_head(self, shape, head, |factor| &all[factor]).into_owned();
        Ok((0..shape.batch * shape.heads).flat_map(of_head).map(T::of).collect())
    }

    fn log_count(&self, problem: &Problem<'_, T>) -> Vec<T> {
        let (_, mut instances) = self.tables(problem, false);
        for x in instances.scores.iter_mut().flatten() {
            // Garbage is not a possibility that could be counted.
            *x = if *x > f64::NEG_INFINITY { 0.0 } else { *x };
        }
        let moments = self.sets.moments(&instances.views());
        moments.into_iter().map(|moments| T::of(moments.log_partition)).collect()
    }

    fn pairs(&self, problem: &Problem<'_, T>, given: (usize, usize)) -> Vec<T> {
        let shape = &problem.shape;
        let (_, instances) = self.tables(problem, false);
        let mut of_edge = vec![0.0; shape.queries * shape.keys];
        of_edge[given.0 * shape.keys + given.1] = 1.0;
        let heads = shape.batch * shape.heads;
        let directions = self.directions(shape, &instances, (0..heads).map(|_| &of_edge));
        let tangents = self.sets.tangents(&instances.views(), &directions);
        let of_head = |head: usize| {
            let marginals = by_head(self, shape, head, |factor| &tangents[factor].moments.expected);
            let moved = by_head(self, shape, head, |factor| &tangents[factor].expected);
            let number = given.0 * shape.keys + given.1;
            let p = marginals[number];
            let pairs: Vec<T> = marginals
                .iter()
                .zip(&*moved)
                .enumerate()
                .map(|(edge, (&own, &moved))| match edge == number {
                    true => T::of(p),
                    // Cov(a, b) = P(a, b) − P(a) P(b).
                    false => T::of((moved + own * p).clamp(0.0, own.min(p))),
                })
                .collect();
            pairs
        };
        (0..heads).flat_map(of_head).collect()
    }

    fn cross_entropy(
        &self,
        problem: &Problem<'_, T>,
        other: (&dyn SetQuestions<T>, &Problem<'_, T>),
    ) -> Vec<T> {
        let state = State::find(self, problem, false);
        let log_q = other.0.expected_log_probability(other.1, &state.moments);
        log_q.into_iter().map(|x| T::of(0.0 - x)).collect()
    }

    fn expected_log_probability(&self, problem: &Problem<'_, T>, under: &[Moments]) -> Vec<f64> {
        let state = State::find(self, problem, false);
        let of_factor = |(factor, under): (usize, &Moments)| {
            let log_partition = state.moments[factor].log_partition;
            if under.log_partition == f64::NEG_INFINITY {
                // Where nothing is possible there is nothing to expect.
                return 0.0;
            }
            if log_partition == f64::NEG_INFINITY {
                return log_partition;
            }
            gather::expected_score(&under.expected, &state.instances.scores[factor]) - log_partition
        };
        under.iter().enumerate().map(of_factor).collect()
    }
}

impl<T: Real> Finding<T> {
    /// A finding of factors that are whole heads or queries, over all keys.
    fn of_sets(request: &Request<'_, T>, shape: &Shape, factors: usize) -> Self {
        let heads = shape.batch * shape.heads;
        let keys = shape.key_offset..shape.key_offset + shape.keys as i64;
        let sizes = (heads * factors, heads * shape.queries);
        let mut finding = Self::nothing(Merge::Factors, request, sizes, keys);
        finding.heads = heads;
        finding.complete = true;
        finding
    }
}
