//! Functions of distance over distances of their own.

use marginals::distance::{Contextual, Distance, Index};

use super::small;
use marginals::prior::{
    Alibi, BetaGeometric, Causal, Combine, Directions, GeneralizedGaussian, Geometric, Laplace,
    NodeGradient, Nodes, OfDistance, Prior, Product, RelativeBuckets,
};
use marginals::{Accumulator, Block, Element, Parameter, Positions, Shape, Tile, TileMut};
use ndarray::{Array2, Array4};

const QUERIES: usize = 5;
const KEYS: usize = 7;

fn block(queries: std::ops::Range<usize>, keys: std::ops::Range<usize>) -> Block {
    let positions =
        Positions { queries: QUERIES, keys: KEYS, query_offset: 2, ..Positions::default() };
    Block { batch: 0, head: 0, queries, keys, positions }
}

/// Log-weights, or what else is added, over every edge.
fn added(prior: &dyn Prior<f64>) -> Vec<f64> {
    let mut scores = vec![0.0; QUERIES * KEYS];
    let tile = TileMut::new(&mut scores, QUERIES, KEYS, KEYS);
    prior.add_log_weights(&block(0..QUERIES, 0..KEYS), tile);
    scores
}

/// f(d), f′(d) and the gradient of a function.
type Function = Box<dyn Fn(f64) -> (f64, f64, Vec<f64>)>;

fn function<F: OfDistance>(function: F) -> Function {
    Box::new(move |d| {
        let parameters = OfDistance::parameters(&function);
        let mut into: Vec<Accumulator<'_, f64>> =
            parameters.iter().map(|p| Accumulator::Small(vec![0.0; p.len()])).collect();
        function.gradient(0, d, 1.0, &mut into);
        let gradient = into.iter().flat_map(small).collect();
        (function.log_weight(0, d), function.slope(0, d), gradient)
    })
}

fn table(move_at: usize, by: f64) -> RelativeBuckets {
    let entry =
        |bucket: usize| (1.7 * bucket as f64).sin() + if bucket == move_at { by } else { 0.0 };
    RelativeBuckets::new(Array2::from_shape_fn((8, 1), |(b, _)| entry(b)), 12, Directions::Both)
}

/// Slopes and gradients at distances that no index has, against finite differences.
#[test]
fn functions_are_smooth_between_whole_distances() {
    type Make = fn(&[f64]) -> Function;
    let makes: [(Make, &[f64]); 6] = [
        (|x| function(Geometric::per_head(x)), &[0.2]),
        (|x| function(Alibi::new(x)), &[0.3]),
        (|x| function(Laplace::per_head(x)), &[2.5]),
        (|x| function(GeneralizedGaussian::new(x[0], x[1])), &[3.0, 1.4]),
        (|x| function(BetaGeometric::new(x[0], x[1])), &[1.5, 2.0]),
        (|x| function(table(1, x[0])), &[0.0]),
    ];
    for (index, (make, numbers)) in makes.into_iter().enumerate() {
        for d in [-7.3, -1.25, -0.4, 0.4, 1.25, 2.5, 6.75, 31.2] {
            let (_, slope, gradient) = make(numbers)(d);
            let step = 1e-6;
            let (up, down) = (make(numbers)(d + step).0, make(numbers)(d - step).0);
            let expected = (up - down) / (2.0 * step);
            assert!((slope - expected).abs() < 1e-7 * (1.0 + expected.abs()), "{index} at {d}");
            for (at, number) in numbers.iter().enumerate() {
                let moved = |by: f64| {
                    let mut numbers = numbers.to_vec();
                    numbers[at] = number + by;
                    make(&numbers)(d).0
                };
                let expected = (moved(step) - moved(-step)) / (2.0 * step);
                let found = match index {
                    5 => gradient[1],
                    _ => gradient[at],
                };
                assert!(
                    (found - expected).abs() < 1e-7 * (1.0 + expected.abs()),
                    "{index} {at} at {d}: {found} {expected}"
                );
            }
        }
    }
}

/// Between two whole distances a table is interpolated, and at one it is read.
#[test]
fn buckets_are_interpolated() {
    let buckets = table(9, 0.0);
    for d in -9..9 {
        let at = |d: i64| buckets.log_weight(0, d as f64);
        let between = buckets.log_weight(0, d as f64 + 0.25);
        assert!((between - (0.75 * at(d) + 0.25 * at(d + 1))).abs() < 1e-15);
    }
    // A bucket that is impossible is so up to its edge, and takes no part there.
    let mut entries = Array2::from_elem((2, 1), 0.5);
    entries[[1, 0]] = f64::NEG_INFINITY;
    let half = RelativeBuckets::new(entries, 4, Directions::Behind);
    assert_eq!(half.log_weight(0, 0.0), 0.5);
    assert_eq!(half.log_weight(0, 0.5), f64::NEG_INFINITY);
    assert_eq!(half.log_weight(0, 1.0), f64::NEG_INFINITY);
}

