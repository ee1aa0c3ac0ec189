//! An impossible edge stays impossible, whatever its nodes hold.

use marginals::potential::Dot;
use marginals::prior::{
    Adjacency, Bias, Causal, Combine, Directions, FromFunction, Geometric, KeyBias, Prior,
    RelativeBuckets, Segments, Window,
};
use marginals::question::{Entropy, Kl, LogEvidence, LogPartition, Marginals, Mean};
use marginals::structure::EachQueryPicksOne;
use marginals::{Block, Model, Positions, TileMut};
use ndarray::{Array2, Array3, Array4};

const HIDDEN: usize = 2;
const NODES: usize = 6;

/// −∞ for key 2, another number elsewhere.
fn weight(j: usize) -> f64 {
    if j == HIDDEN { f64::NEG_INFINITY } else { 0.25 * j as f64 }
}

/// Every prior that can hide a key, each hiding the same one.
fn hiding() -> Vec<Box<dyn Prior<f64>>> {
    let others = (0..NODES).filter(|j| *j != HIDDEN);
    let indptr: Vec<usize> = (0..=NODES).map(|i| i * NODES).collect();
    let every: Vec<usize> = (0..NODES).flat_map(|_| 0..NODES).collect();
    let weights = every.iter().map(|&j| weight(j)).collect();
    let sparse_indptr = (0..=NODES).map(|i| i * (NODES - 1)).collect();
    let sparse = (0..NODES).flat_map(|_| others.clone()).collect();
    let bias = Array4::from_shape_fn((1, 1, NODES, NODES), |(.., j)| weight(j));
    let segments = |hidden: i64| {
        Array2::from_shape_fn((1, NODES), |(_, j)| if j == HIDDEN { hidden } else { 0 })
    };
    vec![
        Box::new(Bias::new(bias.clone())),
        Box::new(Bias::new(bias.slice(ndarray::s![.., .., ..1, ..]).to_owned())),
        Box::new(KeyBias::new(Array3::from_shape_fn((1, 1, NODES), |(.., j)| weight(j)))),
        Box::new(Adjacency::weighted(indptr, every, weights).expect("a graph")),
        Box::new(Adjacency::new(sparse_indptr, sparse).expect("a graph")),
        Box::new(Segments::new(Array2::zeros((1, NODES)), segments(1))),
        Box::new(FromFunction(|_, _, _, j: usize| weight(j))),
        Box::new(Geometric::new(0.1).and(Bias::new(bias.clone()))),
        Box::new(Bias::new(bias).and(Geometric::new(0.1))),
    ]
}

fn block() -> Block {
    let positions = Positions { queries: NODES, keys: NODES, ..Positions::default() };
    Block { batch: 0, head: 0, queries: 0..NODES, keys: 0..NODES, positions }
}

#[test]
fn weights_of_minus_infinity_overwrite_scores() {
    for prior in hiding() {
        for garbage in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut scores = vec![garbage; NODES * NODES];
            prior.add_log_weights(&block(), TileMut::new(&mut scores, NODES, NODES, NODES));
            for row in scores.chunks(NODES) {
                assert_eq!(row[HIDDEN], f64::NEG_INFINITY, "{} on {garbage}", prior.name());
            }
        }
    }
    // Those that hide by position.
    let table = Array2::from_shape_fn((2, 1), |(bucket, _)| weight(HIDDEN * bucket));
    let by_position: [Box<dyn Prior<f64>>; 3] = [
        Box::new(Causal),
        Box::new(Window { left: 0, right: 0 }),
        Box::new(RelativeBuckets::new(table, 4, Directions::Behind)),
    ];
    for prior in by_position {
        let mut scores = vec![f64::NAN; NODES * NODES];
        prior.add_log_weights(&block(), TileMut::new(&mut scores, NODES, NODES, NODES));
        let mut before = vec![0.0; NODES * NODES];
        prior.add_log_weights(&block(), TileMut::new(&mut before, NODES, NODES, NODES));
        assert!(before.contains(&f64::NEG_INFINITY), "{}", prior.name());
        for (x, w) in scores.iter().zip(before) {
            assert_eq!(*x == f64::NEG_INFINITY, w == f64::NEG_INFINITY, "{}", prior.name());
        }
    }
}

/// What a key that nobody can pick holds changes no answer, with log-weights read apart (KL,
/// evidence) or not.
#[test]
fn garbage_in_a_hidden_key_reaches_no_answer() {
    let number = |h: usize, i: usize, d: usize| ((7 * h + 5 * i + 3 * d) as f64).sin();
    let nodes =
        |seed: usize| Array4::from_shape_fn((1, 1, NODES, 3), |(_, _, i, d)| number(seed, i, d));
    let (q, k, v) = (nodes(1), nodes(2), nodes(3));
    for prior in hiding() {
        let name = Prior::<f64>::name(&prior);
        let model = Model::new(EachQueryPicksOne, prior, Dot::new(0.7));
        let ask = |k: &Array4<f64>| {
            let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
            let questions = (Mean(v.view()), Entropy, Kl, LogEvidence, LogPartition, Marginals);
            let apart = posterior.ask(questions).expect("answers");
            (posterior.ask(Mean(v.view())).expect("the mean"), apart)
        };
        let expected = ask(&k);
        assert!(expected.0.iter().chain(&expected.1.2).all(|x| x.is_finite()), "{name}");
        for garbage in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX] {
            let mut k = k.clone();
            k.slice_mut(ndarray::s![.., .., HIDDEN, ..]).fill(garbage);
            assert_eq!(ask(&k), expected, "{name} with {garbage}");
        }
    }
}
