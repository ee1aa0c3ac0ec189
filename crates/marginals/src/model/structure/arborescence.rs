use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use super::projective_arborescence::{TreeLengths, check_nodes};
use crate::infer::Inference;
use crate::infer::coupled::{
    Coupled, EdgeSet, EdgeSets, Factors, Moments, Noise, OF_TREES, PerQuery, Ragged, Scores,
    Tangents,
};
use crate::infer::direct::graph::{Graph, RootEdges};
use crate::infer::direct::matrix_tree::{self, Range};
use crate::infer::direct::{k_best, wilson};
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Error, Real, Shape, Value};

/// Directed trees towards a root, whose edges may cross: non-projective dependency attention.
///
/// Queries and keys are the same nodes. Every node but the root has one edge, to its head, and from
/// every node heads lead to the root: N^(N−2) trees if any number of edges go into the root,
/// (N−1)^(N−2) if one does.
///
/// ```text
/// p(φ) = Π_(i,j)∈φ e^θ_ij / Z,      Z = det L,      L_ii = Σ_j e^θ_ij,   L_ij = −e^θ_ij      (without the root),
/// ```
///
/// by the matrix-tree theorem (Tutte 1948; for parsing Smith & Smith, EMNLP 2007; Koo, Globerson,
/// Carreras & Collins, EMNLP 2007; McDonald & Satta, IWPT 2007). The root's own edges and those of
/// a node to itself are no part of Φ, whatever their scores. The root may have any number of edges
/// into it, or exactly one ([`RootEdges`]).
///
/// - log Z, the marginals and their derivatives are exact at any scale of the scores: an
///   elimination without subtractions (Grassmann, Taksar & Heyman 1985), n³ steps, in doubles or,
///   where those do not reach, with a wider exponent. Scores more than 2⁵⁰ below 0, as masks of
///   −10³⁸, count as this far in them, whatever they are.
/// - The best tree is Chu & Liu's and Edmonds', n² steps, with one edge into the root too (Zmigrod,
///   Vieira & Cotterell, EMNLP 2020); the k best take n runs each, max-marginals one run per edge.
///   Ties go to the smallest heads, node after node.
/// - Draws are Wilson's (STOC 1996), exact and independent.
///
/// Where there is no tree, log Z is −∞, marginals are 0, and there is no best tree and no draw.
/// That is so too where the root is not a node, and with one edge into the root where there is no
/// other node.
///
/// ```
/// use marginals::{Model, potential::Dot, prior::Uniform};
/// use marginals::question::{LogPartition, Map, Mean};
/// use marginals::structure::{Arborescence, RootEdges};
/// # use ndarray::Array4;
/// # let (q, k, v) = (Array4::<f64>::ones((1, 2, 5, 4)), Array4::<f64>::ones((1, 2, 5, 4)), Array4::<f64>::ones((1, 2, 5, 3)));
/// let model = Model::new(Arborescence::new(0, RootEdges::One), Uniform, Dot::scaled(4));
/// let posterior = model.posterior(q.view(), k.view())?;
/// let (of_heads, log_z, heads) = posterior.ask((Mean(v.view()), LogPartition, Map))?;
/// # assert!((log_z[[0, 0, 0]] - (4.0 * 2.0 + 3.0 * 4f64.ln())).abs() < 1e-12);
/// # assert_eq!((of_heads.dim(), heads[[0, 0, 0]]), ((1, 2, 5, 3), -1));
/// # Ok::<(), marginals::Error>(())
/// ```
///
/// In a file the lengths of a ragged batch are the tensor `lengths`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, bound(deserialize = "L: Default"))]
pub struct Arborescence<L = TreeLengths> {
    /// The root, a node; the first by default.
    #[serde(default)]
    root: usize,
    /// Edges into it.
    #[serde(default)]
    root_edges: RootEdges,
    #[serde(skip)]
    lengths: L,
}

impl Arborescence {
    /// Trees towards node `root`, with any number of edges into it or one.
    pub fn new(root: usize, root_edges: RootEdges) -> Self {
        Self { root, root_edges, ..Self::default() }
    }

    /// The trees over the first `lengths[b]` nodes of every batch entry, the root among them.
    pub fn with_lengths(self, lengths: &[usize]) -> Self {
        Self { lengths: TreeLengths(Ragged::both(lengths, lengths)), ..self }
    }

    fn graph(&self, scores: &Scores<'_>) -> Graph {
        let nodes = scores.queries.max(scores.keys);
        Graph::new(nodes, self.root, self.root_edges, |from, row| {
            // A node that is no query has no edge, and one that is no key has none into it.
            if from < scores.queries {
                let first = from * scores.row;
                row[..scores.keys].copy_from_slice(&scores.values[first..][..scores.keys]);
            }
        })
    }

