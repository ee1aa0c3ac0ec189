//! Chains.

use marginals::Model;
use marginals::potential::Dot;
use marginals::prior::Uniform;
use marginals::question::{Entropy, LogCount, LogPartition, Marginals};
use marginals::structure::{Chain, EachQueryPicksOne, Structure};
use marginals_testkit::edge_sets::{EdgeSet, assignments, edges};
use marginals_testkit::generate::Random;
use ndarray::{Array4, ArrayD, IxDyn};

use super::harness::{
    Flavour, Setting, agrees, draws_follow, for_cases, gradients_agree, ties_go_to_the_first,
};

struct ChainSetting {
    sizes: [usize; 4],
    lengths: Option<Vec<usize>>,
    band: Option<usize>,
    own: Vec<(&'static str, ArrayD<f64>)>,
}

impl ChainSetting {
    fn draw(random: &mut Random, flavour: Flavour) -> Box<dyn Setting> {
        let size = |random: &mut Random, most| random.integer(1, most) as usize;
        let (b, h) = (size(random, 3), size(random, 2));
        let (n, m) = (random.integer(0, 4) as usize, size(random, 3));
        let lengths = random
            .chance(0.5)
            .then(|| (0..b).map(|_| random.integer(0, n as i64) as usize).collect());
        let band = random.chance(0.2).then(|| random.integer(0, 2) as usize);
        let mut own = Vec::new();
        let mut tensor = |random: &mut Random, name, shape: &[usize]| {
            let all = ArrayD::from_shape_simple_fn(IxDyn(shape), || flavour.score(random));
            own.push((name, all));
        };
        if random.chance(0.8) {
            let steps = if random.chance(0.5) { 1 } else { n.saturating_sub(1) };
            let (b, h) = (*random.pick(&[1, b]), *random.pick(&[1, h]));
            tensor(random, "transitions", &[b, h, steps, m, m]);
        }
        if random.chance(0.5) {
            let h = *random.pick(&[1, h]);
            tensor(random, "start", &[1, h, m]);
        }
        if random.chance(0.5) {
            let b = *random.pick(&[1, b]);
            tensor(random, "end", &[b, 1, m]);
        }
        Box::new(Self { sizes: [b, h, n, m], lengths, band, own })
    }

    /// A score of its own at a batch entry and head; 0 where there is none.
    fn own_score(
        &self,
        own: &[ArrayD<f64>],
        name: &str,
        place: (usize, usize),
        rest: &[usize],
    ) -> f64 {
        let Some(index) = self.own.iter().position(|(own, _)| *own == name) else { return 0.0 };
        let of = &own[index];
        let at = |axis: usize, index: usize| if of.shape()[axis] == 1 { 0 } else { index };
        let mut full = vec![at(0, place.0), at(1, place.1)];
        full.extend(rest.iter().enumerate().map(|(axis, &index)| at(axis + 2, index)));
        of[IxDyn(&full)]
    }
}

impl Setting for ChainSetting {
    fn sizes(&self) -> [usize; 4] {
        self.sizes
    }

    fn own(&self) -> Vec<(&'static str, ArrayD<f64>)> {
        self.own.clone()
    }

    fn structure(&self, own: &[ArrayD<f64>]) -> Box<dyn Structure<f64>> {
        let mut chain = Chain::new();
        for ((name, _), values) in self.own.iter().zip(own) {
            let values = values.clone();
            chain = match *name {
                "transitions" => chain.with_transitions(values).unwrap(),
                "start" => chain.with_start(values).unwrap(),
                _ => chain.with_end(values).unwrap(),
            };
        }
        if let Some(lengths) = &self.lengths {
            chain = chain.with_lengths(lengths);
        }
        if let Some(band) = self.band {
            chain = chain.with_band(band);
        }
        Box::new(chain)
    }

