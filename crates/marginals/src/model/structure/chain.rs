use ndarray::{ArrayD, Axis};
use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use crate::infer::Inference;
use crate::infer::coupled::{
    Coupled, EdgeSet, EdgeSets, Factors, Moments, Noise, OF_QUERIES, OwnScores, PerQuery, Ragged,
    Scores, Tangents,
};
use crate::infer::fold::messages::{self, Layout};
use crate::infer::fold::{Fold, Recursion, Rule, Size, Unfold};
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Error, Real, Shape, Value};

/// Every query picks one key, and a pick depends on the one before: a linear-chain conditional random
/// field.
///
/// ```text
/// p(k_1 … k_N) ∝ exp( start_{k_1} + Σ_i θ_{i, k_i} + Σ_{i>1} transitions_{k_{i−1}, k_i} + end_{k_N} )
/// ```
///
/// The keys are the states. Lafferty, McCallum & Pereira (ICML 2001); with scores from queries and keys,
/// structured attention (Kim et al., arXiv 1702.00887). Transitions, starts and ends are the structure's
/// own scores, known before the content is seen: the log-evidence is against a prior that has them too. A
/// transition of −∞ is forbidden. With all of them 0 it is
/// [`EachQueryPicksOne`](super::EachQueryPicksOne), and its log-partition the sum over the queries.
///
/// Cost: O(N M²) multiplications a head, O(N M w) under a band of w, or as many exponentials where finite
/// scores range over more than 300 nats; O(N M) memory. A batch entry may have
/// fewer queries than the tensors have rows ([`with_lengths`](Self::with_lengths)): those behind have no
/// edge. Where no path is possible: log-partition −∞, everything else 0, MAP and samples −1.
///
/// ```
/// use marginals::{Model, potential::Dot, prior::Uniform, structure::Chain};
/// use marginals::question::{LogPartition, Map, Mean};
/// # use ndarray::{Array4, ArrayD};
/// # let (q, k, v) = (Array4::<f64>::ones((1, 2, 5, 4)), Array4::<f64>::ones((1, 2, 3, 4)), Array4::<f64>::ones((1, 2, 3, 2)));
/// let stay = ArrayD::from_shape_fn(vec![3, 3], |at| if at[0] == at[1] { 1.0 } else { 0.0 });
/// let model = Model::new(Chain::new().with_transitions(stay)?, Uniform, Dot::scaled(4));
/// let posterior = model.posterior(q.view(), k.view())?;
/// let (mean, log_z, best) = posterior.ask((Mean(v.view()), LogPartition, Map))?;
/// # assert_eq!((mean.dim(), log_z.dim(), best.dim()), ((1, 2, 5, 2), (1, 2, 1), (1, 2, 5)));
/// # Ok::<(), marginals::Error>(())
/// ```
///
/// In a file the scores and lengths are the tensors `transitions`, `start`, `end` and `lengths`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "S: Default"))]
pub struct Chain<S = ChainScores> {
    /// Farthest that a pick may lie from the one before, |k_i − k_{i−1}|; any distance where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    band: Option<usize>,
    #[serde(skip)]
    scores: S,
}

/// Scores and lengths of a [`Chain`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChainScores {
    /// [B, H, N − 1 or 1, M, M].
    transitions: Option<OwnScores>,
    /// [B, H, M].
    start: Option<OwnScores>,
    /// [B, H, M].
    end: Option<OwnScores>,
    lengths: Ragged,
}

const TRANSITIONS: &str = "transitions";
const START: &str = "start";
const END: &str = "end";

impl Chain {
    /// A chain whose picks do not depend on each other yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The chain with scores of going from one key to the next, [M, M]: the row is where from. A third axis
    /// before them is the step, of N − 1 of them (from query i to i + 1); a fourth the head, a fifth the
    /// batch entry, each of which may be 1.
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors of fewer than two axes, or more than five.
    pub fn with_transitions(self, transitions: ArrayD<f64>) -> Result<Self, Error> {
        let transitions = own_scores(TRANSITIONS, transitions, 2..=5)?;
        let scores = ChainScores { transitions: Some(transitions), ..self.scores };
        Ok(Self { scores, ..self })
    }

