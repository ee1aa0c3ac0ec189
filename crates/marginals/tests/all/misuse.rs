//! Parts written by others: what they get wrong is an error that names it, and never a wrong gradient.

use marginals::infer::EdgeFunction;
use marginals::infer::collapsed::InputGradients;
use marginals::potential::Dot;
use marginals::prior::Prior;
use marginals::question::{ExpectedOf, Mean};
use marginals::structure::EachQueryPicksOne;
use marginals::{Accumulator, Block, Model, Parameter, Tile, TileMut};
use ndarray::{Array4, ArrayD, IxDyn, arr1, arr2};

/// How a part adds to its gradient.
#[derive(Clone, Copy, Debug)]
enum Adds {
    ByEntries,
    ByTiles,
}

/// A part with one parameter, of any layout, that adds to its gradient in any way.
#[derive(Debug)]
struct Odd(Parameter, Adds);

impl Odd {
    fn accumulate(
        &self,
        block: &Block,
        gradient: Tile<'_, f64>,
        into: &mut [Accumulator<'_, f64>],
    ) {
        match self.1 {
            Adds::ByEntries => {
                let rows = 0..block.queries.len();
                into[0].add(0, rows.flat_map(|r| gradient.row(r)).sum());
            }
            Adds::ByTiles => into[0].add_tile(block, gradient),
        }
    }
}

impl Prior<f64> for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }
    fn add_log_weights(&self, _block: &Block, _scores: TileMut<'_, f64>) {}
    fn parameters(&self) -> Vec<Parameter> {
        vec![self.0.clone()]
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, f64>,
        into: &mut [Accumulator<'_, f64>],
    ) {
        self.accumulate(block, gradient, into);
    }
}

impl EdgeFunction<f64> for Odd {
    fn fill(&self, block: &Block, mut values: TileMut<'_, f64>) {
        for r in 0..block.queries.len() {
            values.row_mut(r).fill(1.0);
        }
    }
    fn parameters(&self) -> Vec<Parameter> {
        vec![self.0.clone()]
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, f64>,
        into: &mut [Accumulator<'_, f64>],
    ) {
        self.accumulate(block, gradient, into);
    }
}

#[test]
fn gradients_added_in_another_way_than_declared_are_refused() {
    let x = Array4::from_shape_fn((1, 1, 3, 2), |(_, _, i, d)| ((i + 2 * d) as f64).sin());
    let one = || Parameter::new("odd.number", &[1]);
    let each = || Parameter::scores("odd.number", [1, 1, 3, 3]);
    for (parameter, adds, word) in [
        (one(), Adds::ByEntries, None),
        (each(), Adds::ByTiles, None),
        (one(), Adds::ByTiles, Some("`Accumulator::add`")),
        (each(), Adds::ByEntries, Some("`Accumulator::add_tile`")),
    ] {
        let odd = || Odd(parameter.clone(), adds);
        let model = Model::new(EachQueryPicksOne, odd(), Dot::scaled(2));
        let posterior = model.posterior(x.view(), x.view()).unwrap();
        let pass = posterior.pass(Mean(x.view())).unwrap();
        let of_prior = pass.backward(x.view());

        let model = Model::new(EachQueryPicksOne, marginals::prior::Uniform, Dot::scaled(2));
        let posterior = model.posterior(x.view(), x.view()).unwrap();
        let (function, upstream) = (odd(), Array4::ones((1, 1, 3, 1)));
        let functions: [&dyn EdgeFunction<f64>; 1] = [&function];
        let pass = posterior.pass(ExpectedOf(&functions)).unwrap();
        let of_function = pass.backward(upstream.view());

        for found in [of_prior, of_function] {
            match (found, word) {
                (Ok(gradients), None) => {
                    let shape = gradients.parameter("odd.number").unwrap().shape().to_vec();
                    assert_eq!(shape, parameter.shape);
                }
                (Err(told), Some(word)) => {
                    let told = told.to_string();
                    assert!(told.contains("`grad.odd.number`") && told.contains(word), "{told}");
                }
                (found, _) => panic!("{parameter:?} {adds:?}: {found:?}"),
            }
        }
    }
}

#[test]
fn gradients_of_inputs_that_do_not_exist_are_refused() {
    let mut gradients = InputGradients::<f64>::zeros([("patterns", &[2][..]), ("beta", &[1])]);
    gradients.add("patterns", &arr1(&[1.0, 2.0])).unwrap();
    gradients.add("patterns", &arr1(&[0.5, 0.5])).unwrap();
    let told = gradients.add("pattern", &arr1(&[1.0, 2.0])).unwrap_err().to_string();
    assert!(told.contains("`pattern`") && told.contains("did you mean `patterns`"), "{told}");
    let told = gradients.add("patterns", &arr2(&[[1.0, 2.0]])).unwrap_err().to_string();
    assert!(told.contains("`grad.patterns`") && told.contains("[2]"), "{told}");
    let sums = gradients.get("patterns").unwrap();
    assert_eq!(sums, &ArrayD::from_shape_vec(IxDyn(&[2]), vec![1.5, 2.5]).unwrap());

    let mut unwanted = InputGradients::<f64>::unwanted();
    unwanted.add("anything", &arr1(&[1.0])).unwrap();
    assert!(!unwanted.are_wanted() && unwanted.iter().next().is_none());
    assert!(InputGradients::<f64>::default().add("anything", &arr1(&[1.0])).is_err());
}
