//! log Z, marginals and their derivatives.

use marginals::infer::coupled::contract::{EdgeSets, Scores};
use marginals::structure::{Arborescence, RootEdges, SpanningTree};
use marginals_testkit::finite_difference;
use marginals_testkit::generate::Random;

use super::case::case;

/// Cases per test.
const CASES: u64 = 1500;

/// Largest difference of log Z, as a share of the largest score; of a marginal; of its derivative
/// along a direction of size 1.
const BOUNDS: [f64; 3] = [1e-13, 1e-13, 1e-11];

#[test]
fn moments_and_tangents_are_those_of_all_trees() {
    let mut worst = [(0.0, String::new()), (0.0, String::new()), (0.0, String::new())];
    let mut impossible = 0;
    for seed in 0..CASES {
        let case = case(seed, 6);
        let mut note = |kind: usize, found: f64, expected: f64, size: f64| {
            let off = if found == expected { 0.0 } else { (found - expected).abs() / size };
            assert!(off <= BOUNDS[kind], "{}: {found} for {expected} ({kind})", case.label);
            if off >= worst[kind].0 {
                worst[kind] = (off, case.label.clone());
            }
        };
        let mut random = Random::new(seed ^ 0xA5);
        let direction: Vec<f64> = case
            .values
            .iter()
            .map(|score| if score.is_finite() { random.between(-1.0, 1.0) } else { 0.0 })
            .collect();
        let moments = case.structure.moments(&[case.scores()]).remove(0);
        let tangents =
            case.structure.tangents(&[case.scores()], std::slice::from_ref(&direction)).remove(0);
        note(0, moments.log_partition, case.listed.log_partition, case.size());
        note(0, tangents.moments.log_partition, case.listed.log_partition, case.size());
        impossible += i32::from(case.listed.log_partition == f64::NEG_INFINITY);
        let (marginals, slopes) = (case.listed.marginals(), case.listed.derivative(&direction));
        assert_eq!(moments.expected.len(), case.values.len());
        for edge in 0..case.values.len() {
            note(1, moments.expected[edge], marginals[edge], 1.0);
            note(1, tangents.moments.expected[edge], marginals[edge], 1.0);
            note(2, tangents.expected[edge], slopes[edge], 1.0);
            assert!((0.0..=1.0).contains(&moments.expected[edge]), "{}", case.label);
        }
    }
    assert!(impossible > 30, "{impossible} cases without a tree");
    println!("worst log Z, marginal, derivative: {worst:?}");
}

/// n^(n−2) trees connect n nodes (Cayley 1889), (n−1)^(n−2) of them with one edge into a given
/// root; each edge is in as many as any other. Every block size and its ends are passed on the way.
#[test]
fn numbers_of_trees_are_those_of_closed_forms() {
    for nodes in (2..=33usize).chain([39, 40, 41, 64, 100]) {
        let values = vec![0.0; nodes * nodes];
        let edges = values.len();
        let scores = Scores { queries: nodes, keys: nodes, row: nodes, edges, values: &values };
        let n = nodes as f64;
        let any = Arborescence::new(nodes / 2, RootEdges::Any).moments(&[scores]).remove(0);
        let one = Arborescence::new(nodes / 3, RootEdges::One).moments(&[scores]).remove(0);
        let undirected = SpanningTree::new().moments(&[scores]).remove(0);
        let cayley = (n - 2.0) * n.ln();
        assert!((any.log_partition - cayley).abs() < 1e-14 * n * n, "{nodes}");
        assert!((undirected.log_partition - cayley).abs() < 1e-14 * n * n, "{nodes}");
        let single = (n - 2.0) * (n - 1.0).ln();
        assert!((one.log_partition - single).abs() < 1e-14 * n * n, "{nodes}");
        for i in 0..nodes {
            for j in (0..nodes).filter(|&j| j != i) {
                let at = i * nodes + j;
                assert!((undirected.expected[at] - 2.0 / n).abs() < 1e-14, "{nodes}");
                if i != nodes / 2 {
                    let expected = if j == nodes / 2 { 2.0 / n } else { 1.0 / n };
                    assert!((any.expected[at] - expected).abs() < 1e-14, "{nodes}");
                }
                if i != nodes / 3 {
                    assert!((one.expected[at] - 1.0 / (n - 1.0)).abs() < 1e-14, "{nodes}");
                }
            }
        }
    }
}