    /// The chain with scores of the first key, \[M\]; axes before it are heads and batch entries.
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors without axes, or more than three.
    pub fn with_start(self, start: ArrayD<f64>) -> Result<Self, Error> {
        let scores = ChainScores { start: Some(own_scores(START, start, 1..=3)?), ..self.scores };
        Ok(Self { scores, ..self })
    }

    /// The chain with scores of the last key, likewise.
    ///
    /// # Errors
    /// As there.
    pub fn with_end(self, end: ArrayD<f64>) -> Result<Self, Error> {
        let scores = ChainScores { end: Some(own_scores(END, end, 1..=3)?), ..self.scores };
        Ok(Self { scores, ..self })
    }

    /// The chain in which a pick lies no farther than `band` from the one before.
    pub fn with_band(self, band: usize) -> Self {
        Self { band: Some(band), ..self }
    }

    /// The chains over the first `lengths[b]` queries of every batch entry.
    pub fn with_lengths(self, lengths: &[usize]) -> Self {
        let scores = ChainScores { lengths: Ragged::queries(lengths), ..self.scores };
        Self { scores, ..self }
    }
}

/// A tensor of scores with leading axes of length 1 added.
pub(super) fn own_scores(
    name: &'static str,
    mut values: ArrayD<f64>,
    axes: std::ops::RangeInclusive<usize>,
) -> Result<OwnScores, Error> {
    if !axes.contains(&values.ndim()) {
        return Err(Error::shape(
            name,
            format!("{} to {} axes", axes.start(), axes.end()),
            values.shape(),
            "Axes are aligned from the last.",
        ));
    }
    let shape = values.shape().to_vec();
    while values.ndim() < *axes.end() {
        values = values.insert_axis(Axis(0));
    }
    Ok(OwnScores { name, values, shape })
}

impl Part for Chain<Named> {
    const NAME: &'static str = "chain";
    const MEANING: &'static str = "Σ_j φ_ij = 1, p ∝ exp(Σ_i θ_{i, k_i} + Σ_i transitions_{k_{i−1}, k_i}): a linear-chain CRF";
    const EXAMPLE: &'static str = "\"chain\"";
    const TENSORS: &'static [NamedTensor] = &[
        NamedTensor::real(
            TRANSITIONS,
            "[B, H, N − 1, M, M]",
            "scores of going from one key to the next; leading axes may be 1 or left out",
        )
        .only("if present"),
        NamedTensor::real(START, "[B, H, M]", "scores of the first key").only("if present"),
        NamedTensor::real(END, "[B, H, M]", "scores of the last key").only("if present"),
        OF_QUERIES,
    ];
}

impl StructurePart for Chain<Named> {
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        let mut chain = Chain { band: self.band, scores: ChainScores::default() };
        if inputs.has(TRANSITIONS) {
            chain = chain.with_transitions(inputs.dynamic(TRANSITIONS)?)?;
        }
        if inputs.has(START) {
            chain = chain.with_start(inputs.dynamic(START)?)?;
        }
        if inputs.has(END) {
            chain = chain.with_end(inputs.dynamic(END)?)?;
        }
        chain.scores.lengths = Ragged::of_queries(inputs)?;
        Ok(Box::new(chain))
    }

    fn couples_queries(&self) -> bool {
        true
    }
}

