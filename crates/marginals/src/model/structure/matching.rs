use ndarray::Array3;
use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use crate::infer::Inference;
use crate::infer::coupled::Lengths;
use crate::infer::coupled::{
    Coupled, EdgeSet, EdgeSets, Factors, Moments, Noise, OF_KEYS, OF_QUERIES, PerQuery, Ragged,
    Scores, Tangents,
};
use crate::infer::direct::assignment::{Assignment, Pairs};
use crate::infer::entropic::{Margins, ROUNDING};
use crate::infer::fold::{Fold, Recursion, Rule, Size, Unfold};
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Error, Real, Shape, Value, check_room};

/// Nodes of the smaller side up to which all matchings are summed over.
const MOST: usize = 12;

/// One edge per query and per key: every query has one, and no key has two. Where there are more queries
/// than keys, every key has one, and no query has two.
///
/// ```text
/// p(φ) = Π_(i,j)∈φ e^θ_ij / Z,      Z = Σ_σ Π_i e^θ_iσ(i)      over the injections σ of queries into keys,
/// ```
///
/// the permanent of e^θ where there are as many queries as keys (Valiant, *Theoretical Computer Science* 8, 1979:
/// there is no fast algorithm for it). Sums are over the subsets of the smaller side that have an edge,
/// node of the larger side after node; unlike inclusion and exclusion this subtracts nothing, so that
/// it is exact at any scale of the scores. With n nodes of the smaller side and m of the larger, that
/// is (m − n + 1) 2ⁿ cells of n rules, and **n is at most 12**.
///
/// The most probable matching, the k best and the max-marginals are searched for by shortest augmenting
/// paths, in n² m steps a search: [`Map`](crate::question::Map) and
/// [`MaxMarginals`](crate::question::MaxMarginals) are found at any size. Ties go to the smallest key of the
/// first query, then of the second, and so on.
///
/// Sums over more are approximated by optimal transport: [`Entropic`](crate::infer::Entropic), chosen in place
/// of the exact inference by [`by`](crate::Posterior::by).
///
/// Where no matching is possible, log Z is −∞, marginals are 0, and MAP and samples are −1. Of no query, or
/// no key, the matching without an edge is the only one.
///
/// ```
/// use marginals::{Model, potential::Dot, prior::Uniform};
/// use marginals::question::{LogCount, Map, Mean};
/// use marginals::structure::Matching;
/// # use ndarray::Array4;
/// # let (q, k, v) = (Array4::<f64>::zeros((1, 1, 3, 4)), Array4::<f64>::zeros((1, 1, 5, 4)), Array4::<f64>::ones((1, 1, 5, 2)));
/// let model = Model::new(Matching::new(), Uniform, Dot::scaled(4));
/// let posterior = model.posterior(q.view(), k.view())?;
/// let (mean, count, best) = posterior.ask((Mean(v.view()), LogCount, Map))?;
/// assert!((count[[0, 0, 0]] - 60f64.ln()).abs() < 1e-12); // 5 · 4 · 3
/// assert_eq!(best.iter().copied().collect::<Vec<_>>(), [0, 1, 2]);
/// # assert!((mean[[0, 0, 2, 1]] - 1.0).abs() < 1e-12);
/// # Ok::<(), marginals::Error>(())
/// ```
///
/// In a file the lengths of a ragged batch are the tensors `lengths` and `key-lengths`.
/// Nodes may have other masses than 1, as `query-mass` [B, H, N] and `key-mass` [B, H, M], and less than all
/// that can be may be matched, `mass` in all. Edges are then plans that move mass, and `entropic` alone
/// answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "L: Default"))]
pub struct Matching<L = MatchingNodes> {
    /// Total mass that is matched; absent, all that can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mass: Option<f64>,
    #[serde(skip)]
    nodes: L,
}

/// Nodes that are there, of every batch entry of a [`Matching`], and their masses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MatchingNodes {
    lengths: Ragged,
    query_mass: Option<Array3<f64>>,
    key_mass: Option<Array3<f64>>,
}

const QUERY_MASS: &str = "query-mass";
const KEY_MASS: &str = "key-mass";