    fn sets(&self, place: (usize, usize), _: usize, own: &[ArrayD<f64>]) -> Vec<EdgeSet> {
        let [_, _, n, m] = self.sizes;
        let length = self.lengths.as_ref().map_or(n, |lengths| lengths[place.0]);
        let all =
            assignments(length, m).into_iter().filter(|keys| keys.iter().all(Option::is_some));
        let banded = |keys: &Vec<Option<usize>>| {
            self.band.is_none_or(|band| {
                keys.windows(2).all(|pair| pair[0].unwrap().abs_diff(pair[1].unwrap()) <= band)
            })
        };
        all.filter(banded)
            .map(|keys| {
                let key = |i: usize| keys[i].unwrap();
                let mut score = 0.0;
                if length > 0 {
                    score += self.own_score(own, "start", place, &[key(0)]);
                    score += self.own_score(own, "end", place, &[key(length - 1)]);
                }
                for i in 1..length {
                    let step = [i - 1, key(i - 1), key(i)];
                    // A step of its own, or one for all.
                    score += self.own_score(own, "transitions", place, &step);
                }
                EdgeSet { edges: edges(&keys), own: score }
            })
            .collect()
    }
}

#[test]
fn agrees_with_enumeration() {
    for_cases(1_000, ChainSetting::draw, agrees);
}

#[test]
fn gradients_agree_with_finite_differences() {
    for_cases(400, ChainSetting::draw, gradients_agree);
}

#[test]
fn equally_good_paths_go_in_order() {
    for_cases(200, ChainSetting::draw, |setting, flavour, random| match flavour {
        Flavour::Ties => ties_go_to_the_first(setting, random),
        _ => Ok(()),
    });
}

#[test]
fn draws_follow_the_posterior() {
    for flavour in [Flavour::Ordinary, Flavour::Masked, Flavour::Large] {
        let mut random = Random::new(3);
        let own = vec![
            (
                "transitions",
                ArrayD::from_shape_simple_fn(IxDyn(&[1, 2, 1, 3, 3]), || random.normal()),
            ),
            ("start", ArrayD::from_shape_simple_fn(IxDyn(&[1, 1, 3]), || random.normal())),
        ];
        let setting = ChainSetting { sizes: [1, 2, 4, 3], lengths: Some(vec![3]), band: None, own };
        draws_follow(&setting, flavour, &mut random);
    }
}

/// Without scores of its own a chain is a choice for each query.
#[test]
fn without_transitions_picks_are_independent() {
    let mut random = Random::new(1);
    let mut draw = |nodes| Array4::from_shape_simple_fn((2, 3, nodes, 4), || random.normal());
    let (q, k) = (draw(70), draw(9));
    let chain = Model::new(Chain::new(), Uniform, Dot::scaled(4));
    let picks = Model::new(EachQueryPicksOne, Uniform, Dot::scaled(4));
    let (z, entropy, p) = chain
        .posterior(q.view(), k.view())
        .unwrap()
        .ask((LogPartition, Entropy, Marginals))
        .unwrap();
    let (each_z, each_entropy, each_p) = picks
        .posterior(q.view(), k.view())
        .unwrap()
        .ask((LogPartition, Entropy, Marginals))
        .unwrap();
    let last = ndarray::Axis(2);
    assert!((&z.sum_axis(last) - &each_z.sum_axis(last)).iter().all(|x| x.abs() < 1e-10));
    assert!(
        (&entropy.sum_axis(last) - &each_entropy.sum_axis(last)).iter().all(|x| x.abs() < 1e-10)
    );
    assert!((&p - &each_p).iter().all(|x| x.abs() < 1e-12));
}

/// Mⁿ paths; under a band of 1 over 3 states, those of a matrix power.
#[test]
fn counts_are_closed_forms() {
    let q = Array4::<f64>::zeros((1, 1, 300, 1));
    let k = Array4::<f64>::zeros((1, 1, 3, 1));
    let count = |chain: Chain| {
        let model = Model::new(chain, Uniform, Dot::new(1.0));
        model.posterior(q.view(), k.view()).unwrap().ask(LogCount).unwrap()[[0, 0, 0]]
    };
    assert!((count(Chain::new()) - 300.0 * 3f64.ln()).abs() < 1e-10);
    let mut ways = [1.0f64; 3];
    let mut log = 0.0;
    for _ in 1..300 {
        ways = [ways[0] + ways[1], ways[0] + ways[1] + ways[2], ways[1] + ways[2]];
        let total: f64 = ways.iter().sum();
        log += total.ln();
        ways = ways.map(|x| x / total);
    }
    let total: f64 = ways.iter().sum();
    assert!((count(Chain::new().with_band(1)) - (log + total.ln())).abs() < 1e-9);
}
