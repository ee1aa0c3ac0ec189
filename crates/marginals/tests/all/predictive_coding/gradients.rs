//! Gradients against finite differences of the definition.

use marginals::infer::collapsed::{
    Descent, Differentiable, Differentiation, Exact, FixedPoint, Latent, Maximise, Newton,
};
use marginals_testkit::compare::{Tolerance, assert_close};
use marginals_testkit::generate::Random;

use super::networks::{Case, Choices, gradient};

const ANY: Choices = Choices { linear: false, single: false, smooth: true };

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Numbers of known nodes in z do not count, and have no gradient.
#[test]
fn of_the_energy_in_nodes_and_inputs() {
    let mut random = Random::new(11);
    for _ in 0..200 {
        let case = Case::generate(&mut random, ANY);
        let network = case.network();
        let z = case.state(&mut random);
        let weights: Vec<f64> = random.normals(case.batch);
        let loss = |case: &Case, z: &[f64]| dot(&case.free_energy(z), &weights);
        let width = case.width();
        let found = network.gradient(&z).unwrap();
        let found: Vec<f64> =
            found.next.iter().enumerate().map(|(at, g)| g * weights[at / width]).collect();
        let expected = gradient(&z, |z| loss(&case, z));
        assert_close("grad z", &found, &expected, Tolerance::mixed(1e-7));
        // Of the sum over the batch.
        let (_, inputs) = network.learning(&z).unwrap();
        for input in inputs.iter() {
            let mut moved = case.clone();
            let at = moved.input(&input.name).to_vec();
            let expected = gradient(&at, |x| {
                moved.input(&input.name).copy_from_slice(x);
                moved.free_energy(&z).iter().sum()
            });
            let found: Vec<f64> = input.gradient.iter().copied().collect();
            assert_close(&input.name, &found, &expected, Tolerance::mixed(1e-7));
        }
    }
}

/// ∇²F and ∂∇F/∂input in a direction, against differences of the gradient.
#[test]
fn of_the_gradient() {
    let mut random = Random::new(12);
    for _ in 0..40 {
        let case = Case::generate(&mut random, ANY);
        let network = case.network();
        let (z, u) = (case.state(&mut random), case.state(&mut random));
        let along = |case: &Case, z: &[f64]| dot(&case.network().gradient(z).unwrap().next, &u);
        let mut inputs = network.inputs();
        let found = network.gradient_backward(&z, &u, &mut inputs).unwrap();
        let expected = gradient(&z, |z| along(&case, z));
        assert_close("Hessian", &found, &expected, Tolerance::mixed(1e-6));
        for input in inputs.iter() {
            let mut moved = case.clone();
            let at = moved.input(&input.name).to_vec();
            let expected = gradient(&at, |x| {
                moved.input(&input.name).copy_from_slice(x);
                along(&moved, &z)
            });
            let found: Vec<f64> = input.gradient.iter().copied().collect();
            assert_close(&input.name, &found, &expected, Tolerance::mixed(1e-6));
        }
    }
}

