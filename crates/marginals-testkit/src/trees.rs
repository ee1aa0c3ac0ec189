//! Trees of a few nodes, from their definition, and posteriors over edge sets that are written out.

use crate::exact::{Exact, relative_to_largest};

/// Every choice of a head for each node but the root from which heads lead to the root everywhere,
/// as edges (node, head) in order of the nodes; of them those with `root_edges` edges into the
/// root, if it says how many.
pub fn arborescences(
    nodes: usize,
    root: usize,
    root_edges: Option<usize>,
) -> Vec<Vec<(usize, usize)>> {
    let dependents: Vec<usize> = (0..nodes).filter(|&node| node != root).collect();
    let mut trees = Vec::new();
    for number in 0..nodes.pow(dependents.len() as u32) {
        let mut heads = vec![root; nodes];
        let mut rest = number;
        for &node in &dependents {
            (heads[node], rest) = (rest % nodes, rest / nodes);
        }
        let leads_to_root = |&node: &usize| {
            let mut at = node;
            (0..nodes).for_each(|_| at = heads[at]);
            at == root
        };
        let edges: Vec<(usize, usize)> =
            dependents.iter().map(|&node| (node, heads[node])).collect();
        let into_root = edges.iter().filter(|(_, head)| *head == root).count();
        if dependents.iter().all(leads_to_root) && root_edges.is_none_or(|n| n == into_root) {
            trees.push(edges);
        }
    }
    trees
}

/// Every set of nodes − 1 pairs that connects all nodes, each pair as two edges.
pub fn spanning_trees(nodes: usize) -> Vec<Vec<(usize, usize)>> {
    let pairs: Vec<(usize, usize)> =
        (0..nodes).flat_map(|i| (i + 1..nodes).map(move |j| (i, j))).collect();
    let mut trees = Vec::new();
    for set in 0..1u32 << pairs.len() {
        if set.count_ones() as usize + 1 != nodes {
            continue;
        }
        let chosen = pairs.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1);
        let chosen: Vec<(usize, usize)> = chosen.map(|(_, &pair)| pair).collect();
        let mut reached = vec![false; nodes];
        reached[0] = true;
        for _ in 0..nodes {
            for &(i, j) in &chosen {
                let either = reached[i] || reached[j];
                (reached[i], reached[j]) = (either, either);
            }
        }
        if reached.into_iter().all(|reached| reached) {
            let mut edges: Vec<_> = chosen.iter().flat_map(|&(i, j)| [(i, j), (j, i)]).collect();
            edges.sort_unstable();
            trees.push(edges);
        }
    }
    trees
}

/// A posterior over edge sets that are written out: p(φ) ∝ exp Σ θ.
#[derive(Clone, Debug)]
pub struct Listed {
    edges: usize,
    sets: Vec<Vec<usize>>,
    totals: Vec<Exact<f64>>,
    /// log Z; −∞ where no set is possible.
    pub log_partition: f64,
    /// Probability of each set.
    pub chances: Vec<f64>,
}

impl Listed {
    /// Edge sets, as numbers of edges in order, and the score of every edge.
    pub fn new(sets: Vec<Vec<usize>>, scores: &[f64]) -> Self {
        let total = |set: &Vec<usize>| {
            let mut total = Exact::of(0.0);
            set.iter().for_each(|&edge| total.multiply(&Exact::of(scores[edge])));
            total
        };
        let totals: Vec<Exact<f64>> = sets.iter().map(total).collect();
        let (log_partition, chances) = match relative_to_largest(&totals) {
            None => (f64::NEG_INFINITY, vec![0.0; sets.len()]),
            Some((relative, largest)) => {
                let sum: f64 = relative.iter().map(|x| x.exp()).sum();
                let chances = relative.iter().map(|x| x.exp() / sum).collect();
                (largest.plus(sum.ln()).value(), chances)
            }
        };
        Self { edges: scores.len(), sets, totals, log_partition, chances }
    }

