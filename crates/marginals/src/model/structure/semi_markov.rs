use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use super::chain::own_scores;
use super::contract::{Structure, StructurePart};
use crate::infer::Inference;
use crate::infer::coupled::{
    Coupled, EdgeSet, EdgeSets, Factors, Moments, Noise, OF_QUERIES, OwnScores, PerQuery, Ragged,
    Scores, Tangents,
};
use crate::infer::fold::segments::{self, Layout};
use crate::infer::fold::{Fold, Recursion, Rule, Size, Unfold};
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Error, Real, Shape, Value, parallel};

/// Queries fall into segments, and all of a segment pick the same key: a semi-Markov conditional random
/// field.
///
/// With segments of keys s_1, s_2 … and lengths d_1, d_2 … ≤ `longest`, which cover all queries in order,
///
/// ```text
/// p ∝ exp( start_{s_1} + Σ_i θ_{i, k_i} + Σ_n durations_{d_n, s_n} + Σ_n transitions_{s_n, s_n+1} + end_{s_last} )
/// ```
///
/// Sarawagi & Cohen, *Semi-Markov conditional random fields* (NIPS 2004). Two segments that follow each other may
/// have one key, unless the transition from it to itself is −∞: edges then tell the segments. Entropy and
/// counts are of segmentations. Transitions, durations, starts and ends are known before the content is
/// seen.
///
/// Log-partition, expectations and gradients cost O(N M (longest + M)) exponentials a head and O(N M)
/// memory: no table of segments is made. Best sets, max-marginals and draws cost O(N M longest) memory.
/// Where nothing is possible: log-partition −∞, everything else 0, MAP and samples −1.
///
/// ```
/// use marginals::{Model, potential::Dot, prior::Uniform, structure::SemiMarkov};
/// use marginals::question::LogCount;
/// # use ndarray::Array4;
/// # let (q, k) = (Array4::<f64>::zeros((1, 1, 4, 2)), Array4::<f64>::zeros((1, 1, 1, 2)));
/// let model = Model::new(SemiMarkov::new(4), Uniform, Dot::scaled(2));
/// let count = model.posterior(q.view(), k.view())?.ask(LogCount)?;
/// assert!((count[[0, 0, 0]] - 8f64.ln()).abs() < 1e-12); // 2³ compositions of 4
/// # Ok::<(), marginals::Error>(())
/// ```
///
/// In a file the scores and lengths are the tensors `durations`, `transitions`, `start`, `end` and `lengths`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "S: Default"))]
pub struct SemiMarkov<S = SegmentScores> {
    /// Longest segment.
    longest: usize,
    #[serde(skip)]
    scores: S,
}

/// Scores and lengths of a [`SemiMarkov`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SegmentScores {
    /// [B, H, longest, M].
    durations: Option<OwnScores>,
    /// [B, H, M, M].
    transitions: Option<OwnScores>,
    /// [B, H, M].
    start: Option<OwnScores>,
    /// [B, H, M].
    end: Option<OwnScores>,
    lengths: Ragged,
}

const DURATIONS: &str = "durations";
const TRANSITIONS: &str = "transitions";
const START: &str = "start";
const END: &str = "end";

impl SemiMarkov {
    /// Segments of at most `longest` queries, all lengths and changes alike.
    pub fn new(longest: usize) -> Self {
        Self { longest, scores: SegmentScores::default() }
    }

    /// The structure with scores of segments of d + 1 queries by key, [longest, M]; axes before them are heads
    /// and batch entries, which may be 1.
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors of fewer than two axes, or more than four.
    pub fn with_durations(self, durations: ArrayD<f64>) -> Result<Self, Error> {
        let durations = Some(own_scores(DURATIONS, durations, 2..=4)?);
        Ok(Self { scores: SegmentScores { durations, ..self.scores }, ..self })
    }

    /// The structure with scores of one segment's key before the next one's, [M, M]: the row is where from.
    ///
    /// # Errors
    /// As [`with_durations`](Self::with_durations).
    pub fn with_transitions(self, transitions: ArrayD<f64>) -> Result<Self, Error> {
        let transitions = Some(own_scores(TRANSITIONS, transitions, 2..=4)?);
        Ok(Self { scores: SegmentScores { transitions, ..self.scores }, ..self })
    }

