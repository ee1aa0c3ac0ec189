//! Best arborescences: Chu & Liu (1965) and Edmonds (1967).
//!
//! Every node takes its best edge. Where that closes a cycle, the cycle becomes a node whose edges
//! are worth what they add, and goes on; opened again, it loses the edge of the node whose head
//! lies outside. Tarjan ("Finding optimum branchings", Networks 7, 1977) has it in n² steps for
//! dense graphs, as here.
//!
//! **One edge into the root** is exact: what is maximised is the pair (fewest edges into the root,
//! highest score), in that order ([`Gain`]), and the algorithm needs no more of its weights than
//! that they can be added and compared (cf. McDonald & Satta 2007; Zmigrod, Vieira & Cotterell,
//! "Please mind the root", EMNLP 2020).
//!
//! **Ties** go to the smallest heads, node after node. The weights that were subtracted on the way
//! are a solution of the dual linear program, and a best tree has no edge of positive slack there;
//! for each edge without slack that would come first, the algorithm is run again with it forced,
//! and the edge stays if nothing is lost. There are few such edges but for ties and cycles.

use std::cmp::Ordering;

use super::gain::Gain;
use super::graph::{Graph, RootEdges};

/// A tree of a graph.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// Head of every node; the root's is itself.
    pub heads: Vec<usize>,
    /// Its score.
    pub gain: Gain,
}

impl Tree {
    fn new(graph: &Graph, heads: Vec<usize>) -> Self {
        let edge = |node: usize| gain(graph, node, heads[node]).unwrap_or(Gain::ZERO);
        let gain = graph.dependents().map(edge).fold(Gain::ZERO, Gain::plus);
        Self { heads, gain }
    }

    /// Best first, then smallest heads first.
    pub fn compare(&self, other: &Self) -> Ordering {
        other.gain.compare(self.gain).then_with(|| self.heads.cmp(&other.heads))
    }
}

/// Worth of an edge, where it is possible.
fn gain(graph: &Graph, from: usize, to: usize) -> Option<Gain> {
    let score = graph.score(from, to);
    let counts = graph.root_edges == RootEdges::One && to == graph.root;
    (score > f64::NEG_INFINITY).then(|| Gain::of(score, i32::from(counts)))
}

/// The tree of highest score, ties going to the smallest heads; `None` where there is no tree.
pub(super) fn best(graph: &Graph) -> Option<Tree> {
    let (mut tree, duals) = any_best(graph)?;
    let mut fixed = graph.clone();
    for node in graph.dependents() {
        let better = (0..tree.heads[node])
            .filter(|&head| duals.is_tight(graph, node, head))
            .filter(|&head| !leads_to(&tree.heads, node, head))
            .find_map(|head| {
                let mut forced = fixed.clone();
                forced.force(node, head);
                let (other, _) = any_best(&forced)?;
                (other.gain.compare(tree.gain) == Ordering::Equal).then_some(other)
            });
        if let Some(better) = better {
            tree = better;
        }
        fixed.force(node, tree.heads[node]);
    }
    Some(tree)
}

/// Highest score of a tree, ties as they come.
pub(super) fn best_score(graph: &Graph) -> Option<f64> {
    any_best(graph).map(|(tree, _)| tree.gain.score())
}

/// Whether heads that are settled, those of nodes before `node`, lead from `at` to it.
fn leads_to(heads: &[usize], node: usize, mut at: usize) -> bool {
    while at < node && heads[at] != at {
        at = heads[at];
    }
    at == node
}

/// An edge and what it adds.
#[derive(Clone, Copy)]
struct Edge {
    gain: Gain,
    from: usize,
}

/// Nodes and contracted cycles, the dual solution: each has what its best edge added.
struct Duals {
    /// Gain of the best edge of each.
    gains: Vec<Gain>,
    /// The cycle each has been contracted into.
    parents: Vec<Option<usize>>,
}

