//! Gradients against finite differences.

use marginals::infer::collapsed::{Differentiation, FixedPoint};
use marginals::potential::Dot;
use marginals::zoo::expanding::{Expanding, ExpandingUpstream, Inference};
use marginals_testkit::finite_difference::gradient;
use marginals_testkit::generate::Random;
use ndarray::{Array, Array3, Array4, Dimension};

use crate::expanding::case::{Case, SCALE, Sizes};

const SIZES: Sizes =
    Sizes { queries: 5, keys: 12, log_alpha: (-0.7, 1.5), log_beta: (-0.7, 2.0), content: 0.8 };

fn engine() -> FixedPoint {
    FixedPoint { tolerance: 1e-14, max_steps: 3000, ..FixedPoint::default() }
        .with_differentiation(Differentiation::Implicit { tolerance: 1e-12, max_iterations: 500 })
}

/// Σ of upstream · answer.
struct Loss {
    mean: Array4<f64>,
    evidence: Array3<f64>,
    rho: Array3<f64>,
}

impl Loss {
    fn new(random: &mut Random, case: &Case) -> Self {
        let (b, h, n, _) = case.q.dim();
        let mut rows = || Array3::from_shape_simple_fn((b, h, n), || random.normal());
        let (mut evidence, rho) = (rows(), rows());
        // −∞ has no slope.
        for ((_, _, i), g) in evidence.indexed_iter_mut() {
            if case.visible(i) == 0 {
                *g = 0.0;
            }
        }
        let mean = Array4::from_shape_simple_fn((b, h, n, 3), || random.normal());
        Self { mean, evidence, rho }
    }

    fn at(&self, case: &Case, settings: &Expanding, scale: f64) -> f64 {
        let settings = Expanding {
            concentrations: Expanding::per_query(case.alpha.clone(), case.beta.clone())
                .concentrations,
            ..settings.clone()
        };
        let potential = Dot::new(scale);
        let found = case.attend(&settings, &potential);
        let evidence = self.evidence.iter().zip(&found.log_evidence);
        (&self.mean * &found.mean).sum()
            + (&self.rho * &found.rho_mean).sum()
            + evidence.filter(|(g, _)| **g != 0.0).map(|(g, x)| g * x).sum::<f64>()
    }
}

/// Compares a gradient with differences of the loss, entry by entry.
fn compare<D: Dimension>(
    name: &str,
    x: &Array<f64, D>,
    got: &Array<f64, D>,
    mut loss: impl FnMut(Array<f64, D>) -> f64,
) -> f64 {
    let flat: Vec<f64> = x.iter().copied().collect();
    let truth =
        gradient(&flat, |flat| loss(Array::from_shape_vec(x.raw_dim(), flat.to_vec()).unwrap()));
    let mut worst = 0.0f64;
    for (at, (truth, got)) in truth.iter().zip(got).enumerate() {
        let error = (truth.value - got).abs() / truth.value.abs().max(1.0);
        assert!(error < 1e-6, "{name}[{at}]: {got} for {truth:?}");
        worst = worst.max(error);
    }
    worst
}

fn check(settings: impl Fn(&Case) -> Expanding, seed: u64, cases: usize) -> f64 {
    let mut random = Random::new(seed);
    let mut worst = 0.0f64;
    for _ in 0..cases {
        let case = Case::new(&mut random, SIZES);
        let loss = Loss::new(&mut random, &case);
        let settings = settings(&case);
        let potential = Dot::new(SCALE);
        let upstream = ExpandingUpstream {
            mean: Some(loss.mean.view()),
            log_evidence: Some(loss.evidence.view()),
            rho: Some(loss.rho.view()),
        };
        let found = case.attend(&settings, &potential);
        let got = found.backward(&upstream).unwrap();
        if let Some(report) = &got.adjoint {
            assert!(report.converged);
        }
        let errors = [
            compare("q", &case.q, &got.q, |q| {
                loss.at(&Case { q, ..case.clone() }, &settings, SCALE)
            }),
            compare("k", &case.k, &got.k, |k| {
                loss.at(&Case { k, ..case.clone() }, &settings, SCALE)
            }),
            compare("v", &case.v, &got.v, |v| {
                loss.at(&Case { v, ..case.clone() }, &settings, SCALE)
            }),
            compare("alpha", &case.alpha, &got.alpha, |alpha| {
                loss.at(&Case { alpha, ..case.clone() }, &settings, SCALE)
            }),
            compare("beta", &case.beta, &got.beta, |beta| {
                loss.at(&Case { beta, ..case.clone() }, &settings, SCALE)
            }),
            compare(
                "scale",
                &ndarray::arr1(&[SCALE]).into_dyn(),
                &got.potential[0].gradient,
                |scale| loss.at(&case, &settings, *scale.first().unwrap()),
            ),
        ];
        worst = errors.into_iter().fold(worst, f64::max);
    }
    worst
}