impl Matching {
    /// The matchings of all queries and keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// The matchings of the first `queries[b]` queries with the first `keys[b]` keys of every batch entry.
    pub fn with_lengths(self, queries: &[usize], keys: &[usize]) -> Self {
        let lengths = Ragged::both(queries, keys);
        Self { nodes: MatchingNodes { lengths, ..self.nodes }, ..self }
    }

    /// The transport between nodes of these masses, [B, H, N] and [B, H, M], whose leading axes may be 1.
    pub fn with_masses(self, queries: Array3<f64>, keys: Array3<f64>) -> Self {
        let (query_mass, key_mass) = (Some(queries), Some(keys));
        Self { nodes: MatchingNodes { query_mass, key_mass, ..self.nodes }, ..self }
    }

    /// The transport of `mass` in all, in each head.
    pub fn with_mass(self, mass: f64) -> Self {
        Self { mass: Some(mass), ..self }
    }

    /// Whether edge sets are matchings of whole nodes.
    fn is_whole(&self) -> bool {
        let MatchingNodes { query_mass, key_mass, .. } = &self.nodes;
        self.mass.is_none() && query_mass.is_none() && key_mass.is_none()
    }

    /// Masses of the nodes of a head: those given, or 1 of every node that is there.
    fn side(
        given: Option<&Array3<f64>>,
        (batch, head): (usize, usize),
        (nodes, there): (usize, usize),
    ) -> Vec<f64> {
        let place =
            |all: &Array3<f64>, axis: usize, index| if all.shape()[axis] == 1 { 0 } else { index };
        let mass = |node: usize| match given {
            _ if node >= there => 0.0,
            None => 1.0,
            Some(all) => all[[place(all, 0, batch), place(all, 1, head), node]],
        };
        (0..nodes).map(mass).collect()
    }

    fn margins(&self, shape: &Shape, lengths: &dyn Fn(usize) -> Lengths) -> Margins {
        let MatchingNodes { query_mass, key_mass, .. } = &self.nodes;
        let (mut queries, mut keys, mut total) = (Vec::new(), Vec::new(), Vec::new());
        for head in shape.all_heads() {
            let there = lengths(head.0);
            let own = Self::side(query_mass.as_ref(), head, (shape.queries, there.queries));
            let others = Self::side(key_mass.as_ref(), head, (shape.keys, there.keys));
            let all = own.iter().sum::<f64>().min(others.iter().sum());
            total.push(self.mass.unwrap_or(all));
            queries.extend(own);
            keys.extend(others);
        }
        Margins { queries, keys, total, is_matching: self.is_whole() }
    }

    /// Refuses masses of other nodes than there are, and such as are none.
    fn check_masses(&self, shape: &Shape) -> Result<(), Error> {
        let MatchingNodes { query_mass, key_mass, lengths } = &self.nodes;
        for (name, masses, nodes) in
            [(QUERY_MASS, query_mass, shape.queries), (KEY_MASS, key_mass, shape.keys)]
        {
            let Some(masses) = masses else { continue };
            let (b, h) = (shape.batch, shape.heads);
            let fits = |own: usize, all: usize| own == 1 || own == all;
            if !fits(masses.dim().0, b) || !fits(masses.dim().1, h) || masses.dim().2 != nodes {
                return Err(Error::shape(
                    name,
                    format!(
                        "[{nodes}], with leading axes of 1 or {b} batch entries and 1 or {h} heads"
                    ),
                    masses.shape(),
                    "Axes are aligned from the last.",
                ));
            }
            if let Some(x) = masses.iter().find(|x| !(x.is_finite() && **x >= 0.0)) {
                return Err(Error::value(name, "finite masses of at least 0", x));
            }
        }
        let Some(mass) = self.mass else { return Ok(()) };
        let whole = Lengths { queries: shape.queries, keys: shape.keys };
        let most = Self { mass: None, ..self.clone() };
        let most = most.margins(shape, &|batch| lengths.of(batch, whole)).total;
        let most = most.into_iter().fold(f64::INFINITY, f64::min);
        match mass >= 0.0 && mass <= most * (1.0 + ROUNDING) {
            true => Ok(()),
            false => {
                let expected =
                    format!("at least 0 and at most {most}, the mass that can be matched");
                Err(Error::value("matching.mass", expected, mass))
            }
        }
    }
}

