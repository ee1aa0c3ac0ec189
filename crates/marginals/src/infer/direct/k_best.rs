//! Best trees by [partition](super::partition), and the best tree with each edge.
//!
//! k trees of n nodes cost k n runs of n² steps (Camerini, Fratta & Maffioli 1980 have one run's cost
//! for each; ties in order, which this keeps, are not theirs).

use std::cmp::Ordering;

use super::edmonds::{self, Tree};
use super::graph::Graph;
use super::partition::{self, Space};

/// A tree as it is given out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    /// Sum of the scores of its edges.
    pub score: f64,
    /// Head of every node; the root's is itself.
    pub heads: Vec<usize>,
}

/// Choices are the heads of dependents.
impl Space for Graph {
    type Solution = Tree;

    fn choices(&self) -> Vec<usize> {
        self.dependents().collect()
    }

    fn first(&self) -> Option<Tree> {
        edmonds::best(self)
    }

    fn compare(a: &Tree, b: &Tree) -> Ordering {
        a.compare(b)
    }

    fn decision(tree: &Tree, node: usize) -> usize {
        tree.heads[node]
    }

    fn force(&mut self, node: usize, head: usize) {
        Graph::force(self, node, head);
    }

    fn leave_out(&mut self, node: usize, head: usize) {
        self.scores[node * self.nodes + head] = f64::NEG_INFINITY;
    }
}

/// The `count` trees of highest score, best first, ties by the smallest heads; fewer where there
/// are fewer.
pub(crate) fn best(graph: &Graph, count: usize) -> Vec<Scored> {
    if graph.is_invalid() {
        return Vec::new();
    }
    let scored = |tree: Tree| Scored { score: tree.gain.score(), heads: tree.heads };
    partition::first(graph, count).into_iter().map(scored).collect()
}

/// Highest score of the trees that have each edge, [nodes, nodes]; −∞ where there is none. One run
/// of Edmonds' algorithm for each edge, n⁴ steps in all.
pub(crate) fn max_marginals(graph: &Graph) -> Vec<f64> {
    if graph.is_invalid() {
        return vec![f64::NAN; graph.nodes * graph.nodes];
    }
    let row = |node: usize| -> Vec<f64> {
        let with = |head: usize| {
            if graph.score(node, head) == f64::NEG_INFINITY {
                return f64::NEG_INFINITY;
            }
            let mut forced = graph.clone();
            forced.force(node, head);
            edmonds::best_score(&forced).unwrap_or(f64::NEG_INFINITY)
        };
        (0..graph.nodes).map(with).collect()
    };
    crate::parallel::map(graph.nodes, &row).concat()
}
