//! Subsets of the keys.

use marginals::Model;
use marginals::potential::Dot;
use marginals::prior::Uniform;
use marginals::question::LogCount;
use marginals::structure::{EachQueryPicksK, Structure};
use marginals_testkit::edge_sets::EdgeSet;
use marginals_testkit::generate::Random;
use ndarray::{Array4, ArrayD};

use super::harness::{
    Flavour, Setting, agrees, draws_follow, for_cases, gradients_agree, ties_go_to_the_first,
};

struct SubsetSetting {
    sizes: [usize; 4],
    k: usize,
    at_most: bool,
}

impl SubsetSetting {
    fn draw(random: &mut Random, _: Flavour) -> Box<dyn Setting> {
        let (b, h) = (random.integer(1, 2) as usize, random.integer(1, 2) as usize);
        let (n, m) = (random.integer(0, 5) as usize, random.integer(0, 6) as usize);
        let at_most = random.chance(0.5);
        let most = if at_most { m as i64 + 1 } else { m as i64 };
        let k = random.integer(0, most) as usize;
        Box::new(Self { sizes: [b, h, n, m], k, at_most })
    }
}

impl Setting for SubsetSetting {
    fn sizes(&self) -> [usize; 4] {
        self.sizes
    }

    fn own(&self) -> Vec<(&'static str, ArrayD<f64>)> {
        Vec::new()
    }

    fn structure(&self, _: &[ArrayD<f64>]) -> Box<dyn Structure<f64>> {
        Box::new(match self.at_most {
            true => EachQueryPicksK::at_most(self.k),
            false => EachQueryPicksK::exactly(self.k),
        })
    }

    fn factors(&self) -> usize {
        self.sizes[2]
    }

    fn has_one_edge(&self) -> bool {
        false
    }

    fn sets(&self, _: (usize, usize), factor: usize, _: &[ArrayD<f64>]) -> Vec<EdgeSet> {
        let m = self.sizes[3];
        let subsets = (0..1usize << m).map(|bits| (0..m).filter(|j| bits >> j & 1 == 1).collect());
        let counts = |keys: &Vec<usize>| match self.at_most {
            true => keys.len() <= self.k,
            false => keys.len() == self.k,
        };
        subsets
            .filter(counts)
            .map(|keys| EdgeSet {
                edges: keys.into_iter().map(|j| (factor, j)).collect(),
                own: 0.0,
            })
            .collect()
    }
}

#[test]
fn agrees_with_enumeration() {
    for_cases(1_000, SubsetSetting::draw, agrees);
}

#[test]
fn gradients_agree_with_finite_differences() {
    for_cases(300, SubsetSetting::draw, gradients_agree);
}

#[test]
fn equally_good_subsets_go_in_order() {
    for_cases(200, SubsetSetting::draw, |setting, flavour, random| match flavour {
        Flavour::Ties => ties_go_to_the_first(setting, random),
        _ => Ok(()),
    });
}

#[test]
fn draws_follow_the_posterior() {
    for at_most in [false, true] {
        let setting = SubsetSetting { sizes: [1, 1, 2, 5], k: 2, at_most };
        draws_follow(&setting, Flavour::Ordinary, &mut Random::new(9));
    }
}

#[test]
fn counts_are_binomials() {
    let (m, k) = (200usize, 30usize);
    let q = Array4::<f64>::zeros((1, 1, 2, 1));
    let keys = Array4::<f64>::zeros((1, 1, m, 1));
    let expected: f64 = (0..k).map(|i| ((m - i) as f64).ln() - ((i + 1) as f64).ln()).sum();
    let model = Model::new(EachQueryPicksK::exactly(k), Uniform, Dot::new(1.0));
    let count = model.posterior(q.view(), keys.view()).unwrap().ask(LogCount).unwrap();
    assert!(count.iter().all(|x| (x - expected).abs() < 1e-10));
}

#[test]
fn more_edges_than_keys_are_refused_by_name() {
    let x = Array4::<f64>::zeros((1, 1, 2, 1));
    let model = Model::new(EachQueryPicksK::exactly(3), Uniform, Dot::new(1.0));
    let error = model.posterior(x.view(), x.view()).unwrap_err().to_string();
    assert!(error.contains("each-query-picks-k.k") && error.contains('3'), "{error}");
}
