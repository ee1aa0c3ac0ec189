//! Expectations of given functions of an edge's place, against sums over the marginals.

use marginals::infer::exact::Upstream;
use marginals::potential::Dot;
use marginals::prior::Causal;
use marginals::question::{EdgeFunctions, ExpectedOf, Marginals};
use marginals::structure::{
    EachKeyPicksOne, EachQueryPicksAtMostOne, EachQueryPicksOne, Independent, Structure,
};
use marginals::{Block, Model, TileMut};
use marginals_testkit::finite_difference::along;
use marginals_testkit::generate::Random;
use ndarray::Array4;

/// sin and a power of places, different from head to head.
#[derive(Debug)]
struct Places;

fn function(index: usize, (b, h, i, j): (usize, usize, usize, usize)) -> f64 {
    match index {
        0 => (0.3 * i as f64 - 0.7 * j as f64 + b as f64).sin(),
        1 => 1.0 / (1.0 + j as f64 + h as f64),
        _ => i as f64 - j as f64,
    }
}

impl EdgeFunctions<f64> for Places {
    fn count(&self) -> usize {
        3
    }
    fn fill(&self, index: usize, block: &Block, mut values: TileMut<'_, f64>) {
        for (r, i) in block.queries.clone().enumerate() {
            for (x, j) in values.row_mut(r).iter_mut().zip(block.keys.clone()) {
                *x = function(index, (block.batch, block.head, i, j));
            }
        }
    }
}

fn tensors() -> (Array4<f64>, Array4<f64>) {
    let mut random = Random::new(17);
    let mut tensor = |h, n| Array4::from_shape_simple_fn((2, h, n, 3), || 0.5 * random.normal());
    (tensor(2, 37), tensor(1, 1100))
}

fn check(structure: impl Structure) {
    let (q, k) = tensors();
    let model = Model::new(structure, Causal, Dot::new(0.8)).with_query_offset(1060);
    let answer = |q: &Array4<f64>, k: &Array4<f64>| {
        let posterior = model.posterior(q.view(), k.view()).unwrap();
        let pass = posterior.pass(&ExpectedOf(&Places)).unwrap();
        pass.answer(&ExpectedOf(&Places)).unwrap()
    };
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let (means, marginals) = posterior.ask((ExpectedOf(&Places), Marginals)).unwrap();
    for ((b, h, i, c), &got) in means.indexed_iter() {
        let row = marginals.slice(ndarray::s![b, h, i, ..]);
        let truth: f64 = row.iter().enumerate().map(|(j, p)| p * function(c, (b, h, i, j))).sum();
        assert!((got - truth).abs() < 1e-11 * truth.abs().max(1.0), "{got} for {truth}");
    }
    let mut random = Random::new(18);
    let weights = means.mapv(|_| random.normal());
    let pass = posterior.pass(&ExpectedOf(&Places)).unwrap();
    let upstream = Upstream { expected_of: Some(weights.view()), ..Upstream::default() };
    let gradients = pass.backward(&upstream).unwrap();
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
    check(Independent);
}

#[test]
fn is_refused_where_keys_choose() {
    let (q, k) = tensors();
    let model = Model::new(EachKeyPicksOne, Causal, Dot::new(0.8));
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let text = posterior.ask(ExpectedOf(&Places)).unwrap_err().to_string();
    assert!(text.contains("keys choose"), "{text}");
    let model = Model::new(EachQueryPicksOne, Causal, Dot::new(0.8));
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let twice = posterior.ask((ExpectedOf(&Places), ExpectedOf(&Places)));
    assert!(twice.unwrap_err().to_string().contains("one question"));
}
