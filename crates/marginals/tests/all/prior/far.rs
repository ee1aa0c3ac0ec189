//! Log-weights of nodes far from each other, relative to what they have in common.

use marginals::prior::{
    Alibi, BetaGeometric, Causal, Combine, Directions, GeneralizedGaussian, Geometric, Laplace,
    Prior, Product, RelativeBuckets,
};
use marginals::{Accumulator, Block, Positions, Real, Reference, Tile, TileMut};
use ndarray::Array2;

/// Functions of distance that all differ by head.
fn of_distance<T: Real>() -> Vec<Box<dyn Prior<T>>> {
    let table =
        Array2::from_shape_fn((16, 2), |(bucket, h)| (bucket as f64 + 0.3 * h as f64).sin());
    vec![
        Box::new(Geometric::per_head(&[0.2, 0.01])),
        Box::new(Alibi::new(&[0.3, -0.002])),
        Box::new(Laplace::per_head(&[2.5, 40.0])),
        Box::new(GeneralizedGaussian::per_head(&[3.0, 50.0], &[0.7, 1.0])),
        Box::new(BetaGeometric::per_head(&[1.5, 20.0], &[2.0])),
        Box::new(RelativeBuckets::new(table, 64, Directions::Both)),
        Box::new(Causal.and(Geometric::per_head(&[0.2, 0.01])).and(Laplace::new(7.0))),
        Box::new(Product::<T>(vec![
            Box::new(Alibi::new(&[0.3, 0.1])),
            Box::new(Geometric::new(0.05)),
        ])),
    ]
}

/// What is added to a tile of zeros.
fn added<T: Real>(prior: &dyn Prior<T>, block: &Block) -> Vec<T> {
    let (rows, columns) = (block.queries.len(), block.keys.len());
    let mut scores = vec![T::zero(); rows * columns];
    prior.add_log_weights(block, TileMut::new(&mut scores, rows, columns, columns));
    scores
}

fn references<T: Real>(prior: &dyn Prior<T>, block: &Block) -> Vec<f64> {
    let of_query = block.positions.reference == Reference::OfQuery;
    let mut all = vec![0.0; if of_query { block.queries.len() } else { block.keys.len() }];
    prior.add_references(block, &mut all);
    all
}

/// Blocks whose queries stand at, before and behind all of the keys.
fn blocks(offset: i64, reference: Reference) -> impl Iterator<Item = Block> {
    let positions =
        Positions { queries: 9, keys: 7, query_offset: offset, key_offset: 3, reference };
    let block = move |(head, queries, keys)| Block { batch: 0, head, queries, keys, positions };
    [(0, 0..9, 0..7), (1, 0..9, 0..7), (0, 2..6, 3..7), (1, 8..9, 0..1)].into_iter().map(block)
}

const OFFSETS: [i64; 7] = [0, 6, 40, -40, 1_000_003, -100_000_007, 1_000_000_009];

/// log w = reference + what is added: the references take nothing away.
#[test]
fn references_and_the_rest_are_the_log_weights() {
    for prior in of_distance::<f64>() {
        for offset in OFFSETS {
            for reference in [Reference::OfQuery, Reference::OfKey] {
                for block in blocks(offset, reference) {
                    let whole = Positions { reference: Reference::Nothing, ..block.positions };
                    let expected = added(&*prior, &Block { positions: whole, ..block.clone() });
                    let constants = references(&*prior, &block);
                    let columns = block.keys.len();
                    for (at, (rest, w)) in added(&*prior, &block).iter().zip(expected).enumerate() {
                        let of = match reference {
                            Reference::OfQuery => at / columns,
                            _ => at % columns,
                        };
                        let sum = rest + constants[of];
                        let close =
                            (sum - w).abs() <= 1e-14 * (1.0 + w.abs() + constants[of].abs());
                        assert!(sum == w || close, "{} {block:?}: {sum} {w}", prior.name());
                    }
                }
            }
        }
    }
}

/// What a posterior depends on is as exact far away as it is nearby, in the shorter format too.
#[test]
fn differences_keep_their_digits_far_away() {
    for (far, near) in of_distance::<f32>().into_iter().zip(of_distance::<f64>()) {
        for offset in OFFSETS {
            for block in blocks(offset, Reference::OfQuery) {
                let found = added(&*far, &block);
                let whole = Positions { reference: Reference::Nothing, ..block.positions };
                let exact = added(&*near, &Block { positions: whole, ..block.clone() });
                let columns = block.keys.len();
                for (found, exact) in found.chunks(columns).zip(exact.chunks(columns)) {
                    for c in 1..columns {
                        let (x, expected) = (f64::from(found[c] - found[0]), exact[c] - exact[0]);
                        // Of f64, what is left of 10⁹ steps.
                        let bound = 1e-6 * (1.0 + expected.abs()) + 1e-16 * exact[0].abs() * 4.0;
                        let same = expected.is_nan() || expected.is_infinite();
                        assert!(
                            same || (x - expected).abs() <= bound,
                            "{} {block:?}: {x} {expected}",
                            far.name()
                        );
                    }
                }
            }
        }
    }
}

