//! Matchings.

use marginals::potential::{Dot, Scores};
use marginals::prior::{Bias, Uniform};
use marginals::question::{
    Entropy, JointMarginals, KBest, LogCount, LogPartition, Map, Marginals, MaxMarginals, Samples,
};
use marginals::structure::{Matching, Structure};
use marginals::{Error, Model};
use marginals_testkit::edge_sets::{EdgeSet, assignments, edges};
use marginals_testkit::generate::Random;
use ndarray::{Array2, Array4, ArrayD};

use super::harness::{
    Flavour, Setting, agrees, draws_follow, for_cases, gradients_agree, ties_go_to_the_first,
};

struct MatchingSetting {
    sizes: [usize; 4],
    lengths: Option<[Vec<usize>; 2]>,
}

impl MatchingSetting {
    fn draw(random: &mut Random, _: Flavour) -> Box<dyn Setting> {
        let size = |random: &mut Random, most| random.integer(1, most) as usize;
        let (b, h) = (size(random, 3), size(random, 2));
        let (n, m) = match random.chance(0.5) {
            true => (random.integer(0, 4) as usize, random.integer(0, 5) as usize),
            false => (random.integer(0, 5) as usize, random.integer(0, 3) as usize),
        };
        let mut below = |most: usize| -> Vec<usize> {
            (0..b).map(|_| random.integer(0, most as i64) as usize).collect()
        };
        let lengths = [below(n), below(m)];
        let lengths = random.chance(0.5).then_some(lengths);
        Box::new(Self { sizes: [b, h, n, m], lengths })
    }
}

impl Setting for MatchingSetting {
    fn sizes(&self) -> [usize; 4] {
        self.sizes
    }

    fn own(&self) -> Vec<(&'static str, ArrayD<f64>)> {
        Vec::new()
    }

    fn structure(&self, _: &[ArrayD<f64>]) -> Box<dyn Structure<f64>> {
        Box::new(match &self.lengths {
            Some([queries, keys]) => Matching::new().with_lengths(queries, keys),
            None => Matching::new(),
        })
    }

    fn sets(&self, place: (usize, usize), _: usize, _: &[ArrayD<f64>]) -> Vec<EdgeSet> {
        let [_, _, n, m] = self.sizes;
        let lengths =
            self.lengths.as_ref().map(|[queries, keys]| (queries[place.0], keys[place.0]));
        let (n, m) = lengths.unwrap_or((n, m));
        let is_matching = |keys: &Vec<Option<usize>>| {
            let picked: Vec<usize> = keys.iter().flatten().copied().collect();
            let apart = (0..m).all(|key| picked.iter().filter(|&&own| own == key).count() <= 1);
            apart && picked.len() == n.min(m)
        };
        let all = assignments(n, m).into_iter().filter(is_matching);
        all.map(|keys| EdgeSet { edges: edges(&keys), own: 0.0 }).collect()
    }
}

#[test]
fn agrees_with_enumeration() {
    for_cases(1_000, MatchingSetting::draw, agrees);
}

#[test]
fn gradients_agree_with_finite_differences() {
    for_cases(300, MatchingSetting::draw, gradients_agree);
}

#[test]
fn equally_good_matchings_go_in_order() {
    for_cases(500, MatchingSetting::draw, |setting, flavour, random| match flavour {
        Flavour::Ties => ties_go_to_the_first(setting, random),
        _ => Ok(()),
    });
}

#[test]
fn draws_follow_the_posterior() {
    for (n, m) in [(4, 4), (3, 5), (4, 2)] {
        let setting = MatchingSetting { sizes: [1, 2, n, m], lengths: None };
        draws_follow(&setting, Flavour::Ordinary, &mut Random::new(17));
    }
}

fn log_count(possible: &Array2<bool>) -> f64 {
    let (n, m) = possible.dim();
    let mask = possible.mapv(|x| if x { 0.0 } else { f64::NEG_INFINITY });
    let mask = mask.insert_axis(ndarray::Axis(0)).insert_axis(ndarray::Axis(0));
    let q = Array4::<f64>::zeros((1, 1, n, 1));
    let k = Array4::<f64>::zeros((1, 1, m, 1));
    let model = Model::new(Matching::new(), Bias::new(mask.view()), Dot::new(1.0));
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let (count, log_z) = posterior.ask((LogCount, LogPartition)).unwrap();
    assert_eq!(count, log_z);
    count[[0, 0, 0]]
}

fn log_factorial(n: usize) -> f64 {
    (1..=n).map(|i| (i as f64).ln()).sum()
}

/// n! of a square, m!/(m − n)! of a rectangle, either way round.
#[test]
fn counts_are_falling_factorials() {
    for (n, m) in [(12, 12), (12, 14), (3, 200), (0, 4), (1, 1)] {
        let expected = log_factorial(m) - log_factorial(m - n);
        for sizes in [(n, m), (m, n)] {
            let found = log_count(&Array2::from_elem(sizes, true));
            assert!((found - expected).abs() < 1e-11, "{sizes:?}: {found} for {expected}");
        }
    }
}