impl Duals {
    /// Whether an edge has no slack: what it is worth is what was subtracted from it, that of all
    /// cycles and nodes which it leaves.
    fn is_tight(&self, graph: &Graph, from: usize, to: usize) -> bool {
        let Some(mut rest) = gain(graph, from, to) else {
            return false;
        };
        let around = |at: &usize| self.parents[*at];
        let mut leaving = Some(from);
        while let Some(set) = leaving {
            if std::iter::successors(Some(to), around).any(|other| other == set) {
                break;
            }
            rest = rest.minus(self.gains[set]);
            leaving = self.parents[set];
        }
        rest.compare(Gain::ZERO) == Ordering::Equal
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Status {
    New,
    OnPath,
    Done,
}

/// A tree of highest score.
fn any_best(graph: &Graph) -> Option<(Tree, Duals)> {
    let nodes = graph.nodes;
    if graph.trivial().is_some_and(|trivial| trivial == super::graph::Trivial::None) {
        return None;
    }
    // Best edge of a node or cycle to every node.
    let edge = |from, to| gain(graph, from, to).map(|gain| Edge { gain, from });
    let mut edges: Vec<Vec<Option<Edge>>> =
        (0..nodes).map(|from| (0..nodes).map(|to| edge(from, to)).collect()).collect();
    // The cycle that each node is in now, itself if none.
    let mut top: Vec<usize> = (0..nodes).collect();
    let mut status = vec![Status::New; nodes];
    status[graph.root] = Status::Done;
    let mut chosen: Vec<Option<(usize, usize)>> = vec![None; nodes];
    let mut duals = Duals { gains: vec![Gain::ZERO; nodes], parents: vec![None; nodes] };

    for start in 0..nodes {
        if status[top[start]] != Status::New {
            continue;
        }
        let mut path = vec![top[start]];
        status[top[start]] = Status::OnPath;
        while let Some(&at) = path.last() {
            let mut best: Option<(Edge, usize)> = None;
            for (to, edge) in edges[at].iter().enumerate() {
                if let Some(edge) = edge
                    && top[to] != at
                    && best.is_none_or(|(best, _)| edge.gain.is_above(best.gain))
                {
                    best = Some((*edge, to));
                }
            }
            let (edge, to) = best?;
            chosen[at] = Some((edge.from, to));
            duals.gains[at] = edge.gain;
            for other in edges[at].iter_mut().flatten() {
                other.gain = other.gain.minus(edge.gain);
            }
            let next = top[to];
            match status[next] {
                Status::Done => break,
                Status::New => {
                    status[next] = Status::OnPath;
                    path.push(next);
                }
                Status::OnPath => {
                    let begin = path.iter().position(|&member| member == next)?;
                    let cycle = duals.parents.len();
                    let mut merged: Vec<Option<Edge>> = vec![None; nodes];
                    for member in path.drain(begin..) {
                        duals.parents[member] = Some(cycle);
                        for (best, edge) in
                            merged.iter_mut().zip(std::mem::take(&mut edges[member]))
                        {
                            if let Some(edge) = edge
                                && best.is_none_or(|best| edge.gain.is_above(best.gain))
                            {
                                *best = Some(edge);
                            }
                        }
                    }
                    for top in &mut top {
                        if duals.parents[*top] == Some(cycle) {
                            *top = cycle;
                        }
                    }
                    edges.push(merged);
                    chosen.push(None);
                    duals.gains.push(Gain::ZERO);
                    duals.parents.push(None);
                    status.push(Status::OnPath);
                    path.push(cycle);
                }
            }
        }
        for member in path {
            status[member] = Status::Done;
        }
    }
    // Open the cycles, latest first: the member whose edge leaves it takes that in place of its
    // own.
    for cycle in (nodes..chosen.len()).rev() {
        let (from, to) = chosen[cycle]?;
        let mut member = from;
        while duals.parents[member] != Some(cycle) {
            member = duals.parents[member]?;
        }
        chosen[member] = Some((from, to));
    }
    let mut heads = vec![graph.root; nodes];
    for node in graph.dependents() {
        heads[node] = chosen[node]?.1;
    }
    let tree = Tree::new(graph, heads);
    (graph.root_edges == RootEdges::Any || tree.gain.root_edges() == 1).then_some((tree, duals))
}
