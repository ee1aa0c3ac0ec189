//! Segments of one key each.

use marginals::Model;
use marginals::potential::Dot;
use marginals::prior::Uniform;
use marginals::question::{Entropy, LogCount, LogPartition, Marginals};
use marginals::structure::{Chain, SemiMarkov, Structure};
use marginals_testkit::edge_sets::EdgeSet;
use marginals_testkit::generate::Random;
use ndarray::{Array4, ArrayD, IxDyn};

use super::harness::{Flavour, Setting, agrees, draws_follow, for_cases, gradients_agree};

struct SegmentSetting {
    sizes: [usize; 4],
    longest: usize,
    lengths: Option<Vec<usize>>,
    own: Vec<(&'static str, ArrayD<f64>)>,
}

impl SegmentSetting {
    fn draw(random: &mut Random, flavour: Flavour) -> Box<dyn Setting> {
        let size = |random: &mut Random, most| random.integer(1, most) as usize;
        let (b, h) = (size(random, 2), size(random, 2));
        let (n, m) = (random.integer(0, 4) as usize, size(random, 3));
        let longest = size(random, 5);
        let lengths = random
            .chance(0.5)
            .then(|| (0..b).map(|_| random.integer(0, n as i64) as usize).collect());
        let mut own = Vec::new();
        let mut tensor = |random: &mut Random, name, rest: &[usize]| {
            if !random.chance(0.6) {
                return;
            }
            let mut shape = vec![*random.pick(&[1, b]), *random.pick(&[1, h])];
            shape.extend(rest);
            let all = ArrayD::from_shape_simple_fn(IxDyn(&shape), || flavour.score(random));
            own.push((name, all));
        };
        tensor(random, "durations", &[longest, m]);
        tensor(random, "transitions", &[m, m]);
        tensor(random, "start", &[m]);
        tensor(random, "end", &[m]);
        Box::new(Self { sizes: [b, h, n, m], longest, lengths, own })
    }

    fn own_score(
        &self,
        own: &[ArrayD<f64>],
        name: &str,
        (b, h): (usize, usize),
        rest: &[usize],
    ) -> f64 {
        let Some(index) = self.own.iter().position(|(own, _)| *own == name) else { return 0.0 };
        let of = &own[index];
        let at = |axis: usize, index: usize| if of.shape()[axis] == 1 { 0 } else { index };
        let full: Vec<usize> = [at(0, b), at(1, h)].iter().chain(rest).copied().collect();
        of[IxDyn(&full)]
    }
}

/// Every way to cut `left` queries into segments with keys.
fn segmentations(left: usize, longest: usize, keys: usize) -> Vec<Vec<(usize, usize)>> {
    if left == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for length in 1..=longest.min(left) {
        for key in 0..keys {
            for rest in segmentations(left - length, longest, keys) {
                all.push(std::iter::once((length, key)).chain(rest).collect());
            }
        }
    }
    all
}

impl Setting for SegmentSetting {
    fn sizes(&self) -> [usize; 4] {
        self.sizes
    }

    fn own(&self) -> Vec<(&'static str, ArrayD<f64>)> {
        self.own.clone()
    }

    fn structure(&self, own: &[ArrayD<f64>]) -> Box<dyn Structure<f64>> {
        let mut built = SemiMarkov::new(self.longest);
        for ((name, _), values) in self.own.iter().zip(own) {
            let values = values.clone();
            built = match *name {
                "durations" => built.with_durations(values).unwrap(),
                "transitions" => built.with_transitions(values).unwrap(),
                "start" => built.with_start(values).unwrap(),
                _ => built.with_end(values).unwrap(),
            };
        }
        if let Some(lengths) = &self.lengths {
            built = built.with_lengths(lengths);
        }
        Box::new(built)
    }

