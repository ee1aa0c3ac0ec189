//! The plain slot step: what it computes, that F never rises under it, and its gradients.

#![allow(clippy::needless_range_loop, reason = "indices are the symbols of the equations")]

use marginals::Error;
use marginals::infer::collapsed::{
    Acceleration, Differentiation, Exact, FixedPoint, Latent, Maximise,
};
use marginals::zoo::slots::PlainSlots;
use marginals_testkit::finite_difference::gradient;
use marginals_testkit::generate::Random;
use ndarray::{Array3, ArrayView1, s};

struct Case {
    x: Array3<f64>,
    slots: usize,
    beta: f64,
    epsilon: f64,
    start: Vec<f64>,
}

impl Case {
    fn draw(random: &mut Random) -> Self {
        let mut size = |low, high| random.integer(low, high) as usize;
        let (batch, keys, width, slots) = (size(1, 3), size(1, 40), size(2, 9), size(1, 7));
        let mut normal = |size: f64| size * random.normal();
        let x = Array3::from_shape_fn((batch, keys, width), |_| normal(1.0));
        let start = (0..batch * slots * width).map(|_| normal(3.0)).collect();
        let beta = 10f64.powf(random.integer(0, 30) as f64 / 10.0 - 2.0);
        let epsilon = [0.0, 1e-8, 0.01, 1.0][random.integer(0, 3) as usize];
        Self { x, slots, beta, epsilon, start }
    }

    fn model(&self) -> PlainSlots<'_, f64> {
        PlainSlots::new(self.x.view(), self.slots, self.beta, self.epsilon).unwrap()
    }
}

fn normalised(s: ArrayView1<'_, f64>) -> Vec<f64> {
    let mean = s.mean().unwrap();
    let deviation = (s.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / s.len() as f64).sqrt();
    s.iter().map(|x| (x - mean) / deviation).collect()
}

/// Step and F from the formulas, with the whole matrix.
fn by_definition(case: &Case, z: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (batch, keys, width) = case.x.dim();
    let z = ndarray::ArrayView3::from_shape((batch, case.slots, width), z).unwrap();
    let (mut next, mut energies) = (Vec::new(), Vec::new());
    for b in 0..batch {
        let slots: Vec<Vec<f64>> =
            (0..case.slots).map(|i| normalised(z.slice(s![b, i, ..]))).collect();
        let theta = |i: usize, j: usize| -> f64 {
            let x = case.x.slice(s![b, j, ..]);
            case.beta * slots[i].iter().zip(x).map(|(a, b)| a * b).sum::<f64>()
        };
        let mut energy = 0.0;
        let mut weight = vec![Vec::with_capacity(keys); case.slots];
        for j in 0..keys {
            let scores: Vec<f64> = (0..case.slots).map(|i| theta(i, j)).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|t| (t - max).exp()).sum();
            energy -= max + sum.ln();
            for (weight, t) in weight.iter_mut().zip(&scores) {
                weight.push((t - max).exp() / sum + case.epsilon);
                energy -= case.epsilon * t;
            }
        }
        energies.push(energy);
        for weight in weight {
            let total: f64 = weight.iter().sum();
            for d in 0..width {
                let sum: f64 = (0..keys).map(|j| weight[j] * case.x[[b, j, d]]).sum();
                next.push(sum / total);
            }
        }
    }
    (next, energies)
}

#[test]
fn steps_and_energies_are_those_of_the_formulas() {
    let mut random = Random::new(1);
    for _ in 0..300 {
        let case = Case::draw(&mut random);
        let found = case.model().maximise(&case.start).unwrap();
        let (next, energies) = by_definition(&case, &case.start);
        for (a, b) in found.next.iter().zip(&next) {
            assert!((a - b).abs() <= 1e-10 * b.abs().max(1.0), "{a} {b}");
        }
        for (a, b) in found.free_energy.iter().zip(&energies) {
            assert!((a - b).abs() <= 1e-10 * b.abs().max(1.0), "{a} {b}");
        }
        assert_eq!(case.model().free_energy(&case.start).unwrap().len(), case.x.dim().0);
    }
}