impl<T: Real> Structure<T> for Chain {
    fn name(&self) -> &'static str {
        <Chain<Named> as Part>::NAME
    }

    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        let ChainScores { transitions, start, end, lengths } = &self.scores;
        let own: Vec<&OwnScores> = [transitions, start, end].into_iter().flatten().collect();
        Box::new(Coupled::new(Paths(self), Factors::Head, own, lengths))
    }

    fn check(&self, shape: &Shape, _value: Value) -> Result<(), Error> {
        let ChainScores { transitions, start, end, lengths } = &self.scores;
        let m = shape.keys;
        if let Some(transitions) = transitions {
            let steps = transitions.values.shape()[2];
            let all = shape.queries.saturating_sub(1);
            let expected = if steps == 1 { 1 } else { all };
            transitions.check(shape, &[expected, m, m])?;
        }
        for own in [start, end].into_iter().flatten() {
            own.check(shape, &[m])?;
        }
        lengths.check(shape)
    }
}

/// Paths of a chain: by messages where the scores allow it, and else by the recursion that it unfolds to.
#[derive(Clone, Copy, Debug)]
struct Paths<'c>(&'c Chain);

impl Paths<'_> {
    /// Where the structure's own scores stand.
    fn layout(&self) -> Layout {
        let ChainScores { transitions, start, end, .. } = &self.0.scores;
        let mut next = 0;
        let mut take = |own: &Option<OwnScores>| {
            own.as_ref().map(|own| {
                let first = next;
                next += own.count();
                first
            })
        };
        Layout {
            transitions: take(transitions),
            by_step: transitions.as_ref().is_some_and(|own| own.values.shape()[2] > 1),
            start: take(start),
            end: take(end),
            band: self.0.band.unwrap_or(usize::MAX),
        }
    }
}

impl EdgeSets for Paths<'_> {
    fn per_query(&self) -> PerQuery {
        PerQuery::One
    }

    fn moments(&self, factors: &[Scores<'_>]) -> Vec<Moments> {
        let found = messages::moments(&self.layout(), factors);
        completed(found, |rest| {
            let factors: Vec<_> = rest.iter().map(|&factor| factors[factor]).collect();
            Fold { unfold: *self }.moments(&factors)
        })
    }

    fn tangents(&self, factors: &[Scores<'_>], directions: &[Vec<f64>]) -> Vec<Tangents> {
        let found = messages::tangents(&self.layout(), factors, directions);
        completed(found, |rest| {
            let factors: Vec<_> = rest.iter().map(|&factor| factors[factor]).collect();
            let directions: Vec<_> = rest.iter().map(|&f| directions[f].clone()).collect();
            Fold { unfold: *self }.tangents(&factors, &directions)
        })
    }

    fn best(&self, factor: &Scores<'_>, count: usize) -> Result<Vec<EdgeSet>, Error> {
        Fold { unfold: *self }.best(factor, count)
    }

    fn draws(&self, factor: &Scores<'_>, count: usize, noise: Noise) -> Vec<Option<Vec<usize>>> {
        Fold { unfold: *self }.draws(factor, count, noise)
    }

    fn max_marginals(&self, factor: &Scores<'_>) -> Result<Vec<f64>, Error> {
        Fold { unfold: *self }.max_marginals(factor)
    }
}

/// Results found, and for factors without one, those of `otherwise`.
fn completed<R>(found: Vec<Option<R>>, otherwise: impl FnOnce(&[usize]) -> Vec<R>) -> Vec<R> {
    let is_left = |factor: &usize| found[*factor].is_none();
    let rest: Vec<usize> = (0..found.len()).filter(is_left).collect();
    let mut others = if rest.is_empty() { Vec::new() } else { otherwise(&rest) }.into_iter();
    let mut one = |own: Option<R>| own.or_else(|| others.next());
    found.into_iter().map(|own| one(own).expect("a result of every factor")).collect()
}

impl Unfold for Paths<'_> {
    fn per_query(&self) -> PerQuery {
        PerQuery::One
    }

    fn unfold(&self, size: Size) -> Box<dyn Recursion> {
        Box::new(Steps { size, layout: self.layout() })
    }
}

