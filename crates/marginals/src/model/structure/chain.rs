use ndarray::{ArrayD, Axis};
use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use crate::infer::Inference;
use crate::infer::coupled::{Coupled, Factors, OF_QUERIES, OwnScores, PerQuery, Ragged};
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
/// Cost: O(N M²) exponentials a head, O(N M w) under a band of w; O(N M) memory. A batch entry may have
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
        Box::new(Coupled::new(Fold { unfold: Unfolded(self) }, Factors::Head, own, lengths))
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

/// Recursion that a chain unfolds to.
#[derive(Clone, Copy, Debug)]
struct Unfolded<'c>(&'c Chain);

impl Unfold for Unfolded<'_> {
    fn per_query(&self) -> PerQuery {
        PerQuery::One
    }

    fn unfold(&self, size: Size) -> Box<dyn Recursion> {
        let ChainScores { transitions, start, end, .. } = &self.0.scores;
        let mut next = 0;
        let mut take = |own: &Option<OwnScores>| {
            own.as_ref().map(|own| {
                let first = size.own(next);
                next += own.count();
                first
            })
        };
        let (first_transition, first_start, first_end) =
            (take(transitions), take(start), take(end));
        let by_step = transitions.as_ref().is_some_and(|own| own.values.shape()[2] > 1);
        Box::new(Paths {
            size,
            band: self.0.band.unwrap_or(usize::MAX),
            transitions: first_transition,
            by_step,
            start: first_start,
            end: first_end,
        })
    }
}

/// Cell i M + s is every way to get to state s at query i; cell N M + n ends after n queries.
#[derive(Debug)]
struct Paths {
    size: Size,
    band: usize,
    /// Where the structure's own scores begin.
    transitions: Option<usize>,
    /// Whether transitions differ from step to step.
    by_step: bool,
    start: Option<usize>,
    end: Option<usize>,
}

impl Paths {
    fn also(rule: Rule, first: Option<usize>, index: usize) -> Rule {
        first.map_or(rule, |first| rule.with(first + index))
    }
}

impl Recursion for Paths {
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
                let last = |s| Self::also(Rule::cell((length - 1) * m + s), self.end, s);
                into.extend((0..m).map(last));
            }
            return;
        }
        let (query, state) = (cell / m, cell % m);
        let edge = self.size.edge(query, state);
        if query == 0 {
            into.push(Self::also(Rule::ONE.with(edge), self.start, state));
            return;
        }
        let first = if self.by_step { (query - 1) * m * m } else { 0 };
        let from = state.saturating_sub(self.band)
            ..m.min(state.saturating_add(self.band).saturating_add(1));
        into.extend(from.map(|before| {
            let rule = Rule::cell((query - 1) * m + before).with(edge);
            Self::also(rule, self.transitions, first + before * m + state)
        }));
    }

    fn goal(&self, queries: usize, _keys: usize) -> usize {
        self.size.queries * self.size.keys + queries
    }
}