    /// The structure with scores of the first segment's key, \[M\].
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors without axes, or more than three.
    pub fn with_start(self, start: ArrayD<f64>) -> Result<Self, Error> {
        let start = Some(own_scores(START, start, 1..=3)?);
        Ok(Self { scores: SegmentScores { start, ..self.scores }, ..self })
    }

    /// The structure with scores of the last segment's key, \[M\].
    ///
    /// # Errors
    /// As [`with_start`](Self::with_start).
    pub fn with_end(self, end: ArrayD<f64>) -> Result<Self, Error> {
        let end = Some(own_scores(END, end, 1..=3)?);
        Ok(Self { scores: SegmentScores { end, ..self.scores }, ..self })
    }

    /// The segmentations of the first `lengths[b]` queries of every batch entry.
    pub fn with_lengths(self, lengths: &[usize]) -> Self {
        let lengths = Ragged::queries(lengths);
        Self { scores: SegmentScores { lengths, ..self.scores }, ..self }
    }

    fn own(&self) -> [&Option<OwnScores>; 4] {
        let SegmentScores { durations, transitions, start, end, .. } = &self.scores;
        [durations, transitions, start, end]
    }

    /// Where the own scores stand, which come in that order.
    fn layout(&self) -> Layout {
        let mut next = 0;
        let [durations, transitions, start, end] = self.own().map(|own| {
            own.as_ref().map(|own| {
                next += own.count();
                next - own.count()
            })
        });
        Layout { longest: self.longest, durations, transitions, start, end }
    }
}

impl Part for SemiMarkov<Named> {
    const NAME: &'static str = "semi-markov";
    const MEANING: &'static str =
        "Σ_j φ_ij = 1 in segments of one key and at most `longest` queries: a semi-Markov CRF";
    const EXAMPLE: &'static str = "{ semi-markov = { longest = 3 } }";
    const TENSORS: &'static [NamedTensor] = &[
        NamedTensor::real(DURATIONS, "[B, H, longest, M]", "scores of segments by length and key")
            .only("if present"),
        NamedTensor::real(
            TRANSITIONS,
            "[B, H, M, M]",
            "scores of one segment's key before the next's",
        )
        .only("if present"),
        NamedTensor::real(START, "[B, H, M]", "scores of the first key").only("if present"),
        NamedTensor::real(END, "[B, H, M]", "scores of the last key").only("if present"),
        OF_QUERIES,
    ];
}

impl StructurePart for SemiMarkov<Named> {
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        let mut built = SemiMarkov::new(self.longest);
        if inputs.has(DURATIONS) {
            built = built.with_durations(inputs.dynamic(DURATIONS)?)?;
        }
        if inputs.has(TRANSITIONS) {
            built = built.with_transitions(inputs.dynamic(TRANSITIONS)?)?;
        }
        if inputs.has(START) {
            built = built.with_start(inputs.dynamic(START)?)?;
        }
        if inputs.has(END) {
            built = built.with_end(inputs.dynamic(END)?)?;
        }
        built.scores.lengths = Ragged::of_queries(inputs)?;
        Ok(Box::new(built))
    }

    fn couples_queries(&self) -> bool {
        true
    }
}

impl<T: Real> Structure<T> for SemiMarkov {
    fn name(&self) -> &'static str {
        <SemiMarkov<Named> as Part>::NAME
    }

    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        let own = self.own().into_iter().flatten().collect();
        let sets = Segmented { layout: self.layout() };
        Box::new(Coupled::new(sets, Factors::Head, own, &self.scores.lengths))
    }

    fn check(&self, shape: &Shape, _value: Value) -> Result<(), Error> {
        if self.longest == 0 {
            return Err(Error::value("semi-markov.longest", "at least 1 query", 0));
        }
        let m = shape.keys;
        let rest: [&[usize]; 4] = [&[self.longest, m], &[m, m], &[m], &[m]];
        for (own, rest) in self.own().into_iter().zip(rest) {
            if let Some(own) = own {
                own.check(shape, rest)?;
            }
        }
        self.scores.lengths.check(shape)
    }
}

/// Segments, streamed where they are summed over and a recursion where single ones are wanted.
#[derive(Debug)]
struct Segmented {
    layout: Layout,
}

impl Segmented {
    fn fold(&self) -> Fold<Layout> {
        Fold { unfold: self.layout }
    }
}

