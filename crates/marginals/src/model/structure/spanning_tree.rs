use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use super::projective_arborescence::{TreeLengths, check_nodes};
use crate::infer::Inference;
use crate::infer::coupled::{
    Coupled, EdgeSet, EdgeSets, Factors, Moments, Noise, OF_TREES, PerQuery, Ragged, Scores,
    Tangents,
};
use crate::infer::direct::graph::Graph;
use crate::infer::direct::kruskal::Undirected;
use crate::infer::direct::matrix_tree::{self, Range};
use crate::infer::direct::wilson;
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Error, Real, Shape, Value};

/// Spanning trees: undirected, φ symmetric.
///
/// Queries and keys are the same nodes, N^(N−2) trees connect them (Cayley), and edge {i, j} is
/// both (i, j) and (j, i), which it has the scores of:
///
/// ```text
/// p(φ) = Π_{i,j}∈φ e^(θ_ij + θ_ji) / Z,
/// ```
///
/// Z being any cofactor of the Laplacian of these weights (Kirchhoff 1847). It is summed as an
/// [`Arborescence`](super::Arborescence) towards the first node, as which every tree can be read in
/// one way: exact at any scale of the scores, n³ steps. The best trees are Kruskal's, ties going to
/// the edges that come first; the best with each edge swaps it for the worst on the path between
/// its ends; draws are Wilson's.
///
/// An edge is impossible where either of its scores is −∞; those of a node to itself are no part of
/// Φ. Where the graph is not connected, or there is no node, log Z is −∞, marginals are 0, and
/// there is no best tree and no draw.
///
/// In a file the lengths of a ragged batch are the tensor `lengths`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "L: Default"))]
pub struct SpanningTree<L = TreeLengths> {
    #[serde(skip)]
    lengths: L,
}

impl SpanningTree {
    /// Trees over all nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The trees over the first `lengths[b]` nodes of every batch entry.
    pub fn with_lengths(self, lengths: &[usize]) -> Self {
        Self { lengths: TreeLengths(Ragged::both(lengths, lengths)) }
    }
}

impl Part for SpanningTree<Named> {
    const NAME: &'static str = "spanning-tree";
    const MEANING: &'static str =
        "undirected trees: edge {i, j} is both (i, j) and (j, i), φ symmetric: Z is a determinant";
    const EXAMPLE: &'static str = "\"spanning-tree\"";
    const TENSORS: &'static [NamedTensor] = &[OF_TREES];
}

impl StructurePart for SpanningTree<Named> {
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        Ok(Box::new(SpanningTree { lengths: TreeLengths(Ragged::of_trees(inputs)?) }))
    }

    fn couples_queries(&self) -> bool {
        true
    }
}

impl<T: Real> Structure<T> for SpanningTree {
    fn name(&self) -> &'static str {
        <SpanningTree<Named> as Part>::NAME
    }

    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Coupled::new(self.clone(), Factors::Head, Vec::new(), &self.lengths.0))
    }

    /// Needs queries and keys that are the same nodes.
    fn check(&self, shape: &Shape, _value: Value) -> Result<(), Error> {
        check_nodes(<SpanningTree<Named> as Part>::NAME, shape)?;
        self.lengths.0.check(shape)
    }
}

/// Node that trees are read towards.
const ROOT: usize = 0;

/// Score of an edge read from one end.
fn one_way(scores: &Scores<'_>, from: usize, to: usize) -> f64 {
    if from < scores.queries && to < scores.keys {
        scores.edge(from, to)
    } else {
        f64::NEG_INFINITY
    }
}

fn nodes(scores: &Scores<'_>) -> usize {
    scores.queries.max(scores.keys)
}

fn graph(scores: &Scores<'_>) -> Graph {
    Graph::undirected(nodes(scores), ROOT, |from, to| one_way(scores, from, to))
}

/// Marginals of undirected edges from those of either direction, read from both ends.
fn marginals_both_ways(table: &[f64], scores: &Scores<'_>) -> Vec<f64> {
    let mut all = both_ways(table, scores);
    // A sum of two may be rounded to above 1.
    all.iter_mut().filter(|m| **m > 1.0).for_each(|m| *m = 1.0);
    all
}