#[test]
fn free_energy_never_rises() {
    let mut random = Random::new(2);
    let plain = FixedPoint { tolerance: 1e-9, max_steps: 60, ..FixedPoint::default() };
    let fast = plain.clone().with_acceleration(Acceleration::Anderson { memory: 5 });
    let mut fell = 0;
    for _ in 0..1000 {
        let case = Case::draw(&mut random);
        for engine in [&plain, &fast] {
            let model = case.model();
            let solution = engine.solve(&Exact(&model), &case.start).unwrap();
            let energies: Vec<f64> =
                solution.trace.iter().map(|t| t.free_energy.unwrap()).collect();
            for pair in energies.windows(2) {
                let rounding = 1e-12 * pair[0].abs().max(1.0);
                assert!(pair[1] <= pair[0] + rounding, "F rose from {} to {}", pair[0], pair[1]);
                fell += usize::from(pair[1] < pair[0] - rounding);
            }
        }
    }
    // Not because nothing moves.
    assert!(fell > 5_000, "{fell}");
}

/// Why nothing is promised without the normalisation: the field Σ_j p_ij (x_j − z_i) that the step
/// then follows has a Jacobian that is not symmetric, so it is the gradient of no F.
#[test]
fn without_normalisation_the_step_follows_no_energy() {
    let x = [[1.0, 0.2], [-0.3, 0.9], [0.4, -1.1]];
    let field = |z: &[f64]| -> Vec<f64> {
        let mut g = vec![0.0; 4];
        for x in &x {
            let theta = |i: usize| z[2 * i] * x[0] + z[2 * i + 1] * x[1];
            let first = 1.0 / (1.0 + (theta(1) - theta(0)).exp());
            for (i, p) in [first, 1.0 - first].into_iter().enumerate() {
                (0..2).for_each(|d| g[2 * i + d] += p * (x[d] - z[2 * i + d]));
            }
        }
        g
    };
    let z = [0.5, -0.7, 1.3, 0.1];
    let row = |out: usize| gradient(&z, |z| field(z)[out]);
    // ∂g of slot 0, coordinate 0, by slot 1, coordinate 1; and the other way round.
    let (one, other) = (row(0)[3], row(3)[0]);
    let gap = (one.value - other.value).abs();
    assert!(gap > 0.01 && gap > 1e6 * (one.error + other.error), "{one:?} {other:?}");
}

#[test]
fn gradients_agree_with_finite_differences() {
    let mut random = Random::new(3);
    for _ in 0..12 {
        let case = Case::draw(&mut random);
        let case = Case { beta: case.beta.min(1.0), ..case };
        let upstream: Vec<f64> = case.start.iter().map(|_| random.normal()).collect();
        let engine = FixedPoint { tolerance: 0.0, max_steps: 2, ..FixedPoint::default() }
            .with_differentiation(Differentiation::Unrolled);
        let model = case.model();
        let solution = engine.solve(&Exact(&model), &case.start).unwrap();
        let found = engine.backward(&Exact(&model), &solution, &upstream).unwrap();
        let loss = |case: &Case, start: &[f64]| -> f64 {
            let (once, _) = by_definition(case, start);
            let (twice, _) = by_definition(case, &once);
            twice.iter().zip(&upstream).map(|(z, u)| z * u).sum()
        };
        let close = |name: &str, found: &[f64], expected: Vec<f64>| {
            let scale = expected.iter().fold(1e-3f64, |max, x| max.max(x.abs()));
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() <= 1e-6 * scale, "{name}: {a}, differences say {b}");
            }
        };
        // Problems that stand still stop before the second step; few do, and none that is smooth.
        if solution.steps.iter().any(|&steps| steps != 2) {
            continue;
        }
        let of_start = gradient(&case.start, |start| loss(&case, start));
        close("start", &found.start, of_start.iter().map(|d| d.value).collect());
        let shape = case.x.dim();
        let of_x = gradient(case.x.as_slice().unwrap(), |x| {
            let x = Array3::from_shape_vec(shape, x.to_vec()).unwrap();
            loss(&Case { x, start: Vec::new(), ..case }, &case.start)
        });
        let x = found.inputs.get("x").unwrap();
        close("x", x.as_slice().unwrap(), of_x.iter().map(|d| d.value).collect());
    }
}

