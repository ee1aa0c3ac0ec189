//! Best trees by partition, and the best tree with each edge.
//!
//! The trees other than a best one fall into classes: those that differ from it first at the head
//! of node 1, of node 2, and so on (Lawler, "A procedure for computing the K best solutions to
//! discrete optimization problems", Management Science 18, 1972). The best of each class is found
//! by the same algorithm with edges forced and left out, and the best of all classes comes next. k
//! trees of n nodes cost k n runs of n² steps (Camerini, Fratta & Maffioli 1980 have one run's cost
//! for each; ties in order, which this keeps, are not theirs).

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::edmonds::{self, Tree};
use super::graph::Graph;

/// A tree as it is given out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    /// Sum of the scores of its edges.
    pub score: f64,
    /// Head of every node; the root's is itself.
    pub heads: Vec<usize>,
}

/// The best trees of a class, by its best one.
struct Class {
    best: Tree,
    /// Dependents, in order, whose heads are those of the best tree.
    fixed: usize,
    /// Heads that the next one does not have.
    without: Vec<usize>,
}

impl PartialEq for Class {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Class {}
impl PartialOrd for Class {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Class {
    fn cmp(&self, other: &Self) -> Ordering {
        self.best.compare(&other.best).reverse()
    }
}

/// The `count` trees of highest score, best first, ties by the smallest heads; fewer where there
/// are fewer.
pub(crate) fn best(graph: &Graph, count: usize) -> Vec<Scored> {
    let mut found = Vec::new();
    if graph.is_invalid() {
        return found;
    }
    let dependents: Vec<usize> = graph.dependents().collect();
    let mut classes = BinaryHeap::new();
    if count > 0
        && let Some(best) = edmonds::best(graph)
    {
        classes.push(Class { best, fixed: 0, without: Vec::new() });
    }
    while let Some(Class { best, fixed, without }) = classes.pop() {
        found.push(Scored { score: best.gain.score(), heads: best.heads.clone() });
        if found.len() == count {
            break;
        }
        let mut rest = graph.clone();
        for &node in &dependents[..fixed] {
            rest.force(node, best.heads[node]);
        }
        let mut without = without;
        for (place, &node) in dependents.iter().enumerate().skip(fixed) {
            without.push(best.heads[node]);
            let mut class = rest.clone();
            for &head in &without {
                class.scores[node * graph.nodes + head] = f64::NEG_INFINITY;
            }
            if let Some(other) = edmonds::best(&class) {
                classes.push(Class { best: other, fixed: place, without: without.clone() });
            }
            rest.force(node, best.heads[node]);
            without.clear();
        }
    }
    found
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
