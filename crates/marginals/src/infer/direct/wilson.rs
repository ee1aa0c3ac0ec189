//! Exact draws of trees: Wilson's algorithm.
//!
//! From each node in turn a random walk follows edges in proportion to their weights until it meets
//! the tree drawn so far, and joins it by its path without loops (Wilson, "Generating random
//! spanning trees more quickly than the cover time", STOC 1996). With one edge into the root, its
//! child is drawn first, from the marginals, and is then the root of the others.
//!
//! A walk may go round a cycle practically for ever, as in one whose weights are e^10000 times
//! those of all ways out. How long the walks of a tree are is independent of the tree: they are its
//! n − 1 edges and cycles, and the cycles that are popped and the tree that remains are independent
//! of each other (Propp & Wilson, "How to get a perfectly random sample from a generic Markov
//! chain", J. Algorithms 27, 1998). So to give up after some number of steps takes nothing from the
//! distribution, provided that all of the tree is drawn anew: head after head, each from its
//! marginals given those before. Draws that agree so far share the work.

use super::graph::{Graph, RootEdges, Trivial};
use super::matrix_tree::{self, Range};
use crate::infer::coupled::contract::Noise;

/// Steps of walks per node until they are given up.
const PATIENCE: usize = 1000;

/// Number of the uniform that draws the root's child.
const OF_CHILD: usize = u32::MAX as usize;

/// Number, less the node, of the uniforms that draw heads one by one: behind those of the walks,
/// which are few.
const OF_HEADS: usize = 1 << 31;

/// Below this a marginal is rounding error.
const NOTHING: f64 = 1e-14;

/// Heads of independent draws, the root's being itself; `None` where there is no tree.
pub(crate) fn draws(graph: &Graph, count: usize, noise: Noise) -> Vec<Option<Vec<usize>>> {
    match graph.trivial() {
        Some(Trivial::None) => return vec![None; count],
        Some(Trivial::Empty) => return vec![Some(vec![graph.root]); count],
        None => {}
    }
    let moments = matrix_tree::moments(graph, Range::Fastest);
    if moments.log_partition.is_nan() || moments.log_partition == f64::NEG_INFINITY {
        return vec![None; count];
    }
    let nodes = graph.nodes;
    let children = match graph.root_edges {
        RootEdges::Any => None,
        RootEdges::One => {
            let into_root = (0..nodes).map(|node| moments.marginals[node * nodes + graph.root]);
            Some(Cumulative::new(into_root.map(|m| if m < NOTHING { 0.0 } else { m })))
        }
    };
    let walks = Walks::new(graph);
    let child = |draw| children.as_ref()?.pick(noise.uniform(draw, OF_CHILD));
    let walk = |draw: usize| walks.draw(child(draw), &noise, draw);

    // Where one gives up most would.
    let first = if count > 0 { walk(0) } else { None };
    let patient = first.is_some();
    let mut drawn = vec![first];
    drawn.resize(count, None);
    if patient {
        let rest = crate::parallel::map(count - 1, &|draw| walk(draw + 1));
        for (slot, heads) in drawn[1..].iter_mut().zip(rest) {
            *slot = heads;
        }
    }
    let left: Vec<usize> = (0..count).filter(|&draw| drawn[draw].is_none()).collect();
    if !left.is_empty() {
        let mut by_child: Vec<(Option<usize>, Vec<usize>)> = Vec::new();
        for draw in left {
            let child = child(draw);
            match by_child.iter_mut().find(|(other, _)| *other == child) {
                Some((_, draws)) => draws.push(draw),
                None => by_child.push((child, vec![draw])),
            }
        }
        for (child, draws) in by_child {
            let mut heads = OneByOne::new(graph, child, &noise, &mut drawn);
            heads.draw(0, &draws);
        }
    }
    drawn
}

/// Running sums of weights, to draw in proportion to them.
struct Cumulative(Vec<f64>);

impl Cumulative {
    fn new(weights: impl Iterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let add = |weight| {
            sum += weight;
            sum
        };
        Self(weights.map(add).collect())
    }

    /// The entry that a uniform number falls to; `None` where all weights are 0.
    #[inline]
    fn pick(&self, uniform: f64) -> Option<usize> {
        let total = *self.0.last()?;
        if total == 0.0 {
            return None;
        }
        let at = uniform * total;
        let found = self.0.partition_point(|&sum| sum <= at);
        // `at` may have been rounded up to the total: that is the last entry with a weight.
        Some(if found < self.0.len() { found } else { self.0.partition_point(|&sum| sum < total) })
    }
}