/// d_ij = Σ of the gaps of the positions from key to query: a distance with numbers to learn.
struct Gaps(Vec<f64>);

impl Gaps {
    fn between(&self, block: &Block, i: usize, j: usize) -> (f64, std::ops::Range<usize>) {
        let (i, j) = (i + block.positions.query_offset as usize, j);
        if j <= i { (1.0, j..i) } else { (-1.0, i..j) }
    }
}

impl Distance<f64> for Gaps {
    fn name(&self) -> &'static str {
        "gaps"
    }
    fn fill(&self, block: &Block, mut distances: TileMut<'_, f64>) {
        for (r, i) in block.queries.clone().enumerate() {
            for (d, j) in distances.row_mut(r).iter_mut().zip(block.keys.clone()) {
                let (sign, range) = self.between(block, i, j);
                *d = sign * self.0[range].iter().sum::<f64>();
            }
        }
    }
    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter::new("gaps", &[self.0.len()])]
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, f64>,
        into: &mut [Accumulator<'_, f64>],
    ) {
        for (r, i) in block.queries.clone().enumerate() {
            for (&g, j) in gradient.row(r).iter().zip(block.keys.clone()) {
                let (sign, range) = self.between(block, i, j);
                range.for_each(|gap| into[0].add(gap, sign * g));
            }
        }
    }
}

fn gaps() -> Gaps {
    Gaps((0..QUERIES + KEYS).map(|k| 0.3 + 0.2 * (k as f64).sin()).collect())
}

#[test]
fn distances_are_learned_through_any_function() {
    let over = |gaps: Gaps| -> Vec<Box<dyn Prior<f64>>> {
        let lent = || Gaps(gaps.0.clone());
        vec![
            Box::new(Geometric::new(0.2).over(lent())),
            Box::new(GeneralizedGaussian::new(3.0, 1.6).over(lent())),
            Box::new(BetaGeometric::new(1.5, 2.0).over(lent())),
            Box::new(table(9, 0.0).over(lent())),
            Box::new(Causal.and(Laplace::new(2.0).over(lent()))),
        ]
    };
    for (index, prior) in over(gaps()).iter().enumerate() {
        assert_eq!(prior.parameters().last().expect("gaps").name, "gaps");
        let g: Vec<f64> = (0..QUERIES * KEYS).map(|e| (e as f64 + 0.3).cos()).collect();
        let possible = added(&**prior);
        let g: Vec<f64> =
            g.iter().zip(&possible).map(|(g, x)| if x.is_finite() { *g } else { 0.0 }).collect();
        let mut into: Vec<Accumulator<'_, f64>> =
            prior.parameters().iter().map(|p| Accumulator::Small(vec![0.0; p.len()])).collect();
        // In tiles, as an engine would.
        for queries in [0..2, 2..QUERIES] {
            for keys in [0..3, 3..KEYS] {
                let block = block(queries.clone(), keys.clone());
                let tile = Tile::new(
                    &g[queries.start * KEYS + keys.start..],
                    queries.len(),
                    keys.len(),
                    KEYS,
                );
                prior.accumulate_gradient(&block, tile, &mut into);
            }
        }
        let found = small(into.last().expect("of the gaps"));
        for (at, found) in found.iter().enumerate() {
            let moved = |by: f64| {
                let mut gaps = gaps();
                gaps.0[at] += by;
                let weights = added(&*over(gaps)[index]);
                let pairs = weights.iter().zip(&g).filter(|(w, _)| w.is_finite());
                pairs.map(|(w, g)| w * g).sum::<f64>()
            };
            let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((found - expected).abs() < 1e-7 * (1.0 + expected.abs()), "{index} {at}");
        }
    }
}

/// The distance by index, and as any other distance would be.
#[test]
fn the_index_is_a_distance_like_any_other() {
    /// The same numbers, without saying what they are.
    struct Plain;
    impl Distance<f64> for Plain {
        fn name(&self) -> &'static str {
            "plain"
        }
        fn fill(&self, block: &Block, distances: TileMut<'_, f64>) {
            Distance::<f64>::fill(&Index, block, distances);
        }
    }
    assert_eq!(added(&Geometric::new(0.2).over(Plain)), added(&Geometric::new(0.2)));
    assert_eq!(added(&Geometric::new(0.2).over(Index)), added(&Geometric::new(0.2)));
    assert_eq!(added(&table(9, 0.0).over(Plain)), added(&table(9, 0.0)));
}

