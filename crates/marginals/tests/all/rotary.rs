//! Rotary positions far from where text begins, against sines and cosines of each position itself.

use marginals::Model;
use marginals::potential::{Dot, Rotary, RotaryPairs};
use marginals::prior::Uniform;
use marginals::question::Marginals;
use marginals::structure::EachQueryPicksOne;
use marginals_testkit::generate::Random;
use marginals_testkit::reference::{Layout, Rotary as Plain};
use ndarray::{Array4, s};

/// Positions on both sides of zero, across multiples of every block of positions, and far out, where an
/// angle itself is only known to 1e-16 of its size.
#[test]
fn angles_are_those_of_the_position_wherever_it_is() {
    const NODES: usize = 40;
    const WIDTH: usize = 8;
    let mut random = Random::new(11);
    let mut draw = || Array4::from_shape_simple_fn((1, 1, NODES, WIDTH), || random.normal());
    let (q, k) = (draw(), draw());
    for (pairs, layout) in [
        (RotaryPairs::HalfSplit, Layout::HalfSplit),
        (RotaryPairs::Interleaved, Layout::Interleaved),
    ] {
        let plain = Plain { layout, base: 100.0, features: WIDTH };
        for (offset, tolerance) in [(-33, 1e-13), (0, 1e-13), (7, 1e-13), (1_000_003, 1e-9)] {
            let rotary = Rotary::new(Dot::new(0.5), 100.0, pairs);
            let model = Model::new(EachQueryPicksOne, Uniform, rotary).with_query_offset(offset);
            let found = model.posterior(q.view(), k.view()).unwrap().ask(Marginals).unwrap();
            let row = |x: &Array4<f64>, i: usize, position: i64| {
                plain.turn(x.slice(s![0, 0, i, ..]).as_slice().unwrap(), position)
            };
            for i in 0..NODES {
                let query = row(&q, i, i as i64 + offset);
                let weights: Vec<f64> = (0..NODES)
                    .map(|j| {
                        let key = row(&k, j, j as i64);
                        let dot: f64 = query.iter().zip(&key).map(|(a, b)| a * b).sum();
                        f64::exp(0.5 * dot)
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                for (j, weight) in weights.iter().enumerate() {
                    let (p, expected) = (found[[0, 0, i, j]], weight / total);
                    assert!((p - expected).abs() <= tolerance, "{pairs:?} {offset}: {i} {j} {p}");
                }
            }
        }
    }
}