impl Part for Matching<Named> {
    const NAME: &'static str = "matching";
    const MEANING: &'static str = "Σ_j φ_ij = 1 and Σ_i φ_ij ≤ 1 (with more queries than keys the other way round): one edge per \
         query and key; Z is a permanent, up to 12 nodes of the smaller side";
    const EXAMPLE: &'static str = "\"matching\"";
    const TENSORS: &'static [NamedTensor] = &[
        OF_QUERIES,
        OF_KEYS,
        NamedTensor::real(QUERY_MASS, "[B, H, N]", "masses of the queries; leading axes may be 1")
            .only("if present"),
        NamedTensor::real(KEY_MASS, "[B, H, M]", "masses of the keys; leading axes may be 1")
            .only("if present"),
    ];
}

impl StructurePart for Matching<Named> {
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        let masses = |name| inputs.has(name).then(|| inputs.array(name)).transpose();
        let nodes = MatchingNodes {
            lengths: Ragged::of_nodes(inputs)?,
            query_mass: masses(QUERY_MASS)?,
            key_mass: masses(KEY_MASS)?,
        };
        Ok(Box::new(Matching { mass: self.mass, nodes }))
    }

    fn couples_queries(&self) -> bool {
        true
    }
}

impl<T: Real> Structure<T> for Matching {
    fn name(&self) -> &'static str {
        <Matching<Named> as Part>::NAME
    }

    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Coupled::new(Permanents(self), Factors::Head, Vec::new(), &self.nodes.lengths))
    }

    fn check(&self, shape: &Shape, _value: Value) -> Result<(), Error> {
        self.nodes.lengths.check(shape)?;
        self.check_masses(shape)
    }
}

/// Matchings of a factor.
#[derive(Clone, Copy, Debug)]
struct Permanents<'a>(&'a Matching);

/// Sums over matchings, by a recursion.
const SUMS: Fold<Matchings> = Fold { unfold: Matchings };