/// Table of directed edges as one of undirected edges, read from both ends.
fn both_ways(table: &[f64], scores: &Scores<'_>) -> Vec<f64> {
    let nodes = nodes(scores);
    let mut all = vec![0.0; scores.values.len()];
    let there = nodes.min(scores.queries).min(scores.keys);
    for from in 0..there {
        for to in 0..there {
            all[from * scores.row + to] = table[from * nodes + to] + table[to * nodes + from];
        }
    }
    if table.iter().any(|entry| entry.is_nan()) {
        all.fill(f64::NAN);
    }
    all
}

/// Both numbers of every edge, in order.
fn numbers(edges: impl Iterator<Item = (usize, usize)>, row: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> =
        edges.flat_map(|(from, to)| [from * row + to, to * row + from]).collect();
    numbers.sort_unstable();
    numbers
}

impl EdgeSets for SpanningTree {
    fn per_query(&self) -> PerQuery {
        PerQuery::Several
    }

    fn moments(&self, factors: &[Scores<'_>]) -> Vec<Moments> {
        crate::parallel::map(factors.len(), &|factor| {
            let scores = &factors[factor];
            let found = matrix_tree::moments(&graph(scores), Range::Fastest);
            Moments {
                log_partition: found.log_partition,
                expected: marginals_both_ways(&found.marginals, scores),
            }
        })
    }

    fn tangents(&self, factors: &[Scores<'_>], directions: &[Vec<f64>]) -> Vec<Tangents> {
        crate::parallel::map(factors.len(), &|factor| {
            let scores = &factors[factor];
            let graph = graph(scores);
            let toward = Scores { values: &directions[factor], ..*scores };
            let mut direction = vec![0.0; graph.nodes * graph.nodes];
            for from in 0..graph.nodes {
                for to in 0..graph.nodes {
                    if graph.score(from, to) > f64::NEG_INFINITY {
                        direction[from * graph.nodes + to] =
                            one_way(&toward, from, to) + one_way(&toward, to, from);
                    }
                }
            }
            let found = matrix_tree::tangents(&graph, &direction, Range::Fastest);
            Tangents {
                moments: Moments {
                    log_partition: found.moments.log_partition,
                    expected: marginals_both_ways(&found.moments.marginals, scores),
                },
                expected: both_ways(&found.marginals, scores),
            }
        })
    }

    fn best(&self, factor: &Scores<'_>, count: usize) -> Result<Vec<EdgeSet>, Error> {
        if graph(factor).is_invalid() {
            return Ok(Vec::new());
        }
        let undirected = Undirected::new(nodes(factor), |from, to| one_way(factor, from, to));
        let set = |(score, edges): (f64, Vec<(usize, usize)>)| EdgeSet {
            score,
            edges: numbers(edges.into_iter(), factor.row),
        };
        Ok(undirected.best(count).into_iter().map(set).collect())
    }

    fn draws(&self, factor: &Scores<'_>, count: usize, noise: Noise) -> Vec<Option<Vec<usize>>> {
        let drawn = wilson::draws(&graph(factor), count, noise);
        let edges = |heads: Vec<usize>| {
            let edges = heads.into_iter().enumerate().filter(|&(node, _)| node != ROOT);
            numbers(edges, factor.row)
        };
        drawn.into_iter().map(|heads| heads.map(edges)).collect()
    }

    fn max_marginals(&self, factor: &Scores<'_>) -> Result<Vec<f64>, Error> {
        let nodes = nodes(factor);
        if graph(factor).is_invalid() {
            return Ok(vec![f64::NAN; factor.values.len()]);
        }
        let undirected = Undirected::new(nodes, |from, to| one_way(factor, from, to));
        let mut all = vec![f64::NEG_INFINITY; factor.values.len()];
        let found = undirected.max_marginals();
        for (from, row) in found.chunks_exact(nodes.max(1)).take(factor.queries).enumerate() {
            let columns = nodes.min(factor.row);
            all[from * factor.row..][..columns].copy_from_slice(&row[..columns]);
        }
        Ok(all)
    }
}