/// A distance that reads the nodes has gradients in them, inside any product, with every block seen by
/// itself.
#[test]
fn a_bound_distance_has_gradients_in_its_nodes() {
    let nodes = |count: usize, seed: f64| {
        Array4::from_shape_fn((1, 1, count, 3), |(_, _, i, d)| {
            (seed + 2.0 * i as f64 + d as f64).sin()
        })
    };
    let (q, k) = (nodes(QUERIES, 0.3), nodes(KEYS, 1.1));
    let contextual = || Laplace::new(2.0).over(Contextual::new(0.9));
    let priors: Vec<Box<dyn Prior<f64>>> = vec![
        Box::new(contextual()),
        Box::new(Causal.and(contextual())),
        Box::new(Product::<f64>(vec![
            Box::new(contextual()),
            Box::new(Causal),
            Box::new(contextual()),
        ])),
    ];
    let g: Vec<f64> = (0..QUERIES * KEYS).map(|e| (e as f64 + 0.3).cos()).collect();
    for prior in priors {
        let nodes = |q: &Array4<f64>, k: &Array4<f64>| -> (Vec<f64>, Array4<f64>, Array4<f64>) {
            let shape = Shape::of(&q.view(), &k.view(), 2).expect("sizes");
            let (q_of, k_of) = (Element::store(q.view()), Element::store(k.view()));
            let nodes = Nodes::new(shape, &prior, (&q_of, &k_of));
            let bound = prior.bind(&nodes).expect("it depends on the nodes");
            let weights = added(&*bound);
            let (mut dq, mut dk) = (Array4::zeros(q.dim()), Array4::zeros(k.dim()));
            for queries in [2..QUERIES, 0..2] {
                for keys in [3..KEYS, 0..3] {
                    let block = block(queries.clone(), keys.clone());
                    let own: Vec<f64> = queries
                        .clone()
                        .flat_map(|i| keys.clone().map(move |j| i * KEYS + j))
                        .map(|e| if weights[e].is_finite() { g[e] } else { 0.0 })
                        .collect();
                    let (mut own_q, mut own_k) =
                        (vec![0.0; 3 * queries.len()], vec![0.0; 3 * keys.len()]);
                    bound.accumulate_node_gradient(
                        &block,
                        Tile::new(&own, queries.len(), keys.len(), keys.len()),
                        &mut NodeGradient { q: &mut own_q, k: &mut own_k },
                    );
                    for (rows, own, into) in [(&queries, own_q, &mut dq), (&keys, own_k, &mut dk)] {
                        for (at, x) in own.into_iter().enumerate() {
                            into[[0, 0, rows.start + at / 3, at % 3]] += x;
                        }
                    }
                }
            }
            bound.finish_node_gradients(dq.view_mut(), dk.view_mut());
            (weights, dq, dk)
        };
        let loss = |q: &Array4<f64>, k: &Array4<f64>| -> f64 {
            let weights = nodes(q, k).0;
            let pairs = weights.iter().zip(&g).filter(|(w, _)| w.is_finite());
            pairs.map(|(w, g)| w * g).sum()
        };
        let (_, dq, dk) = nodes(&q, &k);
        for (of_query, found) in [(true, dq), (false, dk)] {
            for (at, found) in found.indexed_iter() {
                let moved = |by: f64| {
                    let (mut q, mut k) = (q.clone(), k.clone());
                    *(if of_query { &mut q[at] } else { &mut k[at] }) += by;
                    loss(&q, &k)
                };
                let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!(
                    (found - expected).abs() < 1e-7 * (1.0 + expected.abs()),
                    "{of_query} {at:?}: {found} {expected}"
                );
            }
        }
    }
    // What does not depend on the nodes is not bound.
    let shape = Shape::of(&q.view(), &k.view(), 2).expect("sizes");
    let (q_of, k_of) = (Element::store(q.view()), Element::store(k.view()));
    let nodes = Nodes::new(shape, &Causal, (&q_of, &k_of));
    let unbound = Causal.and(Laplace::new(2.0));
    assert!(unbound.bind(&nodes).is_none());
    let unbound = Product(vec![Box::new(Causal) as Box<dyn Prior<f64>>]);
    assert!(unbound.bind(&nodes).is_none());
}
