//! Monotone alignments.

use marginals::Model;
use marginals::potential::Dot;
use marginals::prior::Uniform;
use marginals::question::LogCount;
use marginals::structure::{MonotoneAlignment, Moves, Structure};
use marginals_testkit::edge_sets::{EdgeSet, assignments, edges};
use marginals_testkit::generate::Random;
use ndarray::{Array4, ArrayD};

use super::harness::{
    Flavour, Setting, agrees, draws_follow, for_cases, gradients_agree, ties_go_to_the_first,
};

struct AlignmentSetting {
    sizes: [usize; 4],
    lengths: Option<[Vec<usize>; 2]>,
    stays: bool,
    skips: Option<usize>,
    pinned: bool,
}

impl AlignmentSetting {
    fn draw(random: &mut Random, _: Flavour) -> Box<dyn Setting> {
        let size = |random: &mut Random, most| random.integer(1, most) as usize;
        let (b, h) = (size(random, 3), size(random, 2));
        let (n, m) = (random.integer(0, 4) as usize, random.integer(0, 5) as usize);
        let mut below = |most: usize| -> Vec<usize> {
            (0..b).map(|_| random.integer(0, most as i64) as usize).collect()
        };
        let lengths = [below(n), below(m)];
        let lengths = random.chance(0.5).then_some(lengths);
        let (stays, pinned) = (random.chance(0.5), random.chance(0.4));
        let skips = random.chance(0.5).then(|| random.integer(0, 2) as usize);
        Box::new(Self { sizes: [b, h, n, m], lengths, stays, skips, pinned })
    }
}

impl Setting for AlignmentSetting {
    fn sizes(&self) -> [usize; 4] {
        self.sizes
    }

    fn own(&self) -> Vec<(&'static str, ArrayD<f64>)> {
        Vec::new()
    }

    fn structure(&self, _: &[ArrayD<f64>]) -> Box<dyn Structure<f64>> {
        let moves = if self.stays { Moves::ForwardOrStay } else { Moves::Forward };
        let mut alignment = MonotoneAlignment::new(moves);
        if let Some(skips) = self.skips {
            alignment = alignment.with_skips(skips);
        }
        if self.pinned {
            alignment = alignment.pinned();
        }
        if let Some([queries, keys]) = &self.lengths {
            alignment = alignment.with_lengths(queries, keys);
        }
        Box::new(alignment)
    }

    fn sets(&self, place: (usize, usize), _: usize, _: &[ArrayD<f64>]) -> Vec<EdgeSet> {
        let [_, _, n, m] = self.sizes;
        let lengths =
            self.lengths.as_ref().map(|[queries, keys]| (queries[place.0], keys[place.0]));
        let (n, m) = lengths.unwrap_or((n, m));
        let is_possible = |keys: &Vec<Option<usize>>| {
            let Some(keys) = keys.iter().copied().collect::<Option<Vec<usize>>>() else {
                return false;
            };
            let steps = keys.windows(2).all(|pair| {
                let step = pair[1] as i64 - pair[0] as i64;
                step >= i64::from(!self.stays)
                    && self.skips.is_none_or(|skips| step <= skips as i64 + 1)
            });
            let pinned = match keys[..] {
                [first, .., last] => first == 0 && last == m - 1,
                [only] => only == 0 && only == m - 1,
                [] => true,
            };
            steps && (pinned || !self.pinned)
        };
        let all = assignments(n, m).into_iter().filter(is_possible);
        all.map(|keys| EdgeSet { edges: edges(&keys), own: 0.0 }).collect()
    }
}

#[test]
fn agrees_with_enumeration() {
    for_cases(1_000, AlignmentSetting::draw, agrees);
}

#[test]
fn gradients_agree_with_finite_differences() {
    for_cases(300, AlignmentSetting::draw, gradients_agree);
}

#[test]
fn equally_good_alignments_go_in_order() {
    for_cases(200, AlignmentSetting::draw, |setting, flavour, random| match flavour {
        Flavour::Ties => ties_go_to_the_first(setting, random),
        _ => Ok(()),
    });
}

#[test]
fn draws_follow_the_posterior() {
    for (stays, pinned) in [(true, false), (false, false), (true, true)] {
        let setting =
            AlignmentSetting { sizes: [1, 2, 3, 4], lengths: None, stays, skips: None, pinned };
        draws_follow(&setting, Flavour::Ordinary, &mut Random::new(7));
    }
}

/// M over N alignments forward, M + N − 1 over N with stays.
#[test]
fn counts_are_binomials() {
    let log_choose = |n: usize, k: usize| -> f64 {
        (0..k).map(|i| ((n - i) as f64).ln() - ((i + 1) as f64).ln()).sum()
    };
    let (n, m) = (40, 90);
    let q = Array4::<f64>::zeros((1, 1, n, 1));
    let k = Array4::<f64>::zeros((1, 1, m, 1));
    for (moves, expected) in
        [(Moves::Forward, log_choose(m, n)), (Moves::ForwardOrStay, log_choose(m + n - 1, n))]
    {
        let model = Model::new(MonotoneAlignment::new(moves), Uniform, Dot::new(1.0));
        let count = model.posterior(q.view(), k.view()).unwrap().ask(LogCount).unwrap();
        assert!((count[[0, 0, 0]] - expected).abs() < 1e-9, "{moves:?}");
    }
}