/// Random walks on a graph.
struct Walks<'a> {
    graph: &'a Graph,
    /// Where a walk goes from each node; with one edge into the root never there.
    steps: Vec<Cumulative>,
}

impl<'a> Walks<'a> {
    fn new(graph: &'a Graph) -> Self {
        let possible = |to: usize| graph.root_edges == RootEdges::Any || to != graph.root;
        let steps = |from: usize| {
            let row = graph.row(from).iter().enumerate();
            let score = move |(to, &score): (usize, &f64)| {
                if possible(to) { score } else { f64::NEG_INFINITY }
            };
            let max = row.clone().map(score).fold(f64::NEG_INFINITY, f64::max);
            let weight = move |entry| {
                if max > f64::NEG_INFINITY { (score(entry) - max).exp() } else { 0.0 }
            };
            Cumulative::new(row.map(weight))
        };
        Self { graph, steps: (0..graph.nodes).map(steps).collect() }
    }

    /// One tree; `None` where it takes too long.
    fn draw(&self, child: Option<usize>, noise: &Noise, draw: usize) -> Option<Vec<usize>> {
        let Graph { nodes, root, .. } = *self.graph;
        let mut heads = vec![root; nodes];
        let mut reached = vec![false; nodes];
        reached[root] = true;
        if let Some(child) = child {
            reached[child] = true;
        }
        let (mut step, patience) = (0, nodes.saturating_mul(PATIENCE).min(OF_HEADS - 1));
        for start in 0..nodes {
            let mut at = start;
            while !reached[at] {
                if step == patience {
                    return None;
                }
                heads[at] = self.steps[at].pick(noise.uniform(draw, step))?;
                step += 1;
                at = heads[at];
            }
            let mut at = start;
            while !reached[at] {
                reached[at] = true;
                at = heads[at];
            }
        }
        Some(heads)
    }
}

/// Draws of heads one by one, each from its marginals given those before.
struct OneByOne<'a> {
    graph: Graph,
    dependents: Vec<usize>,
    heads: Vec<usize>,
    noise: &'a Noise,
    drawn: &'a mut [Option<Vec<usize>>],
}

impl<'a> OneByOne<'a> {
    fn new(
        graph: &Graph,
        child: Option<usize>,
        noise: &'a Noise,
        drawn: &'a mut [Option<Vec<usize>>],
    ) -> Self {
        let mut graph = graph.clone();
        if let Some(child) = child {
            let score = graph.score(child, graph.root);
            for from in 0..graph.nodes {
                graph.scores[from * graph.nodes + graph.root] = f64::NEG_INFINITY;
            }
            graph.scores[child * graph.nodes + graph.root] = score;
            graph.force(child, graph.root);
            graph.root_edges = RootEdges::Any;
        }
        let dependents = graph.dependents().collect();
        let heads = vec![graph.root; graph.nodes];
        Self { graph, dependents, heads, noise, drawn }
    }

    /// Draws the heads from the dependent at `place` on, for draws whose heads before it are
    /// settled.
    fn draw(&mut self, place: usize, draws: &[usize]) {
        let Some(&node) = self.dependents.get(place) else {
            for &draw in draws {
                self.drawn[draw] = Some(self.heads.clone());
            }
            return;
        };
        let nodes = self.graph.nodes;
        let row = self.graph.row(node).to_vec();
        let marginals = matrix_tree::moments(&self.graph, Range::Fastest).marginals;
        let chances = marginals[node * nodes..][..nodes].iter();
        let heads = Cumulative::new(chances.map(|&m| if m < NOTHING { 0.0 } else { m }));
        let mut by_head = vec![Vec::new(); nodes];
        for &draw in draws {
            if let Some(head) = heads.pick(self.noise.uniform(draw, OF_HEADS + node)) {
                by_head[head].push(draw);
            }
        }
        for (head, draws) in by_head.iter().enumerate().filter(|(_, draws)| !draws.is_empty()) {
            self.graph.force(node, head);
            self.heads[node] = head;
            self.draw(place + 1, draws);
            self.graph.scores[node * nodes..][..nodes].copy_from_slice(&row);
        }
    }
}
