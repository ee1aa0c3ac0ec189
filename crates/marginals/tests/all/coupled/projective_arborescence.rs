//! Projective trees.

use marginals::Model;
use marginals::potential::Dot;
use marginals::prior::Uniform;
use marginals::question::LogCount;
use marginals::structure::{ProjectiveArborescence, RootEdges, Structure};
use marginals_testkit::edge_sets::{EdgeSet, assignments, edges};
use marginals_testkit::generate::Random;
use ndarray::{Array4, ArrayD};

use super::harness::{
    Flavour, Setting, agrees, draws_follow, for_cases, gradients_agree, ties_go_to_the_first,
};

struct TreeSetting {
    sizes: [usize; 4],
    lengths: Option<Vec<usize>>,
    one_root_edge: bool,
}

impl TreeSetting {
    fn draw(random: &mut Random, _: Flavour) -> Box<dyn Setting> {
        let (b, h) = (random.integer(1, 3) as usize, random.integer(1, 2) as usize);
        let n = random.integer(0, 5) as usize;
        let lengths: Vec<usize> = (0..b).map(|_| random.integer(0, n as i64) as usize).collect();
        let lengths = random.chance(0.5).then_some(lengths);
        Box::new(Self { sizes: [b, h, n, n], lengths, one_root_edge: random.chance(0.5) })
    }
}

/// Whether heads are a tree without crossing edges, from the definition: every node's way up ends at node
/// 0, and no two edges have ends that alternate.
fn is_projective(heads: &[Option<usize>]) -> bool {
    let reaches_root = |mut node: usize| {
        for _ in 0..heads.len() {
            match heads[node] {
                None => return node == 0,
                Some(head) => node = head,
            }
        }
        false
    };
    let arcs: Vec<(usize, usize)> =
        edges(heads).into_iter().map(|(i, j)| (i.min(j), i.max(j))).collect();
    let cross = |a: (usize, usize), b: (usize, usize)| a.0 < b.0 && b.0 < a.1 && a.1 < b.1;
    (0..heads.len()).all(reaches_root) && !arcs.iter().any(|&a| arcs.iter().any(|&b| cross(a, b)))
}

impl Setting for TreeSetting {
    fn sizes(&self) -> [usize; 4] {
        self.sizes
    }

    fn own(&self) -> Vec<(&'static str, ArrayD<f64>)> {
        Vec::new()
    }

    fn structure(&self, _: &[ArrayD<f64>]) -> Box<dyn Structure<f64>> {
        let root_edges = if self.one_root_edge { RootEdges::One } else { RootEdges::Any };
        let trees = ProjectiveArborescence::new(root_edges);
        Box::new(match &self.lengths {
            Some(lengths) => trees.with_lengths(lengths),
            None => trees,
        })
    }

    fn sets(&self, place: (usize, usize), _: usize, _: &[ArrayD<f64>]) -> Vec<EdgeSet> {
        let n = self.lengths.as_ref().map_or(self.sizes[2], |lengths| lengths[place.0]);
        let is_tree = |heads: &Vec<Option<usize>>| {
            let roots = heads.iter().filter(|head| **head == Some(0)).count();
            is_projective(heads) && (n == 0 || !self.one_root_edge || roots == 1)
        };
        let all = assignments(n, n).into_iter().filter(is_tree);
        all.map(|heads| EdgeSet { edges: edges(&heads), own: 0.0 }).collect()
    }
}

#[test]
fn agrees_with_enumeration() {
    for_cases(1_000, TreeSetting::draw, agrees);
}

#[test]
fn gradients_agree_with_finite_differences() {
    for_cases(200, TreeSetting::draw, gradients_agree);
}

#[test]
fn equally_good_trees_go_in_order() {
    for_cases(200, TreeSetting::draw, |setting, flavour, random| match flavour {
        Flavour::Ties => ties_go_to_the_first(setting, random),
        _ => Ok(()),
    });
}

#[test]
fn draws_follow_the_posterior() {
    for one_root_edge in [false, true] {
        let setting = TreeSetting { sizes: [1, 2, 4, 4], lengths: None, one_root_edge };
        draws_follow(&setting, Flavour::Ordinary, &mut Random::new(9));
    }
}

/// Of n words, with any number of edges into the root: (3n)! / (n! (2n + 1)!), the ternary trees (OEIS
/// A001764); with one, (3n − 2)! / (n! (2n − 1)!) (OEIS
/// A006013).
#[test]
fn counts_are_closed_forms() {
    let log_factorial = |n: usize| (1..=n).map(|i| (i as f64).ln()).sum::<f64>();
    let n = 30;
    let x = Array4::<f64>::zeros((1, 1, n + 1, 1));
    let any = log_factorial(3 * n) - log_factorial(n) - log_factorial(2 * n + 1);
    let one = log_factorial(3 * n - 2) - log_factorial(n) - log_factorial(2 * n - 1);
    for (root_edges, expected) in [(RootEdges::Any, any), (RootEdges::One, one)] {
        let model = Model::new(ProjectiveArborescence::new(root_edges), Uniform, Dot::new(1.0));
        let count = model.posterior(x.view(), x.view()).unwrap().ask(LogCount).unwrap();
        assert!((count[[0, 0, 0]] - expected).abs() < 1e-9, "{root_edges:?}: {count}, {expected}");
    }
}