    fn sets(&self, place: (usize, usize), _: usize, own: &[ArrayD<f64>]) -> Vec<EdgeSet> {
        let n = self.lengths.as_ref().map_or(self.sizes[2], |lengths| lengths[place.0]);
        let score = |name: &str, rest: &[usize]| self.own_score(own, name, place, rest);
        segmentations(n, self.longest, self.sizes[3])
            .into_iter()
            .map(|segments| {
                let keys =
                    segments.iter().flat_map(|&(length, key)| std::iter::repeat_n(key, length));
                let mut total = 0.0;
                if let (Some(first), Some(last)) = (segments.first(), segments.last()) {
                    total += score("start", &[first.1]) + score("end", &[last.1]);
                }
                for &(length, key) in &segments {
                    total += score("durations", &[length - 1, key]);
                }
                for pair in segments.windows(2) {
                    total += score("transitions", &[pair[0].1, pair[1].1]);
                }
                EdgeSet { edges: keys.enumerate().collect(), own: total }
            })
            .collect()
    }
}

#[test]
fn agrees_with_enumeration() {
    for_cases(1_000, SegmentSetting::draw, agrees);
}

#[test]
fn gradients_agree_with_finite_differences() {
    for_cases(300, SegmentSetting::draw, gradients_agree);
}

#[test]
fn draws_follow_the_posterior() {
    let mut random = Random::new(3);
    let own = vec![
        ("transitions", ArrayD::from_shape_simple_fn(IxDyn(&[1, 2, 3, 3]), || random.normal())),
        ("durations", ArrayD::from_shape_simple_fn(IxDyn(&[1, 1, 2, 3]), || random.normal())),
    ];
    let setting = SegmentSetting { sizes: [1, 2, 4, 3], longest: 2, lengths: None, own };
    draws_follow(&setting, Flavour::Ordinary, &mut random);
}

/// Segments of one step are a chain.
#[test]
fn of_length_one_it_is_a_chain() {
    let mut random = Random::new(1);
    let mut draw = |nodes| Array4::from_shape_simple_fn((2, 2, nodes, 3), || random.normal());
    let (q, k) = (draw(60), draw(11));
    let transitions = ArrayD::from_shape_simple_fn(IxDyn(&[11, 11]), || random.normal());
    let questions = (LogPartition, Entropy, Marginals);
    let chain = Model::new(
        Chain::new().with_transitions(transitions.clone()).unwrap(),
        Uniform,
        Dot::scaled(3),
    );
    let segments = Model::new(
        SemiMarkov::new(1).with_transitions(transitions).unwrap(),
        Uniform,
        Dot::scaled(3),
    );
    let (z, entropy, p) = chain.posterior(q.view(), k.view()).unwrap().ask(questions).unwrap();
    let (own_z, own_entropy, own_p) =
        segments.posterior(q.view(), k.view()).unwrap().ask(questions).unwrap();
    assert!((&z - &own_z).iter().all(|x| x.abs() < 1e-9));
    assert!((&entropy - &own_entropy).iter().all(|x| x.abs() < 1e-9));
    assert!((&p - &own_p).iter().all(|x| x.abs() < 1e-11));
}

/// Compositions of n with parts up to L, coloured with m keys: c_n = m Σ_d c_n−d.
#[test]
fn counts_are_compositions() {
    let (n, m, longest) = (200, 9, 7);
    let q = Array4::<f64>::zeros((1, 1, n, 1));
    let k = Array4::<f64>::zeros((1, 1, m, 1));
    let mut logs = vec![0.0f64];
    for t in 1..=n {
        let before = &logs[t.saturating_sub(longest)..t];
        let max = before.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = before.iter().map(|x| (x - max).exp()).sum();
        logs.push((m as f64).ln() + max + sum.ln());
    }
    let model = Model::new(SemiMarkov::new(longest), Uniform, Dot::new(1.0));
    let count = model.posterior(q.view(), k.view()).unwrap().ask(LogCount).unwrap();
    assert!((count[[0, 0, 0]] - logs[n]).abs() < 1e-9);
}