/// A node beside another one has no reference: nothing changes, to the last bit.
#[test]
fn nearby_nodes_have_no_reference() {
    for prior in of_distance::<f32>() {
        for (queries, offset) in [(7, 3), (1, 9), (4, 6)] {
            let positions = Positions {
                queries,
                keys: 7,
                query_offset: offset,
                key_offset: 3,
                reference: Reference::OfQuery,
            };
            let block = Block { batch: 0, head: 1, queries: 0..queries, keys: 0..7, positions };
            assert!(references(&*prior, &block).iter().all(|x| *x == 0.0), "{}", prior.name());
            let whole = Positions { reference: Reference::Nothing, ..positions };
            let plain = added(&*prior, &Block { positions: whole, ..block.clone() });
            assert_eq!(added(&*prior, &block), plain, "{}", prior.name());
        }
    }
}

/// The reference of a node does not depend on the block it is seen in.
#[test]
fn references_belong_to_nodes() {
    for prior in of_distance::<f64>() {
        for reference in [Reference::OfQuery, Reference::OfKey] {
            let all: Vec<Block> = blocks(40, reference).collect();
            let whole = references(&*prior, &all[0]);
            let part = references(&*prior, &all[2]);
            let expected = match reference {
                Reference::OfQuery => &whole[2..6],
                _ => &whole[3..7],
            };
            assert_eq!(part, expected, "{}", prior.name());
            assert!(whole.iter().any(|x| *x != 0.0), "{}", prior.name());
        }
    }
}

/// Gradients of the numbers of a prior, of what is added and of the references.
type Gradients = (Vec<Vec<f64>>, Vec<Vec<f64>>);

fn gradients(prior: &dyn Prior<f64>, block: &Block, g: &[f64], of_references: &[f64]) -> Gradients {
    let columns = block.keys.len();
    let fresh = || -> Vec<Accumulator<'static, f64>> {
        let parameters = prior.parameters();
        parameters.iter().map(|p| Accumulator::Small(vec![0.0; p.len()])).collect()
    };
    let flat = |all: Vec<Accumulator<'static, f64>>| all.iter().map(super::small).collect();
    let (mut own, mut common) = (fresh(), fresh());
    prior.accumulate_gradient(block, Tile::new(g, block.queries.len(), columns, columns), &mut own);
    prior.accumulate_reference_gradient(block, of_references, &mut common);
    (flat(own), flat(common))
}

/// A prior of given numbers.
type Make = fn(&[f64]) -> Box<dyn Prior<f64>>;

/// Both gradients against finite differences of what they are gradients of.
#[test]
fn gradients_are_those_of_both_parts() {
    let makes: [(Make, &[f64]); 6] = [
        (|x| Box::new(Geometric::per_head(x)), &[0.2, 0.01]),
        (|x| Box::new(Alibi::new(x)), &[0.3, -0.2]),
        (|x| Box::new(Laplace::per_head(x)), &[2.5, 40.0]),
        (|x| Box::new(GeneralizedGaussian::per_head(&x[..2], &x[2..])), &[3.0, 50.0, 0.7, 1.3]),
        (|x| Box::new(BetaGeometric::per_head(&x[..2], &x[2..])), &[1.5, 20.0, 2.0, 5.0]),
        (|x| Box::new(Causal.and(Laplace::new(x[0])).and(Geometric::new(x[1]))), &[7.0, 0.2]),
    ];
    for (make, numbers) in makes {
        for offset in [0, 40, -40, 100_003] {
            for reference in [Reference::OfQuery, Reference::OfKey] {
                for block in blocks(offset, reference) {
                    let prior = make(numbers);
                    // An impossible edge takes no part.
                    let own = added(&*prior, &block);
                    let weight = |(k, x): (usize, &f64)| match x.is_finite() {
                        true => (k as f64 + 0.4).sin(),
                        false => 0.0,
                    };
                    let g: Vec<f64> = own.iter().enumerate().map(weight).collect();
                    let count = references(&*prior, &block).len();
                    let u: Vec<f64> = (0..count).map(|k| (3.0 * k as f64).cos()).collect();
                    let dot = |a: &[f64], b: &[f64]| -> f64 {
                        a.iter().zip(b).filter(|(a, _)| a.is_finite()).map(|(a, b)| a * b).sum()
                    };
                    let losses = |numbers: &[f64]| {
                        let prior = make(numbers);
                        let own = dot(&added(&*prior, &block), &g);
                        (own, dot(&references(&*prior, &block), &u))
                    };
                    let (own, common) = gradients(&*prior, &block, &g, &u);
                    let (own, common) = (own.concat(), common.concat());
                    for at in 0..numbers.len() {
                        let step = 1e-5 * numbers[at].abs();
                        let moved = |by: f64| {
                            let mut numbers = numbers.to_vec();
                            numbers[at] += by;
                            losses(&numbers)
                        };
                        let (up, down) = (moved(step), moved(-step));
                        for (name, found, up, down) in
                            [("own", own[at], up.0, down.0), ("common", common[at], up.1, down.1)]
                        {
                            let expected = (up - down) / (2.0 * step);
                            let rounding = 1e-15 * up.abs().max(down.abs()).max(100_000.0) / step;
                            let bound = 1e-6 * (1.0 + expected.abs()) + 8.0 * rounding;
                            assert!(
                                (found - expected).abs() <= bound,
                                "{} {name} {at} {block:?}: {found} {expected}",
                                prior.name()
                            );
                        }
                    }
                }
            }
        }
    }
}