/// A loss of the minimum, differentiated implicitly through exact, second-order and gradient steps.
#[test]
fn through_the_minimum() {
    let mut random = Random::new(13);
    let mut met = 0;
    for _ in 0..12 {
        let mut case =
            Case::generate(&mut random, Choices { linear: true, single: false, smooth: true });
        if case.layers[0].predictors.is_none() {
            continue;
        }
        // Picks that hardly move, so that there is one minimum.
        case.layers.iter_mut().flat_map(|l| &mut l.predictors).for_each(|p| p.beta = 0.3);
        let engine = FixedPoint {
            tolerance: 1e-12,
            max_steps: 400,
            differentiation: Differentiation::Implicit { tolerance: 1e-11, max_iterations: 2000 },
            ..FixedPoint::default()
        };
        let start = case.network().start();
        let minimum = |case: &Case| engine.solve(&Exact(&case.network()), &start).unwrap();
        let network = case.network();
        let solution = minimum(&case);
        if !solution.converged() {
            continue;
        }
        met += 1;
        let upstream = network.of_free_nodes(&case.state(&mut random)).unwrap();
        let exact = engine.backward(&Exact(&network), &solution, &upstream).unwrap();
        let newton = engine.backward(&Newton::new(&network), &solution, &upstream).unwrap();
        for (a, b) in exact.inputs.iter().zip(newton.inputs.iter()) {
            let [a, b] = [a, b].map(|of| of.gradient.iter().copied().collect::<Vec<f64>>());
            assert_close("second-order", &b, &a, Tolerance::mixed(1e-7));
        }
        for input in exact.inputs.iter() {
            let mut moved = case.clone();
            let at = moved.input(&input.name).to_vec();
            // Every entry is a solve for each difference.
            let Some(entry) = (0..at.len()).nth(random.integer(0, 3) as usize) else { continue };
            let expected = gradient(&at[entry..=entry], |x| {
                moved.input(&input.name)[entry] = x[0];
                dot(&minimum(&moved).z, &upstream)
            });
            let found = *input.gradient.iter().nth(entry).unwrap();
            assert_close(&input.name, &[found], &expected, Tolerance::mixed(1e-5));
        }
    }
    assert!(met > 5, "{met}");
}

/// At the minimum ∂F/∂z is 0, so that the local gradient is that of the minimum.
#[test]
fn learning_is_local() {
    let mut random = Random::new(14);
    let mut met = 0;
    for _ in 0..60 {
        let case =
            Case::generate(&mut random, Choices { linear: true, single: true, smooth: true });
        if case.layers[0].predictors.is_none() {
            continue;
        }
        met += 1;
        let engine = FixedPoint { tolerance: 1e-12, max_steps: 10, ..FixedPoint::default() };
        let start = case.network().start();
        let solution = engine.solve(&Exact(&case.network()), &start).unwrap();
        let (_, inputs) = case.network().learning(&solution.z).unwrap();
        for input in inputs.iter() {
            let mut moved = case.clone();
            let at = moved.input(&input.name).to_vec();
            let expected = gradient(&at, |x| {
                moved.input(&input.name).copy_from_slice(x);
                let network = moved.network();
                let z = network.maximise(&start).unwrap().next;
                network.free_energy(&z).unwrap().iter().sum()
            });
            let found: Vec<f64> = input.gradient.iter().copied().collect();
            assert_close(&input.name, &found, &expected, Tolerance::mixed(1e-6));
        }
    }
    assert!(met > 10, "{met}");
}

/// Steps that are unrolled, against differences of where they end.
#[test]
fn through_the_steps() {
    let mut random = Random::new(15);
    for _ in 0..15 {
        let case = Case::generate(&mut random, ANY);
        let engine = FixedPoint {
            tolerance: 0.0,
            max_steps: 5,
            differentiation: Differentiation::Unrolled,
            ..FixedPoint::default()
        };
        let start = case.state(&mut random);
        let end = |case: &Case| {
            let network = case.network();
            engine.solve(&Descent::new(&network, 0.02).unwrap(), &start).unwrap()
        };
        let network = case.network();
        let solution = end(&case);
        let upstream = case.state(&mut random);
        let descent = Descent::new(&network, 0.02).unwrap();
        let through = engine.backward(&descent, &solution, &upstream).unwrap();
        for input in through.inputs.iter() {
            let mut moved = case.clone();
            let at = moved.input(&input.name).to_vec();
            let expected = gradient(&at, |x| {
                moved.input(&input.name).copy_from_slice(x);
                dot(&end(&moved).z, &upstream)
            });
            let found: Vec<f64> = input.gradient.iter().copied().collect();
            assert_close(&input.name, &found, &expected, Tolerance::mixed(1e-6));
        }
    }
}
