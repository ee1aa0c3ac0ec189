//! Questions asked together answer as they do alone, in any order and however often.

use marginals::Model;
use marginals::potential::Dot;
use marginals::prior::Causal;
use marginals::question::{Mean, ValueVariance};
use marginals::structure::EachQueryPicksOne;
use ndarray::Array4;

#[test]
fn a_question_may_be_asked_twice_and_beside_those_that_share_its_parts() {
    let x = Array4::from_shape_fn((1, 2, 5, 3), |(_, h, i, d)| ((h + 2 * i + 5 * d) as f64).sin());
    let model = Model::new(EachQueryPicksOne, Causal, Dot::scaled(3));
    let posterior = model.posterior(x.view(), x.view()).unwrap();
    let mean = posterior.ask(Mean(x.view())).unwrap();
    let variance = posterior.ask(ValueVariance(x.view())).unwrap();
    // The first query sees itself alone.
    assert_eq!(mean[[0, 1, 0, 2]], x[[0, 1, 0, 2]]);
    let both = posterior.ask((Mean(x.view()), Mean(x.view()))).unwrap();
    assert_eq!(both, (mean.clone(), mean.clone()));
    let before = posterior.ask((ValueVariance(x.view()), Mean(x.view()))).unwrap();
    assert_eq!(before, (variance.clone(), mean.clone()));
    let after = posterior.ask((Mean(x.view()), ValueVariance(x.view()))).unwrap();
    assert_eq!(after, (mean, variance));
}
