//! The operations by themselves: gradients against finite differences in f64, and what they refuse.

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use marginals::potential::Dot;
use marginals::prior::Combine;
use marginals::prior::{Causal, Geometric, Uniform};
use marginals::structure::{EachKeyPicksOne, EachQueryPicksOne, Independent};
use marginals::{Error, Model, Value};
use marginals_burn::ops::{Nodes, Parameters, Posterior, layer_norm};
use marginals_testkit::finite_difference::gradient;
use marginals_testkit::generate::Random;

type Operation<'a> = dyn Fn(&[Tensor<4>]) -> Tensor<4> + 'a;

fn tensor(values: &[f64], shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), (device, DType::F64))
}

fn values(tensor: Tensor<4>) -> Vec<f64> {
    tensor.into_data().try_into_vec().expect("f64")
}

/// Gradients of a random functional of the output in every input.
fn check(name: &str, shapes: &[[usize; 4]], operation: &Operation<'_>) {
    let mut random = Random::new(7);
    let inputs: Vec<Vec<f64>> =
        shapes.iter().map(|shape| random.normals(shape.iter().product())).collect();
    let (plain, taped) = (Device::flex(), Device::flex().autodiff());
    let leaves: Vec<Tensor<4>> = inputs
        .iter()
        .zip(shapes)
        .map(|(values, &shape)| tensor(values, shape, &taped).require_grad())
        .collect();
    let output = operation(&leaves);
    let shape = output.dims();
    let upstream = random.normals(shape.iter().product());
    let gradients = (output * tensor(&upstream, shape, &taped)).sum().backward();
    for (index, leaf) in leaves.iter().enumerate() {
        let found = values(leaf.grad(&gradients).expect("a gradient"));
        let expected = gradient(&inputs[index], |moved| {
            let inputs: Vec<Tensor<4>> = inputs
                .iter()
                .zip(shapes)
                .enumerate()
                .map(|(i, (values, &shape))| {
                    tensor(if i == index { moved } else { values }, shape, &plain)
                })
                .collect();
            values(operation(&inputs)).iter().zip(&upstream).map(|(x, u)| x * u).sum()
        });
        let scale = expected.iter().fold(1e-3f64, |max, d| max.max(d.value.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            let error = (found - expected.value).abs();
            assert!(error <= 1e-6 * scale, "{name}, input {index}: {found} {expected:?}");
        }
    }
}

const SHAPES: [[usize; 4]; 3] = [[2, 4, 5, 3], [2, 2, 7, 3], [2, 2, 7, 4]];

fn attend(attention: Posterior) -> impl Fn(&[Tensor<4>]) -> Tensor<4> {
    move |x| attention.mean(x[0].clone(), x[1].clone(), x[2].clone()).expect("sizes fit")
}

#[test]
fn gradients_of_attention_agree_with_finite_differences() {
    let dot = || Dot::new(0.7);
    let gather = Posterior::of(Model::new(EachQueryPicksOne, Uniform, dot()));
    check("picks one, gather", &SHAPES, &attend(gather));
    let prior = Causal.and(Geometric::new(0.2));
    let causal = Posterior::of(Model::new(EachQueryPicksOne, prior, dot()));
    check("picks one, causal and geometric", &SHAPES, &attend(causal));
    let model = || Model::new(EachKeyPicksOne, Uniform, dot());
    let average = Posterior::of(model().with_value(Value::Average));
    check("key picks one, average", &SHAPES, &attend(average));
    for epsilon in [0.0, 1e-8, 0.3] {
        let smoothed = Posterior::smoothed_average(model(), epsilon).unwrap();
        check("key picks one, smoothed", &SHAPES, &attend(smoothed));
    }
    let shared = Posterior::smoothed_average(model(), 0.3).unwrap();
    check("key picks one, keys as values", &SHAPES[..2], &|x| {
        shared.mean_of_keys(x[0].clone(), x[1].clone()).expect("sizes fit")
    });
    let with_others = Posterior::smoothed_average(model(), 0.3).unwrap();
    check("key picks one, smoothed, and other answers", &SHAPES, &|x| {
        let nodes = Nodes { q: x[0].clone(), k: x[1].clone(), v: Some(x[2].clone()) };
        let asked = ["entropy", "mean", "query-mass"];
        let answers = with_others.ask(&nodes, &Parameters::none(), &asked).expect("sizes fit");
        let mean = answers.get::<4>("mean").expect("asked");
        let of = |name| answers.get::<3>(name).expect("asked").sum().reshape([1, 1, 1, 1]);
        (mean + of("entropy")) * of("query-mass")
    });
    let independent = Model::new(Independent, Uniform, dot());
    let smoothed = Posterior::smoothed_average(independent, 0.3).unwrap();
    check("independent, smoothed", &SHAPES, &attend(smoothed));
}

/// Views, broadcasts and transposes are read as they are or copied, and give the same.
#[test]
fn strides_do_not_matter() {
    let attention = Posterior::of(Model::new(EachQueryPicksOne, Uniform, Dot::new(0.5)));
    check("heads from rows", &[[2, 5, 4, 3], [2, 7, 2, 3], [2, 7, 2, 4]], &|x| {
        let [q, k, v] = [0, 1, 2].map(|i| x[i].clone().swap_dims(1, 2));
        attention.mean(q, k, v).expect("sizes fit").swap_dims(1, 2)
    });
    check("columns as rows", &[[2, 4, 3, 5], [2, 2, 3, 7], [2, 2, 4, 7]], &|x| {
        let [q, k, v] = [0, 1, 2].map(|i| x[i].clone().swap_dims(2, 3));
        attention.mean(q, k, v).expect("sizes fit")
    });
    check("one batch entry for all, halves of rows", &[[2, 4, 5, 3], [1, 2, 7, 6]], &|x| {
        let kv = x[1].clone().expand([2, 2, 7, 6]);
        let (k, v) = (kv.clone().narrow(3, 0, 3), kv.narrow(3, 3, 3));
        attention.mean(x[0].clone(), k, v).expect("sizes fit")
    });
}

/// Smoothing is adding ε to the marginals, whatever the closed form does.
#[test]
fn smoothing_adds_epsilon_to_the_marginals() {
    let device = Device::flex();
    let mut random = Random::new(3);
    let [q, k, v] = [[1, 1, 3, 2], [1, 1, 6, 2], [1, 1, 6, 2]]
        .map(|shape: [usize; 4]| (random.normals(shape.iter().product()), shape));
    let model = Model::new(EachKeyPicksOne, Uniform, Dot::new(1.0));
    let attention = Posterior::smoothed_average(model, 0.2).unwrap();
    let [tq, tk, tv] = [&q, &k, &v].map(|(values, shape)| tensor(values, *shape, &device));
    let found = values(attention.mean(tq, tk, tv).unwrap());
    let score = |i: usize, j: usize| -> f64 {
        (0..2).map(|d| q.0[2 * i + d] * k.0[2 * j + d]).sum::<f64>().exp()
    };
    for i in 0..3 {
        let weight = |j: usize| score(i, j) / (0..3).map(|i| score(i, j)).sum::<f64>() + 0.2;
        let total: f64 = (0..6).map(weight).sum();
        for d in 0..2 {
            let mean: f64 = (0..6).map(|j| weight(j) * v.0[2 * j + d]).sum::<f64>() / total;
            assert!((found[2 * i + d] - mean).abs() < 1e-12, "{mean} {found:?}");
        }
    }
}

#[test]
fn gradients_of_layer_normalisation_agree_with_finite_differences() {
    for width in [1, 5, 16, 37] {
        let shapes = [[2, 3, 4, width], [1, 1, 1, width], [1, 1, 1, width]];
        check("layer norm", &shapes, &|x| {
            let (gamma, beta) = (x[1].clone().flatten(0, 3), x[2].clone().flatten(0, 3));
            layer_norm(x[0].clone(), gamma, beta, 1e-2).expect("widths fit")
        });
        check("layer norm of a transpose", &shapes, &|x| {
            let (gamma, beta) = (x[1].clone().flatten(0, 3), x[2].clone().flatten(0, 3));
            let rows = x[0].clone().swap_dims(1, 2);
            layer_norm(rows, gamma, beta, 1e-2).expect("widths fit")
        });
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = Device::flex();
    let zeros = |shape: [usize; 4]| Tensor::<4>::zeros(shape, &device);
    let attention = Posterior::of(Model::new(EachQueryPicksOne, Uniform, Dot::new(1.0)));
    let shape = |q, k, v| attention.mean(zeros(q), zeros(k), zeros(v));
    assert!(shape([1, 2, 3, 4], [1, 1, 5, 4], [1, 1, 5, 6]).is_ok());
    assert!(shape([1, 2, 0, 4], [1, 1, 5, 4], [1, 1, 5, 6]).is_ok());
    assert!(shape([1, 2, 3, 4], [1, 1, 0, 4], [1, 1, 0, 6]).is_ok());
    for (q, k, v) in [
        ([1, 2, 3, 4], [1, 1, 5, 3], [1, 1, 5, 6]),
        ([1, 3, 3, 4], [1, 2, 5, 4], [1, 2, 5, 6]),
        ([2, 2, 3, 4], [1, 1, 5, 4], [1, 1, 5, 6]),
        ([1, 2, 3, 4], [1, 1, 5, 4], [1, 1, 6, 6]),
    ] {
        assert!(matches!(shape(q, k, v), Err(Error::Shape { .. })), "{q:?} {k:?} {v:?}");
    }
    let half = zeros([1, 1, 2, 4]).cast(FloatDType::F16);
    let refused = attention.mean(half.clone(), half.clone(), half);
    assert!(matches!(refused, Err(Error::Value { .. })));
    let double = zeros([1, 1, 2, 4]).cast(FloatDType::F64);
    let refused = attention.mean(zeros([1, 1, 2, 4]), double.clone(), double);
    assert!(matches!(refused, Err(Error::Value { argument, .. }) if argument.contains('k')));
    let short = Tensor::<1>::zeros([3], &device);
    let refused = layer_norm(zeros([1, 1, 2, 4]), short.clone(), short, 1e-5);
    assert!(matches!(refused, Err(Error::Shape { argument, .. }) if argument == "gamma"));
    let model = Model::new(EachKeyPicksOne, Uniform, Dot::new(1.0));
    assert!(Posterior::smoothed_average(model, f64::INFINITY).is_err());
}
