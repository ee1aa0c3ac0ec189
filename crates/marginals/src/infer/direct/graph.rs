//! Graphs whose spanning trees are summed over.

use serde::{Deserialize, Serialize};

use super::gain::two_sum;

/// Nodes that may hang from the root of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootEdges {
    /// Any number.
    #[default]
    Any,
    /// Exactly one: a sentence has one main word.
    One,
}

/// Directed graph with a root, towards which its trees point: every other node has one edge, to its
/// head.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    /// Number of nodes.
    pub nodes: usize,
    /// The root. Where there is no such node there is no tree.
    pub root: usize,
    /// Number of edges into the root.
    pub root_edges: RootEdges,
    /// Score of every edge, [nodes, nodes]: −∞ in the root's row and on the diagonal.
    pub scores: Vec<f64>,
    /// Rounding errors of scores that are sums; empty where they are not.
    pub rests: Vec<f64>,
}

impl Graph {
    /// The graph whose edges have these scores, written row by row over −∞; those of the root and
    /// of a node to itself are left out.
    pub fn new(
        nodes: usize,
        root: usize,
        root_edges: RootEdges,
        write: impl Fn(usize, &mut [f64]),
    ) -> Self {
        let mut scores = vec![f64::NEG_INFINITY; nodes * nodes];
        for (from, row) in scores.chunks_exact_mut(nodes.max(1)).enumerate() {
            if from != root {
                write(from, row);
                row[from] = f64::NEG_INFINITY;
            }
        }
        Self { nodes, root, root_edges, scores, rests: Vec::new() }
    }

    /// The graph whose edges have two scores each, that of either direction: trees without
    /// directions, which read as trees towards any root.
    pub fn undirected(nodes: usize, root: usize, score: impl Fn(usize, usize) -> f64) -> Self {
        let sum = |from, to| two_sum(score(from, to), score(to, from));
        let mut graph = Self::new(nodes, root, RootEdges::Any, |from, row| {
            row.iter_mut().enumerate().for_each(|(to, entry)| *entry = sum(from, to).0);
        });
        let edges = graph.scores.iter().enumerate();
        let rest = |(edge, score): (usize, &f64)| {
            if score.is_finite() { sum(edge / nodes, edge % nodes).1 } else { 0.0 }
        };
        graph.rests = edges.map(rest).collect();
        graph
    }

    /// Score of an edge.
    #[inline(always)]
    pub fn score(&self, from: usize, to: usize) -> f64 {
        self.scores[from * self.nodes + to]
    }

    /// Scores of a node's edges.
    pub fn row(&self, from: usize) -> &[f64] {
        &self.scores[from * self.nodes..][..self.nodes]
    }

    /// Nodes that have a head: all but the root.
    pub fn dependents(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes).filter(|&node| node != self.root)
    }

    /// Whether a score is not a number, or is +∞.
    pub fn is_invalid(&self) -> bool {
        self.scores.iter().any(|score| score.is_nan() || *score == f64::INFINITY)
    }

    /// The number of trees is 1 with nothing to choose, 0, or left to be found out.
    pub fn trivial(&self) -> Option<Trivial> {
        if self.root >= self.nodes || (self.nodes == 1 && self.root_edges == RootEdges::One) {
            Some(Trivial::None)
        } else if self.nodes == 1 {
            Some(Trivial::Empty)
        } else {
            None
        }
    }

    /// The graph in which this edge is the only one of its node.
    pub fn force(&mut self, from: usize, to: usize) {
        let score = self.score(from, to);
        self.scores[from * self.nodes..][..self.nodes].fill(f64::NEG_INFINITY);
        self.scores[from * self.nodes + to] = score;
    }

    /// A node that all others but the root reach without passing it, if there is one: where there
    /// are trees with one edge into the root, one of its children is.
    ///
    /// Going backwards along edges, a search from the last node at which one had to be begun
    /// reaches everything if any does.
    pub fn reached_by_all(&self) -> usize {
        let mut seen = vec![false; self.nodes];
        if self.root < self.nodes {
            seen[self.root] = true;
        }
        let (mut last, mut open) = (0, Vec::new());
        for start in 0..self.nodes {
            if seen[start] {
                continue;
            }
            (last, seen[start]) = (start, true);
            open.push(start);
            while let Some(head) = open.pop() {
                for (from, seen) in seen.iter_mut().enumerate() {
                    if !*seen && self.score(from, head) > f64::NEG_INFINITY {
                        *seen = true;
                        open.push(from);
                    }
                }
            }
        }
        last
    }
}

/// Graphs with nothing to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trivial {
    /// There is no tree.
    None,
    /// The tree without an edge is the only one.
    Empty,
}
