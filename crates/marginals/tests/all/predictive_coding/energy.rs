//! The energy and how it falls.

use marginals::infer::collapsed::{
    Backtracking, Descent, Exact, FixedPoint, Latent, Maximise, Newton, Update,
};
use marginals::zoo::predictive_coding::Order;
use marginals_testkit::compare::{Tolerance, assert_close};
use marginals_testkit::generate::Random;

use super::networks::{Case, Choices};

#[test]
fn is_that_of_the_definition() {
    let mut random = Random::new(1);
    for _ in 0..1000 {
        let case =
            Case::generate(&mut random, Choices { linear: false, single: false, smooth: false });
        let z = case.state(&mut random);
        let network = case.network();
        let found = network.free_energy(&z).unwrap();
        assert_close("F", &found, &case.free_energy(&z), Tolerance::mixed(1e-10));
        let by_layer = network.energies(&z).unwrap();
        for (b, &whole) in found.iter().enumerate() {
            let sum: f64 = by_layer.iter().map(|layer| layer[b]).sum();
            assert!((sum - whole).abs() <= 1e-10 * (1.0 + whole.abs()));
        }
    }
}

/// Exact steps, of all layers together and of one after the other.
#[test]
fn never_rises_by_an_exact_step() {
    let mut random = Random::new(2);
    for index in 0..1000 {
        let case =
            Case::generate(&mut random, Choices { linear: true, single: false, smooth: true });
        let order = if index % 2 == 0 { Order::Together } else { Order::LayerByLayer };
        let network = case.network().with_order(order);
        let mut z = case.state(&mut random);
        let mut before = case.free_energy(&z);
        for _ in 0..8 {
            z = network.maximise(&z).unwrap().next;
            let after = case.free_energy(&z);
            for (&before, &after) in before.iter().zip(&after) {
                assert!(
                    after <= before + 1e-12 * (1.0 + before.abs()),
                    "{before} {after} {order:?}"
                );
            }
            before = after;
        }
    }
}

#[test]
fn never_rises_by_a_shortened_step() {
    let mut random = Random::new(3);
    for _ in 0..200 {
        let case =
            Case::generate(&mut random, Choices { linear: false, single: false, smooth: false });
        let network = case.network();
        let newton = Newton::new(&network).with_backtracking(Backtracking::default()).unwrap();
        let descent = Descent::new(&network, 1.0).unwrap();
        let descent = descent.with_backtracking(Backtracking::default()).unwrap();
        let updates: [&dyn Update<f64>; 2] = [&newton, &descent];
        for update in updates {
            let mut z = case.state(&mut random);
            let mut before = case.free_energy(&z);
            for _ in 0..10 {
                z = update.evaluate(&z).unwrap().next;
                let after = case.free_energy(&z);
                for (&before, &after) in before.iter().zip(&after) {
                    assert!(after <= before + 1e-12 * (1.0 + before.abs()), "{before} {after}");
                }
                before = after;
            }
        }
    }
}

/// Second-order steps end where gradient steps do not move, in few of them.
#[test]
fn second_order_steps_find_a_minimum() {
    let mut random = Random::new(4);
    let mut steps = Vec::new();
    for _ in 0..50 {
        let case =
            Case::generate(&mut random, Choices { linear: false, single: true, smooth: true });
        let network = case.network();
        let newton = Newton::new(&network).with_backtracking(Backtracking::default()).unwrap();
        let engine = FixedPoint { tolerance: 1e-10, max_steps: 300, ..FixedPoint::default() };
        let solution = engine.solve(&newton, &network.start()).unwrap();
        if solution.converged() {
            steps.extend(solution.steps);
            let descent = Descent::new(&network, 1e-3).unwrap();
            let next = descent.evaluate(&solution.z).unwrap().next;
            for (z, next) in solution.z.iter().zip(next) {
                assert!((z - next).abs() < 1e-9, "{z} {next}");
            }
        }
    }
    steps.sort();
    assert!(steps.len() > 45, "{} converged", steps.len());
    assert!(steps[steps.len() / 2] < 20, "{steps:?}");
}

/// Both orders of exact steps come to the same minimum, where there is one.
#[test]
fn the_order_of_layers_does_not_move_the_minimum() {
    let mut random = Random::new(5);
    for _ in 0..20 {
        let mut case =
            Case::generate(&mut random, Choices { linear: true, single: true, smooth: true });
        // A prior on the causes, so that there is one minimum.
        if case.layers[0].predictors.is_none() {
            continue;
        }
        case.layers.iter_mut().flat_map(|l| &mut l.predictors).for_each(|p| p.beta = 1.0);
        let engine = FixedPoint { tolerance: 1e-13, max_steps: 5000, ..FixedPoint::default() };
        let z = case.state(&mut random);
        let together = case.network();
        let together = engine.solve(&Exact(&together), &z).unwrap();
        let one = case.network().with_order(Order::LayerByLayer);
        let one = engine.solve(&Exact(&one), &z).unwrap();
        let energies = [&together, &one].map(|s| case.free_energy(&s.z));
        assert_close("F", &energies[1], &energies[0], Tolerance::mixed(1e-10));
    }
}
