use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use crate::infer::Inference;
use crate::infer::coupled::{Coupled, Factors, OF_KEYS, OF_QUERIES, PerQuery, Ragged};
use crate::infer::fold::{Fold, Recursion, Rule, Size, Unfold};
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Error, Real, Shape, Value};

/// Every query picks one key, and picks go forward only: k_1 < k_2 < … < k_N, or with stays k_1 ≤ k_2 ≤ ….
///
/// ```text
/// p(k_1 … k_N) ∝ exp( Σ_i θ_{i, k_i} ),     steps k_{i+1} − k_i as `moves` and `skips` say
/// ```
///
/// Alignments of speech or text read in one direction: Raffel et al., arXiv 1704.00784 (monotonic
/// attention); Yu et al., arXiv 1609.08194, and Kim et al., arXiv 2005.11129 (monotonic alignments summed
/// over). Ends are free, or pinned: the first query to the first key, the last query to the last.
///
/// Cost: O(N M) exponentials a head, O(N M s) where a step skips at most s keys; O(N M) memory. Where no
/// alignment is possible (more queries than keys that only go forward): log-partition −∞, everything else
/// 0, MAP and samples −1.
///
/// ```
/// use marginals::{Model, potential::Dot, prior::Uniform};
/// use marginals::question::{LogCount, Map};
/// use marginals::structure::{Moves, MonotoneAlignment};
/// # use ndarray::Array4;
/// # let (q, k) = (Array4::<f64>::zeros((1, 1, 3, 2)), Array4::<f64>::zeros((1, 1, 5, 2)));
/// let model = Model::new(MonotoneAlignment::new(Moves::Forward), Uniform, Dot::scaled(2));
/// let (count, best) = model.posterior(q.view(), k.view())?.ask((LogCount, Map))?;
/// assert!((count[[0, 0, 0]] - 10f64.ln()).abs() < 1e-12); // 5 over 3
/// assert_eq!(best.iter().copied().collect::<Vec<_>>(), [0, 1, 2]);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "L: Default"))]
pub struct MonotoneAlignment<L = AlignmentLengths> {
    /// Whether a query may stay at the key of the one before.
    #[serde(default)]
    moves: Moves,
    /// Most keys that a step passes over; any number where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skips: Option<usize>,
    /// Where it begins and ends.
    #[serde(default)]
    ends: Ends,
    #[serde(skip)]
    lengths: L,
}

/// Nodes that are there, of every batch entry of a [`MonotoneAlignment`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlignmentLengths(Ragged);

/// Steps of a [`MonotoneAlignment`] from one query's key to the next's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moves {
    /// Forward by one key at least.
    #[default]
    Forward,
    /// Forward, or none.
    ForwardOrStay,
}

/// Ends of a [`MonotoneAlignment`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ends {
    /// It begins and ends at any key.
    #[default]
    Free,
    /// The first query is at the first key, the last at the last.
    Pinned,
}

impl MonotoneAlignment {
    /// An alignment with free ends that passes over any number of keys.
    pub fn new(moves: Moves) -> Self {
        Self { moves, ..Self::default() }
    }

    /// The alignment in which a step passes over `skips` keys at most.
    pub fn with_skips(self, skips: usize) -> Self {
        Self { skips: Some(skips), ..self }
    }

    /// The alignment from the first key to the last.
    pub fn pinned(self) -> Self {
        Self { ends: Ends::Pinned, ..self }
    }

    /// The alignments of the first `queries[b]` queries with the first `keys[b]` keys of every batch entry.
    pub fn with_lengths(self, queries: &[usize], keys: &[usize]) -> Self {
        Self { lengths: AlignmentLengths(Ragged::both(queries, keys)), ..self }
    }
}

impl Part for MonotoneAlignment<Named> {
    const NAME: &'static str = "monotone-alignment";
    const MEANING: &'static str =
        "Σ_j φ_ij = 1 and k_1 < k_2 < … (with stays: ≤): picks go forward only";
    const EXAMPLE: &'static str =
        "{ monotone-alignment = { moves = \"forward-or-stay\", ends = \"pinned\" } }";
    const TENSORS: &'static [NamedTensor] = &[OF_QUERIES, OF_KEYS];
}