/// Cell i M + s is every way to get to state s at query i; cell N M + n ends after n queries.
#[derive(Debug)]
struct Steps {
    size: Size,
    layout: Layout,
}

impl Steps {
    /// The rule with one of the structure's own scores.
    fn also(&self, rule: Rule, first: Option<usize>, index: usize) -> Rule {
        first.map_or(rule, |first| rule.with(self.size.own(first + index)))
    }
}

impl Recursion for Steps {
    fn cells(&self) -> usize {
        self.size.queries * self.size.keys + self.size.queries + 1
    }

    fn rules(&self, cell: usize, into: &mut Vec<Rule>) {
        let (n, m) = (self.size.queries, self.size.keys);
        if cell >= n * m {
            let length = cell - n * m;
            if length == 0 {
                into.push(Rule::ONE);
            } else if length <= n {
                let last = |s| self.also(Rule::cell((length - 1) * m + s), self.layout.end, s);
                into.extend((0..m).map(last));
            }
            return;
        }
        let (query, state) = (cell / m, cell % m);
        let edge = self.size.edge(query, state);
        if query == 0 {
            into.push(self.also(Rule::ONE.with(edge), self.layout.start, state));
            return;
        }
        let first = if self.layout.by_step { (query - 1) * m * m } else { 0 };
        let from = state.saturating_sub(self.layout.band)
            ..m.min(state.saturating_add(self.layout.band).saturating_add(1));
        into.extend(from.map(|before| {
            let rule = Rule::cell((query - 1) * m + before).with(edge);
            self.also(rule, self.layout.transitions, first + before * m + state)
        }));
    }

