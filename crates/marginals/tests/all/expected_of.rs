//! Expectations of given functions of an edge's place, against sums over the marginals.

use marginals::infer::EdgeFunction;
use marginals::potential::Dot;
use marginals::prior::Causal;
use marginals::question::{ExpectedOf, Marginals};
use marginals::structure::{
    EachKeyPicksOne, EachQueryPicksAtMostOne, EachQueryPicksOne, Independent, Structure,
};
use marginals::{Block, Model, TileMut};
use marginals_testkit::finite_difference::along;
use marginals_testkit::generate::Random;
use ndarray::Array4;

/// sin and a power of positions, different from head to head.
#[derive(Debug)]
struct Positions(usize);

const FUNCTIONS: [&dyn EdgeFunction<f64>; 3] = [&Positions(0), &Positions(1), &Positions(2)];

fn function(index: usize, (b, h, i, j): (usize, usize, usize, usize)) -> f64 {
    match index {
        0 => (0.3 * i as f64 - 0.7 * j as f64 + b as f64).sin(),
        1 => 1.0 / (1.0 + j as f64 + h as f64),
        _ => i as f64 - j as f64,
    }
}

impl EdgeFunction<f64> for Positions {
    fn fill(&self, block: &Block, mut values: TileMut<'_, f64>) {
        for (r, i) in block.queries.clone().enumerate() {
            for (x, j) in values.row_mut(r).iter_mut().zip(block.keys.clone()) {
                *x = function(self.0, (block.batch, block.head, i, j));
            }
        }
    }
}

fn tensors() -> (Array4<f64>, Array4<f64>) {
    let mut random = Random::new(17);
    let mut tensor = |h, n| Array4::from_shape_simple_fn((2, h, n, 3), || 0.5 * random.normal());
    (tensor(2, 37), tensor(1, 1100))
}

fn check(structure: impl Structure<f64>) {
    let (q, k) = tensors();
    let model = Model::new(structure, Causal, Dot::new(0.8)).with_query_offset(1060);
    let answer = |q: &Array4<f64>, k: &Array4<f64>| {
        let posterior = model.posterior(q.view(), k.view()).unwrap();
        posterior.ask(ExpectedOf(&FUNCTIONS)).unwrap()
    };
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let (means, marginals) = posterior.ask((ExpectedOf(&FUNCTIONS), Marginals)).unwrap();
    for ((b, h, i, c), &got) in means.indexed_iter() {
        let row = marginals.slice(ndarray::s![b, h, i, ..]);
        let truth: f64 = row.iter().enumerate().map(|(j, p)| p * function(c, (b, h, i, j))).sum();
        assert!((got - truth).abs() < 1e-11 * truth.abs().max(1.0), "{got} for {truth}");
    }
    let mut random = Random::new(18);
    let weights = means.mapv(|_| random.normal());
    let pass = posterior.pass(ExpectedOf(&FUNCTIONS)).unwrap();
    let gradients = pass.backward(&weights).unwrap();
    for (x, gradient, is_q) in [(&q, &gradients.q, true), (&k, &gradients.k, false)] {
        let flat: Vec<f64> = x.iter().copied().collect();
        let direction = random.normals(flat.len());
        let truth = along(&flat, &direction, |at| {
            let moved = Array4::from_shape_vec(x.raw_dim(), at.to_vec()).unwrap();
            let means = if is_q { answer(&moved, &k) } else { answer(&q, &moved) };
            (&means * &weights).sum()
        });
        let got: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        assert!((got - truth.value).abs() < 1e-6 * got.abs().max(1.0), "{got} for {truth:?}");
    }
}

#[test]
fn equals_the_sum_over_marginals() {
    check(EachQueryPicksOne);
    check(EachQueryPicksAtMostOne::new(0.5));
    check(EachKeyPicksOne);
    check(Independent);
}

#[test]
fn several_lists_share_a_pass() {
    let (q, k) = tensors();
    let model = Model::new(EachQueryPicksOne, Causal, Dot::new(0.8)).with_query_offset(1060);
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let (some, all) = posterior.ask((ExpectedOf(&FUNCTIONS[1..]), ExpectedOf(&FUNCTIONS))).unwrap();
    assert_eq!(some, all.slice(ndarray::s![.., .., .., 1..]));
}