/// log Z is homogeneous: what is added to all scores of a node is added to it; and its derivative
/// are the marginals, whose derivative are the tangents, at sizes that cannot be written out.
#[test]
fn gradients_are_finite_differences_at_any_size() {
    for (nodes, root_edges) in [(17, RootEdges::Any), (17, RootEdges::One), (30, RootEdges::One)] {
        let mut random = Random::new(nodes as u64);
        let values: Vec<f64> = (0..nodes * nodes).map(|_| 2.0 * random.normal()).collect();
        let direction: Vec<f64> = (0..nodes * nodes).map(|_| random.normal()).collect();
        let tree = Arborescence::new(3, root_edges);
        let moments = |values: &[f64]| {
            let edges = values.len();
            tree.moments(&[Scores { queries: nodes, keys: nodes, row: nodes, edges, values }])
                .remove(0)
        };
        let found = moments(&values);
        let along: f64 = found.expected.iter().zip(&direction).map(|(m, d)| m * d).sum();
        let slope = finite_difference::along(&values, &direction, |x| moments(x).log_partition);
        assert!((along - slope.value).abs() < 1e-8, "{nodes}: {along} {slope:?}");
        for i in (0..nodes).filter(|&i| i != 3) {
            let row: f64 = found.expected[i * nodes..][..nodes].iter().sum();
            assert!((row - 1.0).abs() < 1e-13, "{nodes}: heads of {i} sum to {row}");
        }
        let edges = values.len();
        let scores = Scores { queries: nodes, keys: nodes, row: nodes, edges, values: &values };
        let tangents = tree.tangents(&[scores], std::slice::from_ref(&direction)).remove(0);
        let slopes = finite_difference::of_curve(1e-2, edges, |t| {
            let moved: Vec<f64> = values.iter().zip(&direction).map(|(x, d)| x + t * d).collect();
            moments(&moved).expected
        });
        for (found, slope) in tangents.expected.iter().zip(slopes) {
            assert!((found - slope.value).abs() < 1e-8, "{nodes}: {found} {slope:?}");
        }
    }
}

/// Nodes under other numbers are eliminated in another order, and trees without directions towards
/// another root: what rounding does to sizes that cannot be written out.
#[test]
fn the_order_of_nodes_does_not_matter() {
    let mut worst = 0.0f64;
    for seed in 0..60 {
        let mut random = Random::new(seed + 77);
        let nodes = random.integer(20, 60) as usize;
        let scale = [1.0, 10.0, 300.0, 1e4][seed as usize % 4];
        let clique = nodes / 2;
        let mut values: Vec<f64> = (0..nodes * nodes).map(|_| scale * random.normal()).collect();
        if seed % 3 == 0 {
            // Half of the nodes all but never look at the others.
            for i in 0..clique {
                values[i * nodes..][..clique].iter_mut().for_each(|score| *score += 1e4);
            }
        }
        let mut order: Vec<usize> = (0..nodes).collect();
        (1..nodes).for_each(|at| order.swap(at, random.integer(0, at as i64) as usize));
        let mut renamed = vec![0.0; nodes * nodes];
        for i in 0..nodes {
            for j in 0..nodes {
                renamed[order[i] * nodes + order[j]] = values[i * nodes + j];
            }
        }
        let root = random.integer(0, nodes as i64 - 1) as usize;
        let structures = |root| -> [Box<dyn EdgeSets>; 3] {
            [
                Box::new(Arborescence::new(root, RootEdges::Any)),
                Box::new(Arborescence::new(root, RootEdges::One)),
                Box::new(SpanningTree::new()),
            ]
        };
        let moments = |structure: &dyn EdgeSets, values: &[f64]| {
            let edges = values.len();
            let scores = Scores { queries: nodes, keys: nodes, row: nodes, edges, values };
            structure.moments(&[scores]).remove(0)
        };
        for (own, other) in structures(root).iter().zip(&structures(order[root])) {
            let (own, other) = (moments(&**own, &values), moments(&**other, &renamed));
            let off = (own.log_partition - other.log_partition).abs();
            assert!(
                off <= 1e-14 * scale.max(1e3) * nodes as f64,
                "seed {seed}: log Z off by {off:e}"
            );
            for i in 0..nodes {
                for j in 0..nodes {
                    let other = other.expected[order[i] * nodes + order[j]];
                    let off = (own.expected[i * nodes + j] - other).abs();
                    assert!(off < 1e-12, "seed {seed}: {off:e} at ({i}, {j}) of {nodes}");
                    worst = worst.max(off);
                }
            }
        }
    }
    println!("worst marginal: {worst:e}");
}
