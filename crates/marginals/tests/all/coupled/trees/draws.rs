//! Draws, against the chances of all trees.

use std::collections::HashMap;

use marginals::infer::coupled::contract::{EdgeSets, Noise, Scores};
use marginals::structure::{Arborescence, RootEdges, SpanningTree};
use marginals_testkit::chi_square;

use super::case::{Case, case};

/// Counts of each tree among draws.
fn counts(case: &Case, count: usize) -> Vec<u64> {
    let places: HashMap<&Vec<usize>, usize> =
        case.listed.sets().iter().enumerate().map(|(at, set)| (set, at)).collect();
    let mut counts = vec![0; places.len()];
    for set in case.structure.draws(&case.scores(), count, Noise { seed: 5, factor: 3 }) {
        counts[places[&set.expect("there are trees")]] += 1;
    }
    counts
}

/// 100,000 draws each, of small graphs of every kind: with walks, and head by head where walks
/// would not end.
#[test]
fn draws_follow_the_posterior() {
    let mut p_values = Vec::new();
    for seed in 0..120 {
        let case = case(seed + 10_000, 5);
        if case.listed.log_partition == f64::NEG_INFINITY {
            continue;
        }
        let p = chi_square::p_value(&counts(&case, 100_000), &case.listed.chances);
        assert!(p > 1e-5, "{}: {p}", case.label);
        p_values.push(p);
    }
    // Of independent p-values few are small, and not many less than a share of x below x.
    let below = |x: f64| p_values.iter().filter(|p| **p < x).count();
    assert!(p_values.len() > 80 && below(0.01) <= 6 && below(0.5) < p_values.len() * 7 / 10);
}

/// Two nodes that point at each other e^10000 times as strongly as at anything else, and a third
/// beside them.
#[test]
fn a_cycle_that_walks_do_not_leave_ends() {
    let far = 1e4;
    #[rustfmt::skip]
    let values = [
        0.0, 0.0, 0.0, 0.0,
        0.3, 0.0, far, 0.1,
        0.2, far, 0.0, 0.4,
        0.0, 1.0, 2.0, 0.0,
    ];
    let scores = Scores { queries: 4, keys: 4, row: 4, edges: 16, values: &values };
    for root_edges in [RootEdges::Any, RootEdges::One] {
        let tree = Arborescence::new(0, root_edges);
        let noise = Noise { seed: 1, factor: 0 };
        let all = tree.draws(&scores, 20_000, noise);
        // The same draws, whatever the number of them that are asked for.
        assert_eq!(tree.draws(&scores, 10, noise), all[..10]);
        let marginals = &tree.moments(&[scores])[0].expected;
        for (edge, &p) in marginals.iter().enumerate() {
            let with = all.iter().flatten().filter(|set| set.contains(&edge)).count() as u64;
            assert!(p > 0.0 || with == 0);
            if p > 0.0 && p < 1.0 - 1e-12 {
                let fits = chi_square::p_value(&[with, 20_000 - with], &[p, 1.0 - p]);
                assert!(fits > 1e-4, "edge {edge}: {with} of 20000 at {p}");
            }
        }
    }
}

/// At 40 nodes the share of draws with each edge is its marginal.
#[test]
fn draws_agree_with_marginals_at_larger_sizes() {
    let nodes = 40;
    let values: Vec<f64> = (0..nodes * nodes).map(|at| ((at * 31 + 7) % 23) as f64 / 6.0).collect();
    let scores =
        Scores { queries: nodes, keys: nodes, row: nodes, edges: nodes * nodes, values: &values };
    let structures: [Box<dyn EdgeSets>; 3] = [
        Box::new(Arborescence::new(0, RootEdges::Any)),
        Box::new(Arborescence::new(39, RootEdges::One)),
        Box::new(SpanningTree::new()),
    ];
    for structure in structures {
        let draws = structure.draws(&scores, 4000, Noise { seed: 9, factor: 1 });
        let mut counts = vec![0u64; values.len()];
        for edge in draws.into_iter().flat_map(|set| set.expect("there are trees")) {
            counts[edge] += 1;
        }
        let marginals = &structure.moments(&[scores])[0].expected;
        let mut statistic = 0.0;
        let mut cells = 0.0;
        for (&count, &p) in counts.iter().zip(marginals) {
            assert!(p > 0.0 || count == 0);
            if p > 0.005 {
                statistic += (count as f64 - 4000.0 * p).powi(2) / (4000.0 * p * (1.0 - p));
                cells += 1.0;
            }
        }
        // A mean of squares of about standard normal numbers, not independent ones.
        let mean: f64 = statistic / cells;
        assert!((0.85..1.15).contains(&mean), "{structure:?}: {mean}");
    }
}