impl Permanents<'_> {
    /// Refuses masses, of which there are no matchings.
    fn require_whole(&self) -> Result<(), Error> {
        if self.0.is_whole() {
            return Ok(());
        }
        Err(Error::value(
            "matching",
            format!(
                "nodes that are matched whole: of `{QUERY_MASS}`, `{KEY_MASS}` and `mass` there is a plan, and no \
                 matching. Take `inference = {{ entropic = {{}} }}`"
            ),
            "of nodes that have masses",
        ))
    }

    /// Results of `of` on factors of equal sizes together, in the order of the factors.
    fn by_size<R>(
        factors: &[Scores<'_>],
        of: impl Fn(&[Scores<'_>], &[usize]) -> Vec<R>,
    ) -> Vec<R> {
        let size = |factor: usize| (factors[factor].queries, factors[factor].keys);
        let mut order: Vec<usize> = (0..factors.len()).collect();
        order.sort_by_key(|&factor| size(factor));
        let mut results: Vec<Option<R>> = factors.iter().map(|_| None).collect();
        for group in order.chunk_by(|&a, &b| size(a) == size(b)) {
            let own: Vec<Scores<'_>> = group.iter().map(|&factor| factors[factor]).collect();
            for (&factor, result) in group.iter().zip(of(&own, group)) {
                results[factor] = Some(result);
            }
        }
        results.into_iter().map(|result| result.expect("every factor is of one size")).collect()
    }
}

impl EdgeSets for Permanents<'_> {
    fn per_query(&self) -> PerQuery {
        PerQuery::One
    }

    fn moments(&self, factors: &[Scores<'_>]) -> Vec<Moments> {
        Self::by_size(factors, |own, _| SUMS.moments(own))
    }

    fn tangents(&self, factors: &[Scores<'_>], directions: &[Vec<f64>]) -> Vec<Tangents> {
        Self::by_size(factors, |own, group| {
            let directions: Vec<_> = group.iter().map(|&f| directions[f].clone()).collect();
            SUMS.tangents(own, &directions)
        })
    }

    fn best(&self, factor: &Scores<'_>, count: usize) -> Result<Vec<EdgeSet>, Error> {
        self.require_whole()?;
        let pairs = Pairs::new(factor);
        let set = |best: Assignment| {
            let edges = best.of.iter().enumerate().map(|(a, &b)| pairs.edge(a, b, factor.row));
            let mut edges: Vec<usize> = edges.collect();
            edges.sort_unstable();
            EdgeSet { score: best.score, edges }
        };
        Ok(pairs.best(count).into_iter().map(set).collect())
    }

    fn draws(&self, factor: &Scores<'_>, count: usize, noise: Noise) -> Vec<Option<Vec<usize>>> {
        SUMS.draws(factor, count, noise)
    }

    fn max_marginals(&self, factor: &Scores<'_>) -> Result<Vec<f64>, Error> {
        self.require_whole()?;
        let pairs = Pairs::new(factor);
        if pairs.is_invalid() {
            return Ok(vec![f64::NAN; factor.values.len()]);
        }
        let mut all = vec![f64::NEG_INFINITY; factor.values.len()];
        if let Some(best) = pairs.best(1).first() {
            for (pair, score) in best.with_each_pair(&pairs).into_iter().enumerate() {
                let (a, b) = (pair / pairs.large, pair % pairs.large);
                all[pairs.edge(a, b, factor.row)] = score;
            }
        }
        Ok(all)
    }

    fn check_sums(&self, queries: usize, keys: usize) -> Result<(), Error> {
        self.require_whole()?;
        let (small, large) = (queries.min(keys), queries.max(keys));
        if small > MOST {
            return Err(Error::value(
                "matching",
                format!(
                    "at most {MOST} queries or {MOST} keys to sum over all matchings. Take `inference = {{ \
                     entropic = {{}} }}`, which approximates the sums at any size; `map` and `max-marginals` are \
                     exact at any size too"
                ),
                format!("over {queries} queries and {keys} keys"),
            ));
        }
        // A cell has a lane of eight for its log-partition, for its use, and for the derivatives of both.
        check_room("matching", &[large - small + 1, 1 << small], 4 * 8 * size_of::<f64>())
    }

    fn margins(&self, shape: &Shape, lengths: &dyn Fn(usize) -> Lengths) -> Option<Margins> {
        Some(self.0.margins(shape, lengths))
    }
}

/// Maker of the recursion over matchings.
#[derive(Clone, Copy, Debug)]
struct Matchings;

impl Unfold for Matchings {
    fn per_query(&self) -> PerQuery {
        PerQuery::One
    }

    fn unfold(&self, size: Size) -> Box<dyn Recursion> {
        Box::new(Subsets { size })
    }
}

/// Cell e 2ⁿ + S is every matching of the nodes in S, a subset of the smaller side, with the first
/// |S| + e nodes of the larger, of which e have none.
#[derive(Debug)]
struct Subsets {
    size: Size,
}

impl Subsets {
    fn small(&self) -> usize {
        self.size.queries.min(self.size.keys)
    }

    fn edge(&self, small: usize, large: usize) -> usize {
        match self.size.queries <= self.size.keys {
            true => self.size.edge(small, large),
            false => self.size.edge(large, small),
        }
    }
}

impl Recursion for Subsets {
    fn cells(&self) -> usize {
        (self.size.queries.abs_diff(self.size.keys) + 1) << self.small()
    }

    fn rules(&self, cell: usize, into: &mut Vec<Rule>) {
        let count = 1 << self.small();
        let (without, subset) = (cell / count, cell % count);
        if cell == 0 {
            into.push(Rule::ONE);
            return;
        }
        if without > 0 {
            // The last node of the larger side has no edge.
            into.push(Rule::cell(cell - count));
        }
        let mut left = subset;
        while left > 0 {
            let node = left.trailing_zeros() as usize;
            left &= left - 1;
            let last = subset.count_ones() as usize + without - 1;
            into.push(Rule::cell(cell - (1 << node)).with(self.edge(node, last)));
        }
    }

    /// Factors of one size are summed over together.
    fn goal(&self, queries: usize, keys: usize) -> usize {
        debug_assert_eq!((queries, keys), (self.size.queries, self.size.keys));
        self.cells() - 1
    }
}
