//! The mean field.

use marginals::infer::collapsed::{Acceleration, Exact, FixedPoint, Maximise, Reason};
use marginals::potential::Dot;
use marginals::zoo::expanding::Inference;
use marginals_testkit::expanding::{MeanField, by_enumeration};
use marginals_testkit::generate::Random;

use crate::expanding::case::{Case, SCALE, Sizes, off};

const SIZES: Sizes =
    Sizes { queries: 4, keys: 60, log_alpha: (-1.5, 3.0), log_beta: (-1.5, 4.0), content: 1.0 };

/// Every step of every query, against dense coordinate ascent whose expectations are integrals.
#[test]
fn steps_and_bounds_equal_the_dense_twin() {
    let potential = Dot::new(SCALE);
    let mut random = Random::new(51);
    let mut worst = 0.0f64;
    for _ in 0..25 {
        let case = Case::new(&mut random, SIZES);
        for steps in [0, 1, 2, 5] {
            let engine = FixedPoint { tolerance: 0.0, max_steps: steps, ..FixedPoint::default() };
            let settings = case.settings().with_tolerance(0.0);
            let settings = settings.with_inference(Inference::MeanField(engine));
            let found = case.attend(&settings, &potential);
            let concentration = found.concentration.as_ref().unwrap();
            for (b, h, i) in case.places() {
                let place = [b, h, i];
                if case.visible(i) == 0 {
                    assert_eq!(found.log_evidence[place], f64::NEG_INFINITY);
                    continue;
                }
                let query = case.query((b, h, i), 0);
                let mut twin = MeanField::at_by_quadrature(&query, query.beta);
                for _ in 0..found.steps[place] {
                    twin = MeanField::at_by_quadrature(&query, twin.next(&query));
                }
                let bound = twin.bound(&query);
                assert!(bound <= by_enumeration(&query).log_evidence + 1e-10);
                let mut pairs = vec![
                    (concentration[place], twin.after),
                    (found.log_evidence[place], bound),
                    (found.distance[place], twin.distance),
                ];
                let mean = case.mean((b, h, i), 0, &twin.marginals);
                pairs.extend(mean.iter().enumerate().map(|(c, x)| (found.mean[[b, h, i, c]], *x)));
                let (a, after) = (query.alpha + 1.0, twin.after);
                pairs.push((found.rho_mean[place], a / (a + after)));
                for (got, truth) in pairs {
                    assert!(off(got, truth) < 1e-9, "{got} for {truth}\n{case:?}");
                    worst = worst.max(off(got, truth));
                }
            }
        }
    }
    println!("mean field: largest difference from the dense twin {worst:.1e}");
}

/// 1,000 generated models, with plain steps and accelerated.
#[test]
fn the_bound_never_falls() {
    let potential = Dot::new(SCALE);
    let mut random = Random::new(52);
    let (mut entries, mut converged, mut problems) = (0, 0, 0);
    for round in 0..1000 {
        let case = Case::new(&mut random, Sizes { content: 0.3 * f64::from(round % 8), ..SIZES });
        let start = FixedPoint { max_steps: 0, ..FixedPoint::default() };
        let settings = case.settings().with_tolerance(0.0);
        let found = case.attend(&settings.with_inference(Inference::MeanField(start)), &potential);
        let model = found.mean_field();
        let z: Vec<f64> = case
            .places()
            .filter(|&(_, _, i)| case.visible(i) > 0)
            .map(|place| case.query(place, 0).beta.ln())
            .collect();
        let plain = FixedPoint { tolerance: 1e-10, max_steps: 300, ..FixedPoint::default() };
        let accelerated = plain.clone().with_acceleration(Acceleration::Anderson { memory: 3 });
        if z.is_empty() {
            continue;
        }
        // Problem by problem, as far as 60 steps.
        let mut at = z.clone();
        let mut before = vec![f64::INFINITY; z.len()];
        for _ in 0..60 {
            let evaluation = model.maximise(&at).unwrap();
            for (old, &new) in before.iter_mut().zip(&evaluation.free_energy) {
                assert!(new <= *old + 1e-12 * new.abs().max(1.0), "{old} {new}\n{case:?}");
                *old = new;
                entries += 1;
            }
            at = evaluation.next;
        }
        // And the sum of them along the engine's own path.
        for engine in [plain, accelerated] {
            let solution = engine.solve(&Exact(&model), &z).unwrap();
            let energies: Vec<f64> =
                solution.trace.iter().map(|entry| entry.free_energy.unwrap()).collect();
            for pair in energies.windows(2) {
                let size = pair[0].abs().max(1.0);
                assert!(pair[1] <= pair[0] + 1e-12 * size, "{pair:?}\n{case:?}");
            }
            problems += z.len();
            converged +=
                solution.reasons.iter().filter(|reason| **reason == Reason::Converged).count();
        }
    }
    println!(
        "{entries} steps of single queries in 1,000 models; {converged} of {problems} problems converged"
    );
    assert!(converged as f64 > 0.99 * problems as f64);
}

/// As the window grows the bound rises, and it stays below the evidence.
#[test]
fn a_wider_window_has_a_higher_bound() {
    let potential = Dot::new(SCALE);
    let mut random = Random::new(53);
    let mut narrower = 0;
    for _ in 0..40 {
        let sizes = Sizes {
            queries: 3,
            keys: 600,
            log_alpha: (1.0, 3.0),
            log_beta: (0.0, 3.0),
            content: 0.4,
        };
        let case = Case::new(&mut random, sizes);
        let engine = FixedPoint { tolerance: 1e-12, max_steps: 1000, ..FixedPoint::default() };
        let with = |tolerance| {
            let settings = case.settings().with_tolerance(tolerance);
            case.attend(&settings.with_inference(Inference::MeanField(engine.clone())), &potential)
        };
        let (narrow, wide) = (with(0.05), with(0.0));
        for (b, h, i) in case.places() {
            let place = [b, h, i];
            if case.visible(i) > 0 {
                let (low, high) = (narrow.log_evidence[place], wide.log_evidence[place]);
                assert!(low <= high + 1e-11 * high.abs().max(1.0), "{low} {high}");
                assert!(high <= by_enumeration(&case.query((b, h, i), 0)).log_evidence + 1e-11);
                narrower += usize::from(narrow.window[place] < wide.window[place]);
            }
        }
    }
    assert!(narrower > 20, "{narrower}");
}