impl EdgeSets for Segmented {
    fn per_query(&self) -> PerQuery {
        PerQuery::One
    }

    fn moments(&self, factors: &[Scores<'_>]) -> Vec<Moments> {
        parallel::map(factors.len(), &|factor| segments::moments(&self.layout, &factors[factor]))
    }

    fn tangents(&self, factors: &[Scores<'_>], directions: &[Vec<f64>]) -> Vec<Tangents> {
        parallel::map(factors.len(), &|factor| {
            segments::tangents(&self.layout, &factors[factor], &directions[factor])
        })
    }

    fn best(&self, factor: &Scores<'_>, count: usize) -> Result<Vec<EdgeSet>, Error> {
        self.fold().best(factor, count)
    }

    fn draws(&self, factor: &Scores<'_>, count: usize, noise: Noise) -> Vec<Option<Vec<usize>>> {
        self.fold().draws(factor, count, noise)
    }

    fn max_marginals(&self, factor: &Scores<'_>) -> Result<Vec<f64>, Error> {
        self.fold().max_marginals(factor)
    }
}

impl Unfold for Layout {
    fn per_query(&self) -> PerQuery {
        PerQuery::One
    }

    fn unfold(&self, size: Size) -> Box<dyn Recursion> {
        let layout = Layout { longest: self.longest.min(size.queries), ..*self };
        Box::new(Segments { size, layout })
    }
}

/// After t steps, of every state: the beginnings of a segment there; the segments that have so far taken 1,
/// 2 … steps; those that end there. Then, by number of steps, the whole.
#[derive(Debug)]
struct Segments {
    size: Size,
    layout: Layout,
}

impl Segments {
    /// Cells of a state after a step.
    fn kinds(&self) -> usize {
        self.layout.longest + 2
    }

    /// Segments of `length` steps so far; 0 of those that begin.
    fn so_far(&self, step: usize, state: usize, length: usize) -> usize {
        // Ends before beginnings: one is made of the others.
        let (m, kinds) = (self.size.keys, self.kinds());
        match length {
            0 => (step * kinds + kinds - 1) * m + state,
            length => (step * kinds + length - 1) * m + state,
        }
    }

    fn ended(&self, step: usize, state: usize) -> usize {
        (step * self.kinds() + self.layout.longest) * self.size.keys + state
    }

    fn own(&self, rule: Rule, first: Option<usize>, index: usize) -> Rule {
        first.map_or(rule, |first| rule.with(self.size.own(first + index)))
    }
}

impl Recursion for Segments {
    fn cells(&self) -> usize {
        (self.size.queries + 1) * (self.kinds() * self.size.keys + 1)
    }

    fn rules(&self, cell: usize, into: &mut Vec<Rule>) {
        let (n, m, kinds) = (self.size.queries, self.size.keys, self.kinds());
        let cells = (n + 1) * kinds * m;
        // Own scores are laid out by all the keys of the table.
        let row = self.size.row;
        if cell >= cells {
            match cell - cells {
                0 => into.push(Rule::ONE),
                step => into.extend((0..m).map(|state| {
                    self.own(Rule::cell(self.ended(step, state)), self.layout.end, state)
                })),
            }
            return;
        }
        let (step, kind, state) = (cell / m / kinds, cell / m % kinds, cell % m);
        if kind == kinds - 1 {
            match step {
                0 => into.push(self.own(Rule::ONE, self.layout.start, state)),
                step => into.extend((0..m).map(|from| {
                    let rule = Rule::cell(self.ended(step, from));
                    self.own(rule, self.layout.transitions, from * row + state)
                })),
            }
        } else if kind == self.layout.longest {
            into.extend((1..=self.layout.longest.min(step)).map(|length| {
                let rule = Rule::cell(self.so_far(step, state, length));
                self.own(rule, self.layout.durations, (length - 1) * row + state)
            }));
        } else if kind < step {
            // A segment that has taken so many steps has not begun before the first.
            let before = Rule::cell(self.so_far(step - 1, state, kind));
            into.push(before.with(self.size.edge(step - 1, state)));
        }
    }

    fn goal(&self, queries: usize, _keys: usize) -> usize {
        (self.size.queries + 1) * self.kinds() * self.size.keys + queries
    }
}