#[test]
fn exact_gradients() {
    let worst = check(|case| case.settings().with_tolerance(0.0), 81, 25);
    println!("exact gradients: largest error {worst:.1e}");
}

#[test]
fn mean_field_gradients() {
    let field = |case: &Case| {
        case.settings().with_tolerance(0.0).with_inference(Inference::MeanField(engine()))
    };
    let worst = check(field, 82, 8);
    println!("mean-field gradients: largest error {worst:.1e}");
}

/// In a window: the sizes at which backward tiles, windows and ranges of keys do not coincide.
#[test]
fn gradients_in_windows() {
    let mut random = Random::new(83);
    let sizes =
        Sizes { queries: 1, keys: 1, log_alpha: (2.8, 3.2), log_beta: (0.5, 1.0), content: 0.3 };
    let mut case = Case::new(&mut random, sizes);
    let (n, m, d) = (200, 2500, 3);
    let mut tensor = |n, d| Array4::from_shape_simple_fn((1, 1, n, d), || 0.3 * random.normal());
    (case.q, case.k, case.v) = (tensor(n, d), tensor(m, d), tensor(m, 3));
    case.alpha = Array3::from_shape_fn((1, 1, n), |(_, _, i)| 17.0 + 0.01 * i as f64);
    case.beta = Array3::from_elem((1, 1, 1), 2.0);
    case.offset = (m - n) as i64;
    for inference in [Inference::Exact, Inference::MeanField(engine())] {
        let settings = case.settings().with_tolerance(1e-9).with_inference(inference);
        let potential = Dot::new(SCALE);
        let found = case.attend(&settings, &potential);
        assert!(found.window.iter().all(|&window| window < m / 2));
        let loss = Loss::new(&mut random, &case);
        let upstream = ExpandingUpstream {
            mean: Some(loss.mean.view()),
            log_evidence: Some(loss.evidence.view()),
            rho: Some(loss.rho.view()),
        };
        let got = found.backward(&upstream).unwrap();
        // Along random directions: every entry counts.
        let mut slope = |name: &str, x: Vec<f64>, g: Vec<f64>, f: &dyn Fn(&[f64]) -> f64| {
            let direction = random.normals(x.len());
            let truth = marginals_testkit::finite_difference::along(&x, &direction, f);
            let got: f64 = g.iter().zip(&direction).map(|(g, d)| g * d).sum();
            let size = truth.value.abs().max(1.0);
            assert!((truth.value - got).abs() < 1e-6 * size, "{name}: {got} for {truth:?}");
        };
        let flat4 = |x: &Array4<f64>| x.iter().copied().collect::<Vec<f64>>();
        let flat3 = |x: &Array3<f64>| x.iter().copied().collect::<Vec<f64>>();
        slope("q", flat4(&case.q), flat4(&got.q), &|x| {
            let q = Array4::from_shape_vec(case.q.raw_dim(), x.to_vec()).unwrap();
            loss.at(&Case { q, ..case.clone() }, &settings, SCALE)
        });
        slope("k", flat4(&case.k), flat4(&got.k), &|x| {
            let k = Array4::from_shape_vec(case.k.raw_dim(), x.to_vec()).unwrap();
            loss.at(&Case { k, ..case.clone() }, &settings, SCALE)
        });
        slope("alpha", flat3(&case.alpha), flat3(&got.alpha), &|x| {
            let alpha = Array3::from_shape_vec(case.alpha.raw_dim(), x.to_vec()).unwrap();
            loss.at(&Case { alpha, ..case.clone() }, &settings, SCALE)
        });
        slope("beta", flat3(&case.beta), flat3(&got.beta), &|x| {
            let beta = Array3::from_shape_vec(case.beta.raw_dim(), x.to_vec()).unwrap();
            loss.at(&Case { beta, ..case.clone() }, &settings, SCALE)
        });
    }
}
