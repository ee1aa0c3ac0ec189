//! Degenerate graphs, spelled out.

use marginals::infer::coupled::contract::{EdgeSets, Noise, Scores};
use marginals::structure::{Arborescence, RootEdges, SpanningTree};

const IMPOSSIBLE: f64 = f64::NEG_INFINITY;

fn scores(nodes: usize, values: &[f64]) -> Scores<'_> {
    Scores { queries: nodes, keys: nodes, row: nodes, edges: values.len(), values }
}

const NOISE: Noise = Noise { seed: 0, factor: 0 };

fn has_no_tree(structure: &dyn EdgeSets, scores: Scores<'_>) {
    let name = format!("{structure:?}, {} nodes", scores.queries);
    let direction = vec![1.0; scores.values.len()];
    let tangents = structure.tangents(&[scores], &[direction]).remove(0);
    for moments in [structure.moments(&[scores]).remove(0), tangents.moments] {
        assert_eq!(moments.log_partition, IMPOSSIBLE, "{name}");
        assert_eq!(moments.expected, vec![0.0; scores.values.len()], "{name}");
    }
    assert_eq!(tangents.expected, vec![0.0; scores.values.len()], "{name}");
    assert_eq!(structure.best(&scores, 3).unwrap(), [], "{name}");
    assert_eq!(structure.draws(&scores, 2, NOISE), [None, None], "{name}");
    let best = structure.max_marginals(&scores).unwrap();
    assert_eq!(best, vec![IMPOSSIBLE; scores.values.len()], "{name}");
}

fn has_the_empty_tree(structure: &dyn EdgeSets) {
    let scores = scores(1, &[3.0]);
    let moments = structure.moments(&[scores]).remove(0);
    assert_eq!((moments.log_partition, moments.expected), (0.0, vec![0.0]));
    let best = structure.best(&scores, 3).unwrap();
    assert_eq!((best.len(), best[0].score, best[0].edges.len()), (1, 0.0, 0));
    assert_eq!(structure.draws(&scores, 1, NOISE), [Some(vec![])]);
}

#[test]
fn no_node_or_one() {
    for root_edges in [RootEdges::Any, RootEdges::One] {
        has_no_tree(&Arborescence::new(0, root_edges), scores(0, &[]));
        // The root is not there.
        has_no_tree(&Arborescence::new(2, root_edges), scores(2, &[0.0; 4]));
    }
    has_no_tree(&SpanningTree::new(), scores(0, &[]));
    has_no_tree(&Arborescence::new(0, RootEdges::One), scores(1, &[0.0]));
    has_the_empty_tree(&Arborescence::default());
    has_the_empty_tree(&SpanningTree::new());
}

#[test]
fn graphs_without_a_tree() {
    // Nodes 1 and 2 see only each other.
    #[rustfmt::skip]
    let closed = [
        0.0, 1.0, 1.0,
        IMPOSSIBLE, 0.0, 1.0,
        IMPOSSIBLE, 1.0, 0.0,
    ];
    has_no_tree(&Arborescence::default(), scores(3, &closed));
    has_no_tree(&SpanningTree::new(), scores(3, &closed));
    // Both have the root only: there is a tree, but it has two edges into it.
    #[rustfmt::skip]
    let star = [
        0.0, 0.0, 0.0,
        1.5, 0.0, IMPOSSIBLE,
        2.5, IMPOSSIBLE, 0.0,
    ];
    has_no_tree(&Arborescence::new(0, RootEdges::One), scores(3, &star));
    let any = Arborescence::default();
    assert_eq!(any.moments(&[scores(3, &star)])[0].log_partition, 4.0);
    assert_eq!(any.best(&scores(3, &star), 2).unwrap().len(), 1);
    has_no_tree(&any, scores(3, &[IMPOSSIBLE; 9]));
}

/// A node that has the root alone for a head must be its only child.
#[test]
fn one_node_may_have_no_other_choice() {
    for lonely in 1..12 {
        let nodes = 12;
        let mut values = vec![0.25; nodes * nodes];
        values[lonely * nodes..][..nodes].fill(IMPOSSIBLE);
        values[lonely * nodes] = -7.0;
        let tree = Arborescence::new(0, RootEdges::One);
        let moments = tree.moments(&[scores(nodes, &values)]).remove(0);
        // The others are trees towards that node: 11^9 of them.
        let expected = -7.0 + 0.25 * 10.0 + 9.0 * 11f64.ln();
        assert!((moments.log_partition - expected).abs() < 1e-12, "{lonely}");
        assert!((moments.expected[lonely * nodes] - 1.0).abs() < 1e-14);
        let draws = tree.draws(&scores(nodes, &values), 50, NOISE);
        let into_root = |set: &Vec<usize>| set.iter().filter(|&edge| edge % nodes == 0).count();
        assert!(draws.iter().flatten().all(|set| into_root(set) == 1));
        assert_eq!(draws.iter().flatten().count(), 50);
    }
}

#[test]
fn nan_stays_in_its_own_factor() {
    let good = [0.0; 9];
    let mut bad = good;
    bad[5] = f64::NAN;
    for structure in [&Arborescence::default() as &dyn EdgeSets, &SpanningTree::new()] {
        let found = structure.moments(&[scores(3, &good), scores(3, &bad)]);
        assert!(found[0].log_partition.is_finite());
        assert!(found[1].log_partition.is_nan());
        assert!(found[1].expected.iter().any(|m| m.is_nan()));
        assert_eq!(structure.best(&scores(3, &bad), 1).unwrap(), []);
        assert_eq!(structure.draws(&scores(3, &bad), 1, NOISE), [None]);
    }
    // On the diagonal and in the root's row there are no edges.
    let mut beside = good;
    (beside[1], beside[4]) = (f64::NAN, f64::NAN);
    assert!(Arborescence::default().moments(&[scores(3, &beside)])[0].log_partition.is_finite());
}
