//! Graphs of a few nodes, with their trees written out.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use marginals::infer::coupled::contract::{EdgeSets, Scores};
use marginals::structure::{Arborescence, RootEdges, SpanningTree};
use marginals_testkit::generate::Random;
use marginals_testkit::trees::{Listed, arborescences, spanning_trees};

/// A structure over few nodes, its scores, and its trees.
pub struct Case {
    pub structure: Box<dyn EdgeSets>,
    pub nodes: usize,
    pub row: usize,
    pub values: Vec<f64>,
    pub listed: Listed,
    pub label: String,
}

impl Case {
    pub fn scores(&self) -> Scores<'_> {
        Scores {
            queries: self.nodes,
            keys: self.nodes,
            row: self.row,
            edges: self.values.len(),
            values: &self.values,
        }
    }

    /// Largest score in size: what a sum of scores is rounded by.
    pub fn size(&self) -> f64 {
        let finite = self.values.iter().filter(|score| score.is_finite());
        finite.fold(1.0, |size, score| size.max(score.abs()))
    }
}

type Trees = Arc<Vec<Vec<(usize, usize)>>>;

/// Nodes, root (`None` without one), and number of its edges where that is settled.
type Kind = (usize, Option<usize>, Option<usize>);

/// The trees of a kind, listed once.
fn trees(kind: Kind) -> Trees {
    static LISTED: LazyLock<Mutex<HashMap<Kind, Trees>>> = LazyLock::new(Mutex::default);
    let (nodes, root, root_edges) = kind;
    let list = || match root {
        Some(root) => arborescences(nodes, root, root_edges),
        None => spanning_trees(nodes),
    };
    LISTED.lock().unwrap().entry(kind).or_insert_with(|| Arc::new(list())).clone()
}

/// Scores that trees are summed over with: small, all over the place, masked, tied, and cliques
/// that are all but impossible to leave.
fn table(nodes: usize, random: &mut Random) -> (Vec<f64>, &'static str) {
    let kind = random.integer(0, 8);
    let clique = random.integer(1, 1 << nodes);
    let mut table = vec![0.0; nodes * nodes];
    for (at, score) in table.iter_mut().enumerate() {
        let (i, j) = (at / nodes, at % nodes);
        *score = match kind {
            0 => 2.0 * random.normal(),
            1 => random.between(-1e4, 1e4),
            2 => *random.pick(&[0.0, 1.0, 100.0, 1e4, -1e4]) + random.normal(),
            3 => random.integer(-1, 1) as f64,
            4 => *random.pick(&[f64::NEG_INFINITY, 0.0, 1e4, -1e4, 0.1]),
            5 => {
                let within = clique >> i & 1 == 1 && clique >> j & 1 == 1;
                random.normal() + if within { 1e4 } else { 0.0 }
            }
            6 => random.normal() + *random.pick(&[0.0, 0.0, -1e9, f64::from(f32::MIN)]),
            // Products of two of these are below the range of doubles.
            7 => random.normal() + *random.pick(&[0.0, -355.0, -360.0]),
            _ => random.normal() * 10f64.powi(random.integer(-3, 3) as i32),
        };
        if random.chance(if kind == 4 { 0.0 } else { 0.15 }) {
            *score = f64::NEG_INFINITY;
        }
    }
    let names = [
        "ordinary",
        "wide",
        "mixed",
        "tied",
        "masked and tied",
        "clique",
        "large masks",
        "end of doubles",
        "scales",
    ];
    (table, names[kind as usize])
}

/// A random case of up to `most` nodes.
pub fn case(seed: u64, most: usize) -> Case {
    let mut random = Random::new(seed);
    let nodes = random.integer(2, most as i64) as usize;
    let (scores, kind) = table(nodes, &mut random);
    let root = random.integer(0, nodes as i64 - 1) as usize;
    let (structure, kind_of_tree, name): (Box<dyn EdgeSets>, Kind, _) = match random.integer(0, 2) {
        0 => (Box::new(Arborescence::new(root, RootEdges::Any)), (nodes, Some(root), None), "any"),
        1 => {
            (Box::new(Arborescence::new(root, RootEdges::One)), (nodes, Some(root), Some(1)), "one")
        }
        _ => (Box::new(SpanningTree::new()), (nodes, None, None), "undirected"),
    };
    let row = nodes + random.integer(0, 2) as usize;
    // Entries that are not edges may hold anything.
    let mut values = vec![f64::NAN; row * (nodes + 1)];
    for i in 0..nodes {
        for j in (0..nodes).filter(|&j| j != i) {
            let score = scores[i * nodes + j];
            // Of two masks on one edge the sum is a mask of another size, which is beyond what is
            // told apart.
            let twice = name == "undirected" && j < i && score < -1e30 && score.is_finite();
            if name == "undirected" || i != root {
                values[i * row + j] = if twice { 0.0 } else { score };
            }
        }
    }
    let numbered = |tree: &Vec<(usize, usize)>| tree.iter().map(|(i, j)| i * row + j).collect();
    let sets: Vec<Vec<usize>> = trees(kind_of_tree).iter().map(numbered).collect();
    let listed = Listed::new(sets, &values);
    let label = format!("seed {seed}: {nodes} nodes, root {root}, {name}, {kind}");
    Case { structure, nodes, row, values, listed, label }
}