/// Permanents of matrices of 0 and 1 that have a name: derangements (OEIS A000166), the ménage numbers
/// (A000179), Fibonacci numbers of the tridiagonal ones (A000045), and permutations that move nothing by
/// more than two places (A002524).
#[test]
fn counts_are_known_permanents() {
    type Case = (&'static str, fn(usize, usize, usize) -> bool, &'static [(usize, f64)]);
    let cases: [Case; 4] = [
        ("derangements", |_, i, j| i != j, &[(4, 9.0), (8, 14_833.0), (12, 176_214_841.0)]),
        (
            "ménage",
            |n, i, j| i != j && (i + 1) % n != j,
            &[(3, 1.0), (5, 13.0), (8, 4_738.0), (12, 59_216_642.0)],
        ),
        ("tridiagonal", |_, i, j| i.abs_diff(j) <= 1, &[(4, 5.0), (12, 233.0)]),
        ("two places", |_, i, j| i.abs_diff(j) <= 2, &[(4, 14.0), (7, 172.0), (10, 2_177.0)]),
    ];
    for (name, rule, counts) in cases {
        for &(n, expected) in counts {
            let found = log_count(&Array2::from_shape_fn((n, n), |(i, j)| rule(n, i, j))).exp();
            assert!((found / expected - 1.0).abs() < 1e-12, "{name} of {n}: {found}");
        }
    }
}

/// Two queries that need the one key that both may have.
#[test]
fn the_impossible_has_no_matching() {
    let possible = Array2::from_shape_fn((3, 3), |(i, j)| i == 2 || j == 0);
    assert_eq!(log_count(&possible), f64::NEG_INFINITY);
    let mask = possible.mapv(|x| if x { 0.0 } else { f64::NEG_INFINITY });
    let mask = mask.insert_axis(ndarray::Axis(0)).insert_axis(ndarray::Axis(0));
    let x = Array4::<f64>::zeros((1, 1, 3, 1));
    let model = Model::new(Matching::new(), Bias::new(mask.view()), Dot::new(1.0));
    let posterior = model.posterior(x.view(), x.view()).unwrap();
    let (marginals, map, highest, entropy) =
        posterior.ask((Marginals, Map, MaxMarginals, Entropy)).unwrap();
    assert!(marginals.iter().all(|&p| p == 0.0) && map.iter().all(|&key| key == -1));
    assert!(highest.iter().all(|&x| x == f64::NEG_INFINITY) && entropy[[0, 0, 0]] == 0.0);
}

fn random_scores(n: usize, m: usize, random: &mut Random) -> Array4<f64> {
    Array4::from_shape_simple_fn((1, 1, n, m), || random.normal())
}

/// Sums over more than twelve are refused with the limit and the way out; the best is found all the same.
#[test]
fn larger_problems_have_a_best_matching_and_no_sums() {
    let mut random = Random::new(3);
    let scores = random_scores(13, 40, &mut random);
    let keys = Array4::<f64>::zeros((1, 1, 40, 0));
    let model = Model::new(Matching::new(), Uniform, Scores);
    let posterior = model.posterior(scores.view(), keys.view()).unwrap();
    let (map, highest) = posterior.ask((Map, MaxMarginals)).unwrap();
    let best: f64 = (0..13).map(|i| scores[[0, 0, i, map[[0, 0, i]] as usize]]).sum();
    let most = highest.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    assert!((best - most).abs() < 1e-12);
    let refusals = [
        posterior.ask(LogPartition).err(),
        posterior.ask((Map, Entropy)).err(),
        posterior.ask(Samples { count: 1, seed: 0 }).err(),
        posterior.ask(KBest(2)).err(),
        posterior.ask(LogCount).err(),
        posterior.ask(JointMarginals { edge: (0, 0) }).err(),
        posterior.pass(Marginals).err(),
        posterior.cross_entropy(&posterior).err(),
    ];
    for refused in refusals {
        let refused = refused.expect("sums are out of reach");
        assert!(matches!(refused, Error::Value { .. }), "{refused}");
        let told = refused.to_string();
        for part in ["matching", "13 queries and 40 keys", "12", "entropic", "map"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
    // With lengths within the limit they are not.
    let short = Matching::new().with_lengths(&[12], &[40]);
    let model = Model::new(short, Uniform, Scores);
    model.posterior(scores.view(), keys.view()).unwrap().ask(LogPartition).unwrap();
}

#[test]
fn lengths_beyond_the_sizes_are_refused_by_name() {
    let x = Array4::<f64>::zeros((1, 1, 3, 1));
    for (queries, keys, name) in [(4, 3, "`lengths`"), (3, 5, "`key-lengths`")] {
        let structure = Matching::new().with_lengths(&[queries], &[keys]);
        let model = Model::new(structure, Uniform, Dot::new(1.0));
        let told = model.posterior(x.view(), x.view()).unwrap_err().to_string();
        assert!(told.contains(name), "{told}");
    }
}
