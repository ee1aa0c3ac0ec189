//! Networks that make no sense.

use marginals::Error;
use marginals::infer::collapsed::{Exact, FixedPoint};
use marginals::zoo::predictive_coding::{Activation, Layer, Map, PredictiveCoding, Predictors};
use ndarray::{Array3, Array4};

fn refusal<T>(result: Result<T, Error>) -> String {
    result.err().expect("it makes no sense").to_string()
}

#[test]
fn is_refused_by_name() {
    let values = Array3::<f64>::zeros((1, 2, 1));
    let predicted = |predictors| Layer::free(2, 1).predicted(predictors);
    let constant = || Predictors::<f64>::new(Map::Constant, 1);
    let new = |layers| refusal(PredictiveCoding::new(1, layers));

    let message = new(vec![Layer::free(2, 1).clamped(values.view())]);
    assert!(message.contains("layers") && message.contains("all known"), "{message}");
    let message = new(vec![]);
    assert!(message.contains("layers"), "{message}");

    for wrong in [0.0, -1.0, f64::INFINITY] {
        let precision = Array3::from_elem((1, 1, 1), wrong);
        let message = new(vec![predicted(constant().with_precision(precision))]);
        assert!(
            message.contains("layers.0.precision") && message.contains("positive"),
            "{message}"
        );
    }
    let message = new(vec![predicted(constant().with_beta(0.0))]);
    assert!(message.contains("layers.0.beta"), "{message}");
    let message = new(vec![predicted(constant().with_offset(Array3::zeros((1, 3, 1))))]);
    assert!(message.contains("layers.0.offset") && message.contains("[1, 3, 1]"), "{message}");

    // Shapes that do not chain.
    let weight = Array4::<f64>::zeros((1, 2, 1, 3));
    let dense = || Map::Dense(weight.view().into());
    let message = new(vec![Layer::free(2, 1), predicted(Predictors::new(dense(), 1))]);
    assert!(message.contains("layers.1.weight") && message.contains("[1, 2, 1, 2]"), "{message}");
    let message = new(vec![predicted(Predictors::new(dense(), 1))]);
    assert!(message.contains("layers.0.map"), "{message}");
    let convolution = Map::Convolution {
        weight: ndarray::Array5::<f64>::zeros((1, 1, 1, 1, 1)).into(),
        above: [1, 2],
        stride: 0,
        padding: 0,
    };
    let message = new(vec![Layer::free(2, 1), predicted(Predictors::new(convolution, 1))]);
    assert!(message.contains("stride"), "{message}");

    // Values.
    let short = Array3::<f64>::zeros((1, 1, 1));
    let message = new(vec![Layer::free(2, 1), Layer::free(2, 1).clamped(short.view())]);
    assert!(message.contains("layers.1.values"), "{message}");
    let invalid = Array3::from_elem((1, 2, 1), f64::NAN);
    let message = new(vec![Layer::free(2, 1), Layer::free(2, 1).clamped(invalid.view())]);
    assert!(message.contains("layers.1.values") && message.contains("NaN"), "{message}");
    // NaN that stands for what is not known is not read.
    let known = Array3::from_elem((1, 2, 1), false);
    let partly = Layer::free(2, 1).partly_clamped(invalid.view(), known.view());
    let network = PredictiveCoding::new(1, vec![partly.predicted(constant())]).unwrap();
    let solution = FixedPoint::default().solve(&Exact(&network), &[1.0, 2.0]).unwrap();
    assert_eq!(solution.z, [0.0, 0.0]);

    // Starts, and z of other lengths.
    let message = refusal(FixedPoint::default().solve(&Exact(&network), &[f64::NAN, 0.0]));
    assert!(message.contains("start") && message.contains("NaN"), "{message}");
    assert!(refusal(network.energies(&[0.0])).contains("`z`"));
    assert!(refusal(network.ask(1, &[0.0; 2], marginals::question::Entropy)).contains("layer"));

    // No exact step through an activation.
    let weight = Array4::<f64>::ones((1, 2, 1, 2));
    let map = Map::Dense(weight.into());
    let through = Predictors::new(map, 1).with_activation(Activation::Tanh);
    let network = PredictiveCoding::new(1, vec![Layer::free(2, 1), predicted(through)]).unwrap();
    let message = refusal(FixedPoint::default().solve(&Exact(&network), &network.start()));
    assert!(message.contains("exact") && message.contains("second-order"), "{message}");
}

/// No entries, no units, no predictors.
#[test]
fn empty_axes_are_answered() {
    for (batch, units, channels, count) in [(0, 2, 1, 1), (2, 0, 1, 1), (2, 2, 0, 2)] {
        let predictors = Predictors::<f64>::new(Map::Constant, count);
        let weight = Array4::<f64>::zeros((count, 2, 1, units * channels));
        let below = Predictors::new(Map::Dense(weight.into()), count);
        let layers = vec![
            Layer::free(units, channels).predicted(predictors),
            Layer::free(2, 1).predicted(below),
        ];
        let network = PredictiveCoding::new(batch, layers).unwrap();
        let solution = FixedPoint::default().solve(&Exact(&network), &network.start()).unwrap();
        assert_eq!(solution.free_energy.len(), batch);
        assert!(solution.z.iter().all(|&z| z == 0.0));
        let (_, inputs) = network.learning(&solution.z).unwrap();
        assert!(inputs.iter().all(|input| input.gradient.iter().all(|g| g.is_finite())));
    }
    // No predictor can explain anything.
    let none = Layer::free(1, 1).predicted(Predictors::<f64>::new(Map::Constant, 0));
    let network = PredictiveCoding::new(1, vec![none]).unwrap();
    assert_eq!(network.energies(&[0.0]).unwrap(), [[f64::INFINITY]]);
}
