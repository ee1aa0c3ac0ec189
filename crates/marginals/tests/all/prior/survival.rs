//! Forget gates at their edges: gates of 0, gates that are none, keys without queries.

use marginals::prior::{Alibi, Coverage, OfDistance, Prior, Survival};
use marginals::question::{LogPartition, Mean};
use marginals::structure::EachQueryPicksOne;
use marginals::{Accumulator, Block, Model, Positions, Tile, TileMut, distance, potential::Dot};
use ndarray::{Array3, Array4, array};

use super::small;

const DEAD: f64 = f64::NEG_INFINITY;

fn block(lead: i64, queries: std::ops::Range<usize>, keys: std::ops::Range<usize>) -> Block {
    let positions = Positions { queries: 9, keys: 6, query_offset: lead, ..Positions::default() };
    Block { batch: 0, head: 0, queries, keys, positions }
}

/// Key 3 forgets all before it.
fn gates() -> Array3<f64> {
    array![[[-7.0, -1.0, -2.0, DEAD, -0.5, -0.25]]]
}

/// log w of six queries and six keys, by hand.
fn expected() -> [[f64; 6]; 6] {
    [
        [0.0, DEAD, DEAD, DEAD, DEAD, DEAD],
        [-1.0, 0.0, DEAD, DEAD, DEAD, DEAD],
        [-3.0, -2.0, 0.0, DEAD, DEAD, DEAD],
        [DEAD, DEAD, DEAD, 0.0, DEAD, DEAD],
        [DEAD, DEAD, DEAD, -0.5, 0.0, DEAD],
        [DEAD, DEAD, DEAD, -0.75, -0.25, 0.0],
    ]
}

/// Gates of 0 forget all before them, by themselves and under a function of what is forgotten; no
/// infinity is subtracted from another.
#[test]
fn gates_of_0_forget_everything() {
    let priors: [Box<dyn Prior<f64>>; 2] = [
        Box::new(Survival::new(gates())),
        Box::new(Alibi::new(&[1.0]).over(distance::Survival::new(gates()))),
    ];
    for prior in priors {
        for (queries, keys) in [(0..6, 0..6), (2..5, 1..4), (5..6, 0..6)] {
            let block = block(0, queries.clone(), keys.clone());
            let mut scores = vec![0.0; queries.len() * keys.len()];
            let tile = TileMut::new(&mut scores, queries.len(), keys.len(), keys.len());
            prior.add_log_weights(&block, tile);
            let rows = queries.clone().flat_map(|i| expected()[i][keys.clone()].to_vec());
            assert_eq!(scores, rows.collect::<Vec<_>>(), "{} {block:?}", prior.name());
        }
        let coverage = |lead, queries, keys| prior.coverage(&block(lead, queries, keys));
        assert_eq!(coverage(0, 3..6, 0..3), Coverage::Empty);
        assert_eq!(coverage(0, 0..3, 3..6), Coverage::Empty);
        assert_eq!(coverage(-9, 0..9, 0..6), Coverage::Empty);
        assert_eq!(coverage(0, 2..4, 0..3), Coverage::Weighted);
        assert_eq!(prior.live_keys(&block(0, 3..6, 0..6)), 3..6);
        assert_eq!(prior.live_keys(&block(0, 0..2, 0..6)), 0..2);
        assert_eq!(prior.upper_bound(&block(0, 4..6, 3..4)), Some(-0.5));
    }
}

/// Open gates cost nothing where all keys lie behind.
#[test]
fn open_gates_are_free() {
    let prior = Survival::new(Array3::<f64>::zeros((1, 1, 6)));
    let coverage = |queries, keys| Prior::<f64>::coverage(&prior, &block(0, queries, keys));
    assert_eq!(coverage(4..9, 0..5), Coverage::Free);
    assert_eq!(coverage(4..9, 0..6), Coverage::Weighted);
}