#[test]
fn implicit_gradients_agree_with_unrolled_ones_at_convergence() {
    let mut random = Random::new(4);
    let mut compared = 0;
    for _ in 0..20 {
        let case = Case { beta: 0.5, epsilon: 0.1, ..Case::draw(&mut random) };
        let model = case.model();
        let upstream: Vec<f64> = case.start.iter().map(|_| random.normal()).collect();
        let implicit = FixedPoint { tolerance: 1e-14, max_steps: 400, ..FixedPoint::default() }
            .with_differentiation(Differentiation::Implicit {
                tolerance: 1e-11,
                max_iterations: 400,
            });
        let unrolled = implicit.clone().with_differentiation(Differentiation::Unrolled);
        let solution = implicit.solve(&Exact(&model), &case.start).unwrap();
        if !solution.converged() {
            continue;
        }
        let one = implicit.backward(&Exact(&model), &solution, &upstream).unwrap();
        let solution = unrolled.solve(&Exact(&model), &case.start).unwrap();
        let all = unrolled.backward(&Exact(&model), &solution, &upstream).unwrap();
        let (one, all) = (one.inputs.get("x").unwrap(), all.inputs.get("x").unwrap());
        let scale = all.iter().fold(1e-3f64, |max, x| max.max(x.abs()));
        for (a, b) in one.iter().zip(all) {
            assert!((a - b).abs() <= 1e-6 * scale, "{a} {b}");
        }
        compared += 1;
    }
    assert!(compared >= 10, "{compared}");
}

/// A slot that is constant has no direction, and inputs without any leave none either.
#[test]
fn constant_slots_and_inputs_are_no_trouble() {
    let x = Array3::<f64>::from_elem((1, 4, 3), 2.0);
    let model = PlainSlots::new(x.view(), 2, 1.0, 0.0).unwrap();
    let start = [1.0, 1.0, 1.0, 0.0, 1.0, 2.0];
    let found = model.maximise(&start).unwrap();
    assert!(found.next.iter().all(|s| (s - 2.0).abs() < 1e-14), "{:?}", found.next);
    let mut inputs = model.inputs();
    let gradient = model.maximise_backward(&start, &[1.0; 6], &mut inputs).unwrap();
    assert!(gradient.iter().all(|g| g.is_finite()));
    let empty = Array3::zeros((1, 0, 3));
    let model = PlainSlots::new(empty.view(), 2, 1.0, 0.1).unwrap();
    assert_eq!(model.maximise(&start).unwrap().next, [0.0; 6]);
}

#[test]
fn bad_settings_are_named() {
    let x = Array3::<f64>::zeros((1, 4, 3));
    let named = |slots, beta, epsilon| match PlainSlots::new(x.view(), slots, beta, epsilon) {
        Err(Error::Value { argument, .. }) => argument,
        other => panic!("{other:?}"),
    };
    assert_eq!(named(0, 1.0, 0.0), "slots");
    assert_eq!(named(2, 0.0, 0.0), "beta");
    assert_eq!(named(2, f64::NAN, 0.0), "beta");
    assert_eq!(named(2, 1.0, -0.1), "epsilon");
    let model = PlainSlots::new(x.view(), 2, 1.0, 0.0).unwrap();
    assert!(matches!(model.maximise(&[0.0; 5]), Err(Error::Shape { .. })));
}