    /// Numbers of a tree's edges, in order.
    fn edges(&self, heads: &[usize], row: usize) -> Vec<usize> {
        let dependents = (0..heads.len()).filter(|&node| node != self.root);
        dependents.map(|node| node * row + heads[node]).collect()
    }
}

/// Table of a graph's edges as one of the scores it came from; `absent` where those have no edge.
fn spread(table: Vec<f64>, nodes: usize, scores: &Scores<'_>, absent: f64) -> Vec<f64> {
    if nodes == scores.row && table.len() == scores.values.len() {
        return table;
    }
    let mut all = vec![absent; scores.values.len()];
    for (from, row) in table.chunks_exact(nodes.max(1)).enumerate().take(scores.queries) {
        all[from * scores.row..][..scores.keys].copy_from_slice(&row[..scores.keys]);
    }
    all
}

impl Part for Arborescence<Named> {
    const NAME: &'static str = "arborescence";
    const MEANING: &'static str = "directed trees: every node but `root` (0 by default) has one edge, to its head, and heads lead to \
         the root; into it go any number of edges, or one (`root-edges`): Z is a determinant";
    const EXAMPLE: &'static str = "{ arborescence = { root = 0, root-edges = \"one\" } }";
    const TENSORS: &'static [NamedTensor] = &[OF_TREES];
}

impl StructurePart for Arborescence<Named> {
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        let lengths = TreeLengths(Ragged::of_trees(inputs)?);
        Ok(Box::new(Arborescence { root: self.root, root_edges: self.root_edges, lengths }))
    }

    fn couples_queries(&self) -> bool {
        true
    }
}

impl<T: Real> Structure<T> for Arborescence {
    fn name(&self) -> &'static str {
        <Arborescence<Named> as Part>::NAME
    }

    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Coupled::new(self.clone(), Factors::Head, Vec::new(), &self.lengths.0))
    }

    /// Needs queries and keys that are the same nodes, and a root that is one.
    fn check(&self, shape: &Shape, _value: Value) -> Result<(), Error> {
        check_nodes(<Arborescence<Named> as Part>::NAME, shape)?;
        self.lengths.0.check(shape)?;
        if self.root >= shape.queries && shape.queries > 0 {
            let expected = format!("a node: at most {}", shape.queries - 1);
            return Err(Error::value("arborescence.root", expected, self.root));
        }
        Ok(())
    }
}

impl EdgeSets for Arborescence {
    fn per_query(&self) -> PerQuery {
        PerQuery::One
    }

    fn moments(&self, factors: &[Scores<'_>]) -> Vec<Moments> {
        crate::parallel::map(factors.len(), &|factor| {
            let scores = &factors[factor];
            let graph = self.graph(scores);
            let found = matrix_tree::moments(&graph, Range::Fastest);
            Moments {
                log_partition: found.log_partition,
                expected: spread(found.marginals, graph.nodes, scores, 0.0),
            }
        })
    }

    fn tangents(&self, factors: &[Scores<'_>], directions: &[Vec<f64>]) -> Vec<Tangents> {
        crate::parallel::map(factors.len(), &|factor| {
            let scores = &factors[factor];
            let graph = self.graph(scores);
            let toward = self.graph(&Scores { values: &directions[factor], ..*scores });
            let number = |&d: &f64| if d == f64::NEG_INFINITY { 0.0 } else { d };
            let toward: Vec<f64> = toward.scores.iter().map(number).collect();
            let found = matrix_tree::tangents(&graph, &toward, Range::Fastest);
            Tangents {
                moments: Moments {
                    log_partition: found.moments.log_partition,
                    expected: spread(found.moments.marginals, graph.nodes, scores, 0.0),
                },
                expected: spread(found.marginals, graph.nodes, scores, 0.0),
            }
        })
    }

    fn best(&self, factor: &Scores<'_>, count: usize) -> Result<Vec<EdgeSet>, Error> {
        let set = |tree: k_best::Scored| EdgeSet {
            score: tree.score,
            edges: self.edges(&tree.heads, factor.row),
        };
        Ok(k_best::best(&self.graph(factor), count).into_iter().map(set).collect())
    }

    fn draws(&self, factor: &Scores<'_>, count: usize, noise: Noise) -> Vec<Option<Vec<usize>>> {
        let heads = wilson::draws(&self.graph(factor), count, noise);
        heads.into_iter().map(|heads| Some(self.edges(&heads?, factor.row))).collect()
    }

    fn max_marginals(&self, factor: &Scores<'_>) -> Result<Vec<f64>, Error> {
        let graph = self.graph(factor);
        Ok(spread(k_best::max_marginals(&graph), graph.nodes, factor, f64::NEG_INFINITY))
    }
}