/// Gradients of gates are sums over the edges that they lie between, in blocks of any shape.
#[test]
fn gradients_add_up_over_blocks() {
    let prior = Survival::new(gates());
    let g = |i: usize, j: usize| (1.3 * i as f64 + 0.7 * j as f64).sin();
    let live = |i: usize, j: usize| expected()[i.min(5)][j] > DEAD;
    let sum = |blocks: &[(std::ops::Range<usize>, std::ops::Range<usize>)]| {
        let mut into = [Accumulator::<f64>::Small(vec![0.0; 6])];
        for (queries, keys) in blocks {
            let tile: Vec<f64> = queries
                .clone()
                .flat_map(|i| keys.clone().map(move |j| if live(i, j) { g(i, j) } else { 0.0 }))
                .collect();
            let tile = Tile::new(&tile, queries.len(), keys.len(), keys.len());
            let block = block(0, queries.clone(), keys.clone());
            prior.accumulate_gradient(&block, tile, &mut into);
        }
        small(&into[0])
    };
    let mut expected = vec![0.0; 6];
    for i in 0..9 {
        for j in (0..6).filter(|&j| live(i, j)) {
            expected[j + 1..=i.min(5)].iter_mut().for_each(|x| *x += g(i, j));
        }
    }
    let near = |found: Vec<f64>| found.iter().zip(&expected).all(|(x, y)| (x - y).abs() < 1e-13);
    assert!(near(sum(&[(0..9, 0..6)])));
    assert!(near(sum(&[(0..4, 0..2), (4..9, 0..2), (0..9, 2..5), (0..1, 5..6), (1..9, 5..6)])));
}

/// What is not a log of a gate, or not one for every key, is refused by its name and place.
#[test]
fn gates_that_are_none_are_refused() {
    let q = Array4::<f64>::ones((1, 2, 6, 4));
    let refuse = |gates: Array3<f64>, offset: i64, words: &[&str]| {
        let priors: [Box<dyn Prior<f64>>; 2] = [
            Box::new(Survival::new(gates.clone())),
            Box::new(Alibi::new(&[1.0]).over(distance::Survival::new(gates))),
        ];
        for prior in priors {
            let model = Model::new(EachQueryPicksOne, prior, Dot::scaled(4));
            let model = model.with_key_offset(offset);
            let error = model.posterior(q.view(), q.view()).expect_err("a refusal").to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    };
    let mut high = gates();
    high[[0, 0, 4]] = 0.5;
    refuse(high.clone(), 0, &["survival.log-gates[0, 0, 4]", "0.5", "at most 0"]);
    high[[0, 0, 1]] = f64::NAN;
    refuse(high, 0, &["survival.log-gates[0, 0, 1]", "NaN"]);
    refuse(Array3::zeros((1, 2, 1)), 0, &["survival.log-gates", "[1, 2, 6]", "[1, 2, 1]"]);
    refuse(Array3::zeros((1, 3, 6)), 0, &["survival.log-gates", "[1, 3, 6]"]);
    refuse(gates(), 3, &["key-offset", "survival"]);
}

/// A long sum of gates keeps the digits of what lies near a query.
#[test]
fn far_sums_keep_near_digits() {
    let n = 3_000;
    let mut gates = Array3::from_elem((1, 1, n), -0.1f64);
    gates.slice_mut(ndarray::s![.., .., ..n - 100]).fill(-1e3);
    let nodes = Array4::<f64>::zeros((1, 1, n, 1));
    let v = Array4::from_shape_fn((1, 1, n, 1), |x| x.2 as f64);
    let model = Model::new(EachQueryPicksOne, Survival::new(gates), Dot::scaled(1));
    let q = nodes.slice(ndarray::s![.., .., n - 1.., ..]);
    let model = model.with_query_offset(n as i64 - 1);
    let posterior = model.posterior(q, nodes.view()).unwrap();
    let (log_z, mean) = posterior.ask((LogPartition, Mean(v.view()))).unwrap();
    let weights: Vec<f64> = (0..=100).map(|d| (-0.1 * d as f64).exp()).collect();
    let z: f64 = weights.iter().sum();
    let far = weights.iter().enumerate().map(|(d, w)| w / z * (n - 1 - d) as f64).sum::<f64>();
    assert!((log_z[[0, 0, 0]] - z.ln()).abs() < 1e-9);
    assert!((mean[[0, 0, 0, 0]] - far).abs() < 1e-6, "{} {far}", mean[[0, 0, 0, 0]]);
}