    fn goal(&self, queries: usize, _keys: usize) -> usize {
        self.size.queries * self.size.keys + queries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A random number from 0 to 1, of its place.
    fn number(seed: u64, index: usize) -> f64 {
        Noise { seed, factor: 0 }.uniform(0, index)
    }

    /// Largest difference between messages and the recursion, of the moments and their derivatives of
    /// chains of different lengths; and how many of them messages answer.
    fn compare(
        chain: &Chain,
        (n, m): (usize, usize),
        score: &dyn Fn(usize) -> f64,
    ) -> (f64, usize) {
        let paths = Paths(chain);
        let ChainScores { transitions, start, end, .. } = &chain.scores;
        let all = [transitions, start, end].into_iter().flatten();
        let own: Vec<f64> = all.flat_map(|own| own.values.iter().copied()).collect();
        let lengths: Vec<usize> = (0..11).map(|factor| n - factor % 3 * (n / 4)).collect();
        let values: Vec<Vec<f64>> = (lengths.iter().enumerate())
            .map(|(factor, &length)| {
                let of_edge = |edge: usize| match edge < length * m {
                    true => score(factor * n * m + edge),
                    false => f64::NEG_INFINITY,
                };
                (0..n * m).map(of_edge).chain(own.iter().copied()).collect()
            })
            .collect();
        let directions: Vec<Vec<f64>> = (values.iter().enumerate())
            .map(|(factor, values)| {
                let of_score = |(index, x): (usize, &f64)| match *x > f64::NEG_INFINITY {
                    true => number(factor as u64 + 100, index) * 6.0 - 2.0,
                    false => 0.0,
                };
                values.iter().enumerate().map(of_score).collect()
            })
            .collect();
        let factors: Vec<Scores<'_>> = (values.iter().zip(&lengths))
            .map(|(values, &queries)| Scores { queries, keys: m, row: m, edges: n * m, values })
            .collect();
        let found = messages::tangents(&paths.layout(), &factors, &directions);
        let moments = messages::moments(&paths.layout(), &factors);
        let expected = Fold { unfold: paths }.tangents(&factors, &directions);
        let mut worst = 0.0f64;
        let mut answered = 0;
        for ((found, moments), expected) in found.iter().zip(&moments).zip(&expected) {
            assert_eq!(found.as_ref().map(|own| &own.moments), moments.as_ref());
            let Some(found) = found else { continue };
            answered += 1;
            let (own, of_recursion) = (&found.moments, &expected.moments);
            if of_recursion.log_partition == f64::NEG_INFINITY {
                assert_eq!(own.log_partition, f64::NEG_INFINITY);
            } else {
                worst = worst.max((own.log_partition - of_recursion.log_partition).abs());
            }
            let of_moments = own.expected.iter().zip(&of_recursion.expected);
            let of_tangents = found.expected.iter().zip(&expected.expected);
            for (found, expected) in of_moments.chain(of_tangents) {
                assert!(!found.is_nan(), "{found} {expected}");
                worst = worst.max((found - expected).abs());
            }
        }
        (worst, answered)
    }

    /// Chains with transitions of one kind or another, starts and ends.
    fn chain(steps: usize, m: usize, wide: f64, forbidden: f64) -> Chain {
        let of = |seed: u64, shape: Vec<usize>| {
            let count = shape.iter().product::<usize>();
            let score = |index: usize| match number(seed + 50, index) < forbidden {
                true => f64::NEG_INFINITY,
                false => (number(seed, index) - 0.5) * wide,
            };
            ArrayD::from_shape_vec(shape, (0..count).map(score).collect()).unwrap()
        };
        Chain::new()
            .with_transitions(of(1, vec![steps, m, m]))
            .and_then(|chain| chain.with_start(of(2, vec![m])))
            .and_then(|chain| chain.with_end(of(3, vec![m])))
            .unwrap()
    }

    #[test]
    fn messages_agree_with_the_recursion() {
        let (n, m) = (40, 13);
        let normal = |index: usize| (number(7, index) - 0.5) * 20.0;
        let masked = |index: usize| match number(8, index) < 0.3 {
            true => f64::NEG_INFINITY,
            false => normal(index),
        };
        for steps in [1, n - 1] {
            for chain in [
                chain(steps, m, 8.0, 0.0),
                chain(steps, m, 8.0, 0.5),
                chain(steps, m, 60.0, 0.2),
                chain(steps, m, 3.0, 0.0).with_band(2),
                Chain::new().with_band(1),
                Chain::new(),
            ] {
                for score in [&normal as &dyn Fn(usize) -> f64, &masked] {
                    let (worst, answered) = compare(&chain, (n, m), score);
                    assert!(worst < 1e-11, "{worst:e} {chain:?}");
                    assert_eq!(answered, 11, "{chain:?}");
                }
            }
        }
    }

    /// Scores that range far are left to the recursion, and those that forbidden transitions let run apart
    /// step by step are where digits would be lost.
    #[test]
    fn messages_give_up_what_they_cannot_keep() {
        let (n, m) = (60, 2);
        let wide = |index: usize| (number(7, index) - 0.5) * 4000.0;
        assert_eq!(compare(&Chain::new(), (n, m), &wide), (0.0, 0));
        // Two states that never meet: one falls behind by 20 nats a step, and 5 more in its last.
        let apart = vec![0.0, f64::NEG_INFINITY, f64::NEG_INFINITY, 0.0];
        let apart = ArrayD::from_shape_vec(vec![2, 2], apart).unwrap();
        let chain = Chain::new().with_transitions(apart).unwrap();
        let falls = |index: usize| if index.is_multiple_of(2) { 0.0 } else { -20.0 };
        let (worst, answered) = compare(&chain, (n, m), &falls);
        // Those of 30 steps are 600 nats apart and are kept; those of 45 and 60 are not.
        assert_eq!(answered, 3);
        assert!(worst < 1e-11, "{worst:e}");
        // NaN is the recursion's, and only its own chain's.
        let garbage = |index: usize| if index == 5 { f64::NAN } else { 0.5 };
        assert_eq!(compare(&Chain::new(), (n, m), &garbage).1, 10);
    }
}
