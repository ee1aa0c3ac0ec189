//! Nodes at other positions than their indices.

use marginals::potential::{Dot, Rotary, RotaryPairs};
use marginals::prior::{
    Alibi, BetaGeometric, Causal, Combine, Directions, GeneralizedGaussian, Geometric, Laplace,
    Prior, RelativeBuckets, Window,
};
use marginals::question::LogPartition;
use marginals::structure::EachQueryPicksOne;
use marginals::{Block, Error, Model, Positions, TileMut};
use ndarray::{Array2, Array4, s};

/// log w of `keys` of the first head.
pub fn log_weights(
    prior: &dyn Prior<f64>,
    positions: Positions,
    keys: std::ops::Range<usize>,
) -> Array2<f64> {
    let (rows, columns) = (positions.queries, keys.len());
    let block = Block { batch: 0, head: 0, queries: 0..rows, keys, positions };
    let mut weights = vec![0.0; rows * columns];
    prior.add_log_weights(&block, TileMut::new(&mut weights, rows, columns, columns));
    Array2::from_shape_vec((rows, columns), weights).expect("one per edge")
}

/// Every prior that reads positions.
fn positional() -> Vec<Box<dyn Prior<f64>>> {
    let table = Array2::from_shape_fn((8, 1), |(bucket, _)| (bucket as f64).sin());
    vec![
        Box::new(Causal),
        Box::new(Window { left: 2, right: 1 }),
        Box::new(Geometric::new(0.2)),
        Box::new(Alibi::new(&[0.3])),
        Box::new(Laplace::new(2.5)),
        Box::new(GeneralizedGaussian::new(3.0, 1.5)),
        Box::new(BetaGeometric::new(1.5, 2.0)),
        Box::new(RelativeBuckets::new(table, 16, Directions::Both)),
    ]
}

/// A shard of the keys that says where it starts has the log-weights of those keys.
#[test]
fn a_shard_of_the_keys_has_its_columns() {
    let whole = Positions { queries: 5, keys: 12, query_offset: 4, ..Positions::default() };
    for prior in positional() {
        let expected = log_weights(&*prior, whole, 0..12);
        let shard = Positions { keys: 5, key_offset: 7, ..whole };
        let own = log_weights(&*prior, shard, 0..5);
        assert_eq!(own, expected.slice(s![.., 7..]), "{}", prior.name());
        let block = |keys, positions| Block { batch: 0, head: 0, queries: 1..3, keys, positions };
        let (own, expected) = (block(1..4, shard), block(8..11, whole));
        assert_eq!(prior.coverage(&own), prior.coverage(&expected), "{}", prior.name());
        let (live, within) = (prior.live_keys(&own), prior.live_keys(&expected));
        assert_eq!(live.len(), within.len(), "{}", prior.name());
        assert!(live.is_empty() || live.start + 7 == within.start, "{}", prior.name());
    }
}

/// The normalisers of two shards add up to that of the whole, positions read by the potential too.
#[test]
fn shards_add_up() {
    let nodes = |count: usize, seed: usize| {
        let number = |i: usize, d: usize| ((11 * seed + 5 * i + 3 * d) as f64).sin();
        Array4::from_shape_fn((1, 1, count, 4), |(_, _, i, d)| number(i, d))
    };
    let (q, k) = (nodes(5, 1), nodes(9, 2));
    for pairs in [RotaryPairs::HalfSplit, RotaryPairs::Interleaved] {
        let model = || {
            let prior = Causal.and(Geometric::new(0.1));
            let potential = Rotary::new(Dot::new(0.5), 100.0, pairs);
            Model::new(EachQueryPicksOne, prior, potential).with_query_offset(4)
        };
        let log_partition = |model: Model<_, _, _>, k: ndarray::ArrayView4<'_, f64>| {
            model.posterior(q.view(), k).expect("a posterior").ask(LogPartition).expect("log Z")
        };
        let whole = log_partition(model(), k.view());
        let first = log_partition(model(), k.slice(s![.., .., ..6, ..]));
        let second = log_partition(model().with_key_offset(6), k.slice(s![.., .., 6.., ..]));
        for ((whole, a), b) in whole.iter().zip(&first).zip(&second) {
            assert!((whole - (a.exp() + b.exp()).ln()).abs() < 1e-12, "{whole} {a} {b}");
        }
    }
}

#[test]
fn positions_that_have_no_number_of_their_own_are_refused() {
    let nodes = Array4::<f64>::ones((1, 1, 2, 2));
    let model = || Model::new(EachQueryPicksOne, Causal, Dot::new(1.0));
    for (model, name) in [
        (model().with_query_offset(i64::MIN), "query-offset"),
        (model().with_key_offset((1 << 52) + 1), "key-offset"),
    ] {
        let Err(error) = model.posterior(nodes.view(), nodes.view()) else { panic!("no refusal") };
        assert!(matches!(error, Error::Value { argument, .. } if argument == name));
    }
}
