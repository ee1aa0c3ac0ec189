//! Values that are the keys themselves: one gradient for both uses, against finite differences.

use marginals::Model;
use marginals::potential::{Dot, Potential, Rotary, RotaryPairs};
use marginals::prior::Causal;
use marginals::question::{Entropy, Mean, ValueVariance};
use marginals::structure::{EachQueryPicksOne, Independent, Structure};
use marginals_testkit::generate::Random;
use ndarray::{Array3, Array4, ArrayView4};

use crate::contract::slopes::Slopes;

const QUERIES: (usize, usize, usize, usize) = (1, 2, 5, 4);
const KEYS: (usize, usize, usize, usize) = (1, 1, 6, 4);

/// Upstream gradients of mean, variance and entropy.
struct Loss {
    mean: Array4<f64>,
    variance: Option<Array4<f64>>,
    entropy: Array3<f64>,
}

impl Loss {
    fn draw(variance: bool, factors: usize, random: &mut Random) -> Self {
        let mut rows = || Array4::from_shape_simple_fn(QUERIES, || random.normal());
        let (mean, variance) = (rows(), variance.then(&mut rows));
        let entropy = Array3::from_shape_simple_fn((1, 2, factors), || random.normal());
        Self { mean, variance, entropy }
    }
}

fn check<S: Structure<f64>, P: Potential<f64>>(name: &str, structure: S, potential: P) {
    let model = Model::new(structure, Causal, potential);
    let mut random = Random::new(5);
    let mut draw = |shape| Array4::from_shape_simple_fn(shape, || random.normal());
    let (q, x) = (draw(QUERIES), draw(KEYS));
    let copy = x.clone();
    for (variance, apart) in [(false, false), (false, true), (true, false), (true, true)] {
        let posterior = model.posterior(q.view(), x.view()).unwrap();
        let loss = Loss::draw(variance, posterior.factor_count(), &mut random);
        let value = |x: ArrayView4<f64>| {
            let posterior = model.posterior(q.view(), x).unwrap();
            let (mean, spread, entropy) =
                posterior.ask((Mean(x), ValueVariance(x), Entropy)).unwrap();
            let spread = loss.variance.as_ref().map_or(0.0, |u| (u * &spread).sum());
            (&loss.mean * &mean).sum() + (&loss.entropy * &entropy).sum() + spread
        };
        let values = if apart { copy.view() } else { x.view() };
        let of_variance = loss.variance.as_ref().map(|u| u.view());
        let found = match variance {
            true => {
                let pass = posterior.pass((Mean(values), ValueVariance(values), Entropy)).unwrap();
                pass.backward_shared((&loss.mean, of_variance, &loss.entropy)).unwrap()
            }
            false => {
                let pass = posterior.pass((Mean(values), Entropy)).unwrap();
                pass.backward_shared((&loss.mean, &loss.entropy)).unwrap()
            }
        };
        assert!(found.v().is_none(), "{name}: values are counted twice");
        let slopes = Slopes::default();
        let (own, gradient) = (x.as_slice().unwrap(), found.k.as_standard_layout());
        slopes
            .check("x", (own, gradient.as_slice().unwrap()), 24, &mut random, |moved| {
                value(ArrayView4::from_shape(KEYS, moved).unwrap())
            })
            .unwrap_or_else(|error| panic!("{name}, variance {variance}, apart {apart}: {error}"));
        slopes.assert_settled(10);
    }
}

#[test]
fn the_gradient_is_that_of_both_uses() {
    check("dot", EachQueryPicksOne, Dot::new(0.6));
    check("independent", Independent, Dot::new(0.6));
    // Keys are turned before they are compared, values are not.
    let rotary = || Rotary::new(Dot::new(0.6), 100.0, RotaryPairs::HalfSplit);
    check("rotary", EachQueryPicksOne, rotary());
}

#[test]
fn without_values_it_is_the_gradient_of_the_keys() {
    let mut random = Random::new(6);
    let mut draw = |shape| Array4::from_shape_simple_fn(shape, || random.normal());
    let (q, x) = (draw(QUERIES), draw(KEYS));
    let model = Model::new(EachQueryPicksOne, Causal, Dot::new(0.6));
    let posterior = model.posterior(q.view(), x.view()).unwrap();
    let ones = Array3::ones((1, 2, 5));
    let pass = posterior.pass(Entropy).unwrap();
    let (one, both) = (pass.backward_shared(&ones).unwrap(), pass.backward(&ones).unwrap());
    assert_eq!(one.k, both.k);
    // Values of another width are not the keys.
    let wide = draw((1, 1, 6, 5));
    let pass = posterior.pass(Mean(wide.view())).unwrap();
    let error = pass.backward_shared(None).unwrap_err().to_string();
    assert!(error.contains("`v`") && error.contains("[1, 1, 6, 4]"), "{error}");
}
