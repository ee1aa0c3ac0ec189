//! Best spanning trees of undirected graphs.
//!
//! Edges are taken from the best down, each unless it closes a cycle (Kruskal 1956): with equal
//! ones in order of their numbers, the tree found is the best whose edges come first. More than one
//! tree comes by partition (Lawler 1972; Gabow 1977), and the best tree with an edge is the best
//! tree with it in place of the worst edge on the path between its ends.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::gain::Gain;

/// An undirected graph.
pub(crate) struct Undirected {
    nodes: usize,
    /// Possible edges {from < to}, best first, then by their ends.
    edges: Vec<Edge>,
}

/// An edge and its worth.
#[derive(Clone, Copy)]
struct Edge {
    ends: (usize, usize),
    gain: Gain,
}

/// A spanning tree.
#[derive(Clone)]
struct Tree {
    /// Its edges, in order of their ends.
    edges: Vec<(usize, usize)>,
    gain: Gain,
}

impl Tree {
    fn compare(&self, other: &Self) -> Ordering {
        other.gain.compare(self.gain).then_with(|| self.edges.cmp(&other.edges))
    }
}

/// The best trees that have some edges and lack others, by the best one.
struct Class {
    best: Tree,
    with: Vec<(usize, usize)>,
    without: Vec<(usize, usize)>,
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

/// Spanning tree as it is given out: its score, and its edges {from < to}.
pub(crate) type Scored = (f64, Vec<(usize, usize)>);

impl Undirected {
    /// The graph whose edges have the sum of two scores, that of either direction.
    pub fn new(nodes: usize, score: impl Fn(usize, usize) -> f64) -> Self {
        let mut edges = Vec::new();
        for from in 0..nodes {
            for to in from + 1..nodes {
                let (there, back) = (score(from, to), score(to, from));
                if there > f64::NEG_INFINITY && back > f64::NEG_INFINITY {
                    let gain = Gain::of(there, 0).plus(Gain::of(back, 0));
                    edges.push(Edge { ends: (from, to), gain });
                }
            }
        }
        // Stable: edges are in order of their ends already.
        edges.sort_by(|a, b| b.gain.compare(a.gain));
        Self { nodes, edges }
    }

    /// The best tree with and without these edges.
    fn best_of(&self, with: &[(usize, usize)], without: &[(usize, usize)]) -> Option<Tree> {
        if self.nodes == 0 {
            return None;
        }
        let mut sets = Sets((0..self.nodes).collect());
        let mut edges = with.to_vec();
        for &(from, to) in with {
            sets.join(from, to);
        }
        for edge in &self.edges {
            let (from, to) = edge.ends;
            if !without.contains(&edge.ends) && sets.join(from, to) {
                edges.push(edge.ends);
            }
        }
        if edges.len() + 1 < self.nodes {
            return None;
        }
        edges.sort_unstable();
        let mut gain = Gain::ZERO;
        let mut worth: Vec<_> =
            self.edges.iter().filter(|edge| edges.binary_search(&edge.ends).is_ok()).collect();
        worth.sort_unstable_by_key(|edge| edge.ends);
        for edge in worth {
            gain = gain.plus(edge.gain);
        }
        Some(Tree { edges, gain })
    }

    /// The `count` trees of highest score, best first, ties by the edges that come first.
    pub fn best(&self, count: usize) -> Vec<Scored> {
        let mut found = Vec::new();
        let mut classes = BinaryHeap::new();
        if count > 0
            && let Some(best) = self.best_of(&[], &[])
        {
            classes.push(Class { best, with: Vec::new(), without: Vec::new() });
        }
        while let Some(Class { best, mut with, without }) = classes.pop() {
            found.push((best.gain.score(), best.edges.clone()));
            if found.len() == count {
                break;
            }
            for edge in best.edges {
                if with.contains(&edge) {
                    continue;
                }
                let mut without = without.clone();
                without.push(edge);
                if let Some(best) = self.best_of(&with, &without) {
                    classes.push(Class { best, with: with.clone(), without });
                }
                with.push(edge);
            }
        }
        found
    }

    /// Highest score of the trees that have each edge, [nodes, nodes]; −∞ where there is none.
    pub fn max_marginals(&self) -> Vec<f64> {
        let mut scores = vec![f64::NEG_INFINITY; self.nodes * self.nodes];
        let Some(tree) = self.best_of(&[], &[]) else {
            return scores;
        };
        let mut beside: Vec<Vec<(usize, Gain)>> = vec![Vec::new(); self.nodes];
        for edge in &self.edges {
            if tree.edges.binary_search(&edge.ends).is_ok() {
                beside[edge.ends.0].push((edge.ends.1, edge.gain));
                beside[edge.ends.1].push((edge.ends.0, edge.gain));
            }
        }
        // Worst edge on the path between two nodes.
        let mut worst = vec![None; self.nodes * self.nodes];
        for start in 0..self.nodes {
            let mut open = vec![(start, usize::MAX)];
            while let Some((at, before)) = open.pop() {
                let so_far: Option<Gain> = worst[start * self.nodes + at];
                for &(next, gain) in beside[at].iter().filter(|(next, _)| *next != before) {
                    let least = so_far.filter(|so_far| !so_far.is_above(gain)).unwrap_or(gain);
                    worst[start * self.nodes + next] = Some(least);
                    open.push((next, at));
                }
            }
        }
        for edge in &self.edges {
            let (from, to) = edge.ends;
            if let Some(worst) = worst[from * self.nodes + to] {
                let score = tree.gain.minus(worst).plus(edge.gain).score();
                scores[from * self.nodes + to] = score;
                scores[to * self.nodes + from] = score;
            }
        }
        scores
    }
}

/// Disjoint sets of nodes.
struct Sets(Vec<usize>);

impl Sets {
    fn find(&mut self, node: usize) -> usize {
        let mut at = node;
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    /// Joins the sets of two nodes; false where they are one already.
    fn join(&mut self, a: usize, b: usize) -> bool {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a] = b;
        a != b
    }
}
