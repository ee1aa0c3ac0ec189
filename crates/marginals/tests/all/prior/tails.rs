//! Bounds of the mass of keys out of sight, against sums over them.

use marginals::prior::{
    Adjacency, Alibi, BetaGeometric, Bias, Causal, Combine, Directions, FromFunction,
    GeneralizedGaussian, Geometric, Laplace, OfDistance, Prior, Product, RelativeBuckets, Segments,
    Survival, Uniform, Window,
};
use marginals::{Block, Positions, Reference, TileMut, distance};
use ndarray::{Array2, Array3, Array4};

const QUERIES: usize = 6;
const KEYS: usize = 300;

/// Priors with a bound, and how much above the sum it may lie (in nats); ∞ is any amount.
fn bounded() -> Vec<(Box<dyn Prior<f64>>, f64)> {
    const ANY: f64 = f64::INFINITY;
    let table = Array2::from_shape_fn((16, 1), |(bucket, _)| (2.0 * bucket as f64).sin());
    let indices = || (0..40 * QUERIES).map(|e| (e * e + 7 * e) % KEYS).collect::<Vec<_>>();
    let indptr = || (0..=QUERIES).map(|i| 40 * i).collect::<Vec<_>>();
    let weights = || (0..40 * QUERIES).map(|e| (e as f64).sin()).collect::<Vec<_>>();
    let weighted = || Adjacency::weighted(indptr(), indices(), weights()).expect("a graph");
    let labels = |count: usize| Array2::from_shape_fn((1, count), |(_, i)| (i / 50) as i64);
    let gates = |log: fn(usize) -> f64| Array3::from_shape_fn((1, 1, KEYS), |(_, _, j)| log(j));
    // Open gates, half-open ones, and some that forget all.
    let uneven = |j: usize| match j % 11 {
        0 | 4 => 0.0,
        7 if j.is_multiple_of(5) => f64::NEG_INFINITY,
        residue => -0.17 * residue as f64,
    };
    let steps = || {
        let table = Array2::from_shape_fn((16, 1), |(bucket, _)| (2.0 * bucket as f64).sin());
        RelativeBuckets::new(table, 100, Directions::Behind)
    };
    vec![
        (Box::new(Uniform), 1e-9),
        (Box::new(Causal), 1e-9),
        (Box::new(Window { left: 30, right: 4 }), 1e-9),
        (Box::new(Segments::new(labels(QUERIES), labels(KEYS))), 1e-9),
        (Box::new(Adjacency::new(indptr(), indices()).expect("a graph")), 1e-9),
        (Box::new(weighted()), 1e-9),
        (Box::new(Geometric::new(0.03)), 1e-9),
        (Box::new(Geometric::new(0.0)), 1e-9),
        (Box::new(Alibi::new(&[0.02])), 1e-9),
        (Box::new(Alibi::new(&[-0.02])), 1e-9),
        (Box::new(Laplace::new(25.0)), 1e-9),
        (Box::new(BetaGeometric::new(0.7, 3.0)), 1e-5),
        (Box::new(BetaGeometric::new(12.0, 400.0)), 1e-5),
        (Box::new(GeneralizedGaussian::new(20.0, 0.5)), ANY),
        (Box::new(GeneralizedGaussian::new(20.0, 1.0)), 1.0),
        (Box::new(GeneralizedGaussian::new(20.0, 2.5)), 1.0),
        (Box::new(RelativeBuckets::new(table, 100, Directions::Both)), ANY),
        (Box::new(Survival::new(gates(|_| -0.03))), ANY),
        (Box::new(Survival::new(gates(|_| 0.0))), 1e-9),
        (Box::new(Survival::new(gates(uneven))), ANY),
        (Box::new(Alibi::new(&[0.7]).over(distance::Survival::new(gates(uneven)))), ANY),
        (Box::new(Alibi::new(&[-0.7]).over(distance::Survival::new(gates(uneven)))), ANY),
        (Box::new(BetaGeometric::new(1.5, 2.0).over(distance::Survival::new(gates(uneven)))), ANY),
        (Box::new(steps().over(distance::Survival::new(gates(uneven)))), ANY),
        (Box::new(Causal.and(Geometric::new(0.05))), ANY),
        (Box::new(Geometric::new(0.05).and(Laplace::new(30.0))), ANY),
        (
            Box::new(Product::<f64>(vec![
                Box::new(Window { left: 9, right: 0 }),
                Box::new(weighted()),
            ])),
            ANY,
        ),
        (Box::new(Product::<f64>(vec![])), 1e-9),
    ]
}

fn log_sum(terms: &[f64]) -> f64 {
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match largest == f64::NEG_INFINITY {
        true => largest,
        false => largest + terms.iter().map(|x| (x - largest).exp()).sum::<f64>().ln(),
    }
}

#[test]
fn no_sum_lies_above_its_bound() {
    for (prior, slack) in bounded() {
        let mut gap = f64::NEG_INFINITY;
        for offset in [0, 120, 295, 400, -50, 1_000_000] {
            for reference in [Reference::Nothing, Reference::OfQuery] {
                let positions = Positions {
                    queries: QUERIES,
                    keys: KEYS,
                    query_offset: offset,
                    key_offset: 0,
                    reference,
                };
                for keys in [0..0, 0..1, 0..50, 0..KEYS, 100..117, 299..KEYS] {
                    for queries in [0..1, 5..6, 0..QUERIES] {
                        let block =
                            Block { batch: 0, head: 0, queries, keys: keys.clone(), positions };
                        let (rows, columns) = (block.queries.len(), keys.len());
                        let mut added = vec![0.0; rows * columns];
                        let tile = TileMut::new(&mut added, rows, columns, columns);
                        prior.add_log_weights(&block, tile);
                        let largest = added.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        let bound = prior.upper_bound(&block).expect("a bound");
                        assert!(bound >= largest - 1e-12, "{} {block:?}", prior.name());
                        let sums = (0..rows).map(|r| log_sum(&added[r * columns..][..columns]));
                        let sum = sums.fold(f64::NEG_INFINITY, f64::max);
                        let tail = prior.log_tail(&block).expect("a bound");
                        let room = 1e-13 * (1.0 + sum.abs());
                        let holds = tail >= sum - room || (sum == f64::NEG_INFINITY);
                        assert!(holds, "{} {block:?}: {tail} {sum}", prior.name());
                        if sum > f64::NEG_INFINITY {
                            gap = gap.max(tail - sum - 1e-9 * sum.abs());
                        }
                    }
                }
            }
        }
        assert!(gap <= slack, "{}: {gap} above the sum", prior.name());
    }
}

/// What nothing is known of says so, by itself and in a product.
#[test]
fn nothing_known_is_no_bound() {
    let positions = Positions { queries: 2, keys: 2, ..Positions::default() };
    let block = Block { batch: 0, head: 0, queries: 0..2, keys: 0..2, positions };
    let unknown: [Box<dyn Prior<f64>>; 3] = [
        Box::new(Bias::new(Array4::zeros((1, 1, 2, 2)))),
        Box::new(FromFunction(|_, _, _, _| 0.0)),
        Box::new(Causal.and(FromFunction(|_, _, _, _| 0.0))),
    ];
    for prior in unknown {
        assert_eq!((prior.upper_bound(&block), prior.log_tail(&block)), (None, None));
    }
}