impl StructurePart for MonotoneAlignment<Named> {
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        let lengths = AlignmentLengths(Ragged::of_nodes(inputs)?);
        let Self { moves, skips, ends, .. } = *self;
        Ok(Box::new(MonotoneAlignment { moves, skips, ends, lengths }))
    }

    fn couples_queries(&self) -> bool {
        true
    }
}

impl<T: Real> Structure<T> for MonotoneAlignment {
    fn name(&self) -> &'static str {
        <MonotoneAlignment<Named> as Part>::NAME
    }

    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        let sets = Fold { unfold: Unfolded(self) };
        Box::new(Coupled::new(sets, Factors::Head, Vec::new(), &self.lengths.0))
    }

    fn check(&self, shape: &Shape, _value: Value) -> Result<(), Error> {
        self.lengths.0.check(shape)
    }
}

/// Recursion that an alignment unfolds to.
#[derive(Clone, Copy, Debug)]
struct Unfolded<'a>(&'a MonotoneAlignment);

impl Unfold for Unfolded<'_> {
    fn per_query(&self) -> PerQuery {
        PerQuery::One
    }

    fn unfold(&self, size: Size) -> Box<dyn Recursion> {
        let MonotoneAlignment { moves, skips, ends, .. } = *self.0;
        Box::new(Alignments { size, moves, skips, ends })
    }
}

/// Of query i and key j, cell 2 (i M + j) is every alignment up to there, and the next one every alignment
/// of the queries up to i that gets no farther than j. The last two are those of no query: of nothing, and
/// impossible.
#[derive(Debug)]
struct Alignments {
    size: Size,
    moves: Moves,
    skips: Option<usize>,
    ends: Ends,
}

impl Alignments {
    fn at(&self, query: usize, key: usize) -> usize {
        2 * (query * self.size.keys + key)
    }

    fn up_to(&self, query: usize, key: usize) -> usize {
        self.at(query, key) + 1
    }

    fn last(&self) -> usize {
        2 * self.size.queries * self.size.keys
    }
}

impl Recursion for Alignments {
    fn cells(&self) -> usize {
        self.last() + 2
    }

    fn rules(&self, cell: usize, into: &mut Vec<Rule>) {
        if cell >= self.last() {
            if cell == self.last() {
                into.push(Rule::ONE);
            }
            return;
        }
        let (query, key) = (cell / 2 / self.size.keys, cell / 2 % self.size.keys);
        if cell % 2 == 1 {
            into.push(Rule::cell(self.at(query, key)));
            if key > 0 {
                into.push(Rule::cell(self.up_to(query, key - 1)));
            }
            return;
        }
        let edge = self.size.edge(query, key);
        if query == 0 {
            if self.ends == Ends::Free || key == 0 {
                into.push(Rule::ONE.with(edge));
            }
            return;
        }
        // Keys that the query before may be at: up to this one, or to the one before it.
        let behind = match self.moves {
            Moves::Forward => key,
            Moves::ForwardOrStay => key + 1,
        };
        match self.skips {
            None if behind == 0 => {}
            None => into.push(Rule::cell(self.up_to(query - 1, behind - 1)).with(edge)),
            Some(skips) => {
                let first = key.saturating_sub(skips.saturating_add(1));
                into.extend(
                    (first..behind).map(|before| Rule::cell(self.at(query - 1, before)).with(edge)),
                );
            }
        }
    }

    fn goal(&self, queries: usize, keys: usize) -> usize {
        match (queries, keys, self.ends) {
            (0, ..) => self.last(),
            (_, 0, _) => self.last() + 1,
            (_, _, Ends::Free) => self.up_to(queries - 1, keys - 1),
            (_, _, Ends::Pinned) => self.at(queries - 1, keys - 1),
        }
    }
}