    /// The sets.
    pub fn sets(&self) -> &[Vec<usize>] {
        &self.sets
    }

    /// Marginal of every edge.
    pub fn marginals(&self) -> Vec<f64> {
        let mut marginals = vec![0.0; self.edges];
        for (set, chance) in self.sets.iter().zip(&self.chances) {
            set.iter().for_each(|&edge| marginals[edge] += chance);
        }
        marginals
    }

    /// Derivative of the marginals as the scores move along a direction: covariances of each edge
    /// with the direction's sum over the set.
    pub fn derivative(&self, direction: &[f64]) -> Vec<f64> {
        let along =
            |set: &Vec<usize>| -> f64 { set.iter().map(|&edge| direction[edge]).sum::<f64>() };
        let possible = || self.sets.iter().zip(&self.chances).filter(|(_, chance)| **chance > 0.0);
        let mean: f64 = possible().map(|(set, chance)| chance * along(set)).sum();
        let mut slopes = vec![0.0; self.edges];
        for (set, chance) in possible() {
            set.iter().for_each(|&edge| slopes[edge] += chance * (along(set) - mean));
        }
        slopes
    }

    /// The possible sets and their scores, best first; equal ones by the edges that come first.
    pub fn ranked(&self) -> Vec<(f64, Vec<usize>)> {
        let mut possible: Vec<usize> =
            (0..self.sets.len()).filter(|&at| !self.totals[at].impossible()).collect();
        possible.sort_by(|&a, &b| {
            let difference = self.totals[b].minus(&self.totals[a]);
            difference.total_cmp(&0.0).then_with(|| self.sets[a].cmp(&self.sets[b]))
        });
        possible.into_iter().map(|at| (self.totals[at].value(), self.sets[at].clone())).collect()
    }

    /// Highest score of the possible sets that have each edge; −∞ where there is none.
    pub fn max_marginals(&self) -> Vec<f64> {
        let mut best = vec![f64::NEG_INFINITY; self.edges];
        for (set, total) in self.sets.iter().zip(&self.totals) {
            set.iter().for_each(|&edge| best[edge] = best[edge].max(total.value()));
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cayley's formula, and its count of trees with one edge into the root.
    #[test]
    fn there_are_as_many_trees_as_there_should_be() {
        for nodes in 2..=6usize {
            let all = nodes.pow(nodes as u32 - 2);
            assert_eq!(arborescences(nodes, 0, None).len(), all);
            assert_eq!(arborescences(nodes, nodes - 1, None).len(), all);
            assert_eq!(spanning_trees(nodes).len(), all);
            assert_eq!(arborescences(nodes, 1, Some(1)).len(), (nodes - 1).pow(nodes as u32 - 2));
        }
        assert_eq!(arborescences(1, 0, None), [vec![]]);
        assert_eq!(arborescences(1, 0, Some(1)).len(), 0);
    }

    #[test]
    fn a_posterior_of_two_sets() {
        let listed = Listed::new(
            vec![vec![0, 1], vec![0, 2], vec![3]],
            &[1e9, 0.5, 0.5 + 3f64.ln(), f64::NEG_INFINITY],
        );
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12 * b.abs().max(1.0), "{a} {b}");
        close(listed.log_partition, 1e9 + 0.5 + 4f64.ln());
        for (m, expected) in listed.marginals().into_iter().zip([1.0, 0.25, 0.75, 0.0]) {
            close(m, expected);
        }
        let slopes = listed.derivative(&[5.0, 1.0, 0.0, 0.0]);
        for (slope, expected) in slopes.into_iter().zip([0.0, 0.1875, -0.1875, 0.0]) {
            close(slope, expected);
        }
        assert_eq!(listed.ranked().iter().map(|(_, set)| set[1]).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(listed.max_marginals()[3], f64::NEG_INFINITY);
    }
}
