//! Every question, asked of trees through models.

use marginals::potential::Dot;
use marginals::prior::Uniform;
use marginals::structure::{Arborescence, RootEdges, SpanningTree, Structure};
use marginals::{Error, Model};
use marginals_testkit::edge_sets::EdgeSet;
use marginals_testkit::generate::Random;
use marginals_testkit::trees::{arborescences, spanning_trees};
use ndarray::{Array4, ArrayD};

use crate::coupled::harness::{
    Flavour, Setting, agrees, draws_follow, for_cases, gradients_agree, ties_go_to_the_first,
};

struct TreeSetting {
    sizes: [usize; 4],
    lengths: Option<Vec<usize>>,
    /// Root and number of edges into it; `None` where edges have no direction.
    root: Option<(usize, RootEdges)>,
}

impl TreeSetting {
    fn draw(random: &mut Random, _: Flavour) -> Box<dyn Setting> {
        let size = |random: &mut Random, most| random.integer(1, most) as usize;
        let (b, h, n) = (size(random, 3), size(random, 2), random.integer(0, 4) as usize);
        let lengths = random
            .chance(0.5)
            .then(|| (0..b).map(|_| random.integer(0, n as i64) as usize).collect());
        let root = random.integer(0, n.max(1) as i64 - 1) as usize;
        let root_edges = *random.pick(&[RootEdges::Any, RootEdges::One]);
        let root = random.chance(0.7).then_some((root, root_edges));
        Box::new(Self { sizes: [b, h, n, n], lengths, root })
    }
}

impl Setting for TreeSetting {
    fn sizes(&self) -> [usize; 4] {
        self.sizes
    }

    fn own(&self) -> Vec<(&'static str, ArrayD<f64>)> {
        Vec::new()
    }

    fn structure(&self, _: &[ArrayD<f64>]) -> Box<dyn Structure<f64>> {
        let lengths = self.lengths.as_ref();
        match self.root {
            Some((root, root_edges)) => {
                let trees = Arborescence::new(root, root_edges);
                Box::new(lengths.map_or(trees.clone(), |lengths| trees.with_lengths(lengths)))
            }
            None => {
                let trees = SpanningTree::new();
                Box::new(lengths.map_or(trees.clone(), |lengths| trees.with_lengths(lengths)))
            }
        }
    }

    fn sets(&self, place: (usize, usize), _: usize, _: &[ArrayD<f64>]) -> Vec<EdgeSet> {
        let nodes = self.lengths.as_ref().map_or(self.sizes[2], |lengths| lengths[place.0]);
        let trees = match self.root {
            // A batch entry without the root, or without nodes, has no tree.
            Some((root, _)) if root >= nodes => Vec::new(),
            None if nodes == 0 => Vec::new(),
            Some((root, RootEdges::Any)) => arborescences(nodes, root, None),
            Some((root, RootEdges::One)) => arborescences(nodes, root, Some(1)),
            None => spanning_trees(nodes),
        };
        trees.into_iter().map(|edges| EdgeSet { edges, own: 0.0 }).collect()
    }

    fn has_one_edge(&self) -> bool {
        self.root.is_some()
    }
}

#[test]
fn agrees_with_enumeration() {
    for_cases(1_000, TreeSetting::draw, agrees);
}

#[test]
fn gradients_agree_with_finite_differences() {
    for_cases(300, TreeSetting::draw, gradients_agree);
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
    for root in [Some((1, RootEdges::Any)), Some((0, RootEdges::One)), None] {
        let setting = TreeSetting { sizes: [1, 2, 4, 4], lengths: Some(vec![4]), root };
        for flavour in [Flavour::Ordinary, Flavour::Masked, Flavour::Large] {
            draws_follow(&setting, flavour, &mut Random::new(3));
        }
    }
}

#[test]
fn nodes_that_cannot_be_are_refused() {
    let x = |nodes| Array4::<f64>::zeros((2, 1, nodes, 2));
    let argument = |structure: Box<dyn Structure<f64>>, queries, keys| {
        let model = Model::new(structure, Uniform, Dot::new(1.0));
        match model.posterior(x(queries).view(), x(keys).view()).err() {
            Some(Error::Value { argument, .. } | Error::Shape { argument, .. }) => argument,
            other => panic!("unexpected {other:?}"),
        }
    };
    let rooted = |root| Arborescence::new(root, RootEdges::One);
    assert_eq!(argument(Box::new(rooted(3)), 3, 3), "arborescence.root");
    assert_eq!(argument(Box::new(rooted(0)), 3, 4), "k");
    assert_eq!(argument(Box::new(SpanningTree::new()), 3, 4), "k");
    assert_eq!(argument(Box::new(rooted(0).with_lengths(&[4, 1])), 3, 3), "lengths");
    assert_eq!(argument(Box::new(SpanningTree::new().with_lengths(&[1])), 3, 3), "lengths");
}
