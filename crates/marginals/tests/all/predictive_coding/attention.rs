//! The gradient of the energy as attention.

use marginals::Model;
use marginals::infer::collapsed::Differentiable;
use marginals::potential::Gaussian;
use marginals::prior::{KeyBias, Uniform};
use marginals::question::{Marginals, Mean};
use marginals::structure::{EachQueryPicksAtMostOne, EachQueryPicksOne, Independent};
use marginals::zoo::predictive_coding::{Errors, Layer, Map, PredictiveCoding, Predictors};
use marginals_testkit::compare::{Tolerance, assert_close};
use marginals_testkit::generate::Random;
use ndarray::{Array3, Array4, Axis};

/// Units that K constant templates explain: −∂E/∂x + Π x is attention to the templates, as a streaming pass
/// over them as keys makes it of the same scores.
#[test]
fn is_the_streaming_pass() {
    let mut random = Random::new(31);
    for _ in 0..200 {
        let (batch, units) = (random.integer(1, 3) as usize, random.integer(1, 20) as usize);
        let (channels, k) = (random.integer(1, 5) as usize, random.integer(1, 12) as usize);
        let x = Array3::from_shape_simple_fn((batch, units, channels), || random.normal());
        let templates = Array3::from_shape_simple_fn((k, 1, channels), || random.normal());
        let precision = random.between(0.2, 4.0);
        let predictors = Predictors::new(Map::Constant, k)
            .with_offset(templates.view())
            .with_precision(Array3::from_elem((k, 1, 1), precision));
        let network =
            PredictiveCoding::new(batch, vec![Layer::free(units, channels).predicted(predictors)])
                .unwrap();
        let z: Vec<f64> = x.iter().copied().collect();
        let gradient = network.gradient(&z).unwrap().next;
        let attended: Vec<f64> = z.iter().zip(&gradient).map(|(x, g)| x - g / precision).collect();

        let model = Model::new(EachQueryPicksOne, Uniform, Gaussian::new(precision));
        let q = x.view().insert_axis(Axis(1)).to_owned();
        let keys = templates.view().permuted_axes([1, 0, 2]).insert_axis(Axis(1));
        let keys = keys.broadcast((batch, 1, k, channels)).unwrap().to_owned();
        let posterior = model.posterior(q.view(), keys.view()).unwrap();
        let (mean, marginals) = posterior.ask((Mean(keys.view()), Marginals)).unwrap();
        let expected: Vec<f64> = mean.iter().copied().collect();
        assert_close("attention", &attended, &expected, Tolerance::mixed(1e-12));
        let own: Array4<f64> = network.ask(0, &z, Marginals).unwrap().unwrap();
        let [own, expected] = [own, marginals].map(|p| p.iter().copied().collect::<Vec<f64>>());
        assert_close("precision", &own, &expected, Tolerance::mixed(1e-12));
    }
}

/// A unit that nothing need explain, and units that several may: P(k explains i) in closed form.
#[test]
fn structures_say_what_may_explain_a_unit() {
    let offset = Array3::from_shape_vec((2, 1, 1), vec![0.0, 2.0]).unwrap();
    let likelihood = |x: f64, f: f64| (-0.5 * (x - f) * (x - f)).exp();
    let z = [0.5f64, -1.0, 3.0];
    let layer = || Predictors::new(Map::Constant, 2).with_offset(offset.view());
    let marginals = |predictors| {
        let layer = Layer::free(3, 1).predicted(predictors);
        let network = PredictiveCoding::new(1, vec![layer]).unwrap();
        network.ask(0, &z, Marginals).unwrap().unwrap()
    };
    let at_most = marginals(layer().with_structure(EachQueryPicksAtMostOne::new(-1.0)));
    let each = marginals(layer().with_structure(Independent));
    for (i, &x) in z.iter().enumerate() {
        let weights = [likelihood(x, 0.0), likelihood(x, 2.0)];
        let total = (-1f64).exp() + weights[0] + weights[1];
        for (k, weight) in weights.into_iter().enumerate() {
            assert!((at_most[[0, 0, i, k]] - weight / total).abs() < 1e-14);
            assert!((each[[0, 0, i, k]] - weight / (1.0 + weight)).abs() < 1e-14);
        }
    }
}

/// An outlier is explained by the predictor of low precision: its error counts for less.
#[test]
fn the_precision_of_an_outlier_falls() {
    let precision = Array3::from_shape_vec((2, 1, 1), vec![4.0, 0.01]).unwrap();
    let log_weights = ndarray::array![[[0.95f64.ln(), 0.05f64.ln()]]];
    let predictors = Predictors::new(Map::Constant, 2)
        .with_precision(precision.view())
        .with_prior(KeyBias::new(log_weights.view()));
    let network = PredictiveCoding::new(1, vec![Layer::free(2, 1).predicted(predictors)]).unwrap();
    let Errors { errors, precisions } = network.errors(0, &[0.3, 30.0]).unwrap().unwrap();
    assert_eq!(errors[[0, 0, 1, 0]], 30.0);
    let total = |i: usize| precisions.slice(ndarray::s![0, .., i, 0]).sum();
    assert!(total(0) > 3.9 && total(1) < 0.011, "{} {}", total(0), total(1));
}
