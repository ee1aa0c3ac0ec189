//! Recipes reach what they are meant to reach, and always cook the same case.

use std::collections::HashSet;

use marginals_testkit::generate::strategy::Pantry;
use marginals_testkit::generate::{Flavour, PotentialKind, PriorKind, Recipe};
use marginals_testkit::{Structure, dense, enumerate, finite_difference};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

fn draw(pantry: &Pantry, count: usize) -> Vec<Recipe> {
    let mut runner = TestRunner::deterministic();
    let strategy = pantry.recipes();
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("a recipe").current()).collect()
}

#[test]
fn every_part_and_every_awkward_case_occurs() {
    let mut priors = HashSet::new();
    let mut potentials = HashSet::new();
    let (mut dead, mut alive, mut ties, mut huge) = (0, 0, 0, 0);
    for structure in Structure::ALL {
        for recipe in draw(&Pantry::tiny(structure), 500) {
            priors.extend(recipe.priors.iter().copied());
            potentials.insert(recipe.potential);
            let case = recipe.build();
            assert_eq!(format!("{case:?}"), format!("{:?}", recipe.build()), "{recipe:?}");
            for b in 0..recipe.batch {
                for h in 0..recipe.heads() {
                    let head = case.model.head(&case.inputs, b, h);
                    assert!(head.log_weight.iter().all(|x| *x < f64::INFINITY), "{recipe:?}");
                    assert!(head.log_potential.iter().all(|x| x.is_finite()), "{recipe:?}");
                    let answers = dense::answer(&head);
                    let none = |z: &&f64| **z == f64::NEG_INFINITY;
                    dead += answers.log_partition.iter().filter(none).count();
                    alive += answers.log_partition.iter().filter(|z| z.is_finite()).count();
                    ties +=
                        answers.ranking.iter().filter(|r| r.len() > 1 && r[0].1 == r[1].1).count();
                    huge += answers.log_partition.iter().filter(|z| z.abs() > 1e3).count();
                    for x in [&answers.entropy, &answers.kl] {
                        assert!(x.iter().all(|x| *x >= -1e-8), "{recipe:?}: {x}");
                    }
                }
            }
        }
    }
    assert_eq!(priors.len(), PriorKind::ALL.len());
    assert_eq!(potentials.len(), PotentialKind::ALL.len());
    assert!(dead > 100 && alive > 1000 && ties > 300 && huge > 100, "{dead} {alive} {ties} {huge}");
}

/// The marginals are the gradient of the log-partition (through a dense bias), and its Hessian
/// diagonal is a variance: two identities that tie finite differences, reference and answers together.
#[test]
fn marginals_are_the_gradient_of_the_log_partition() {
    for structure in Structure::ALL {
        for recipe in draw(&Pantry { batches: 1, ..Pantry::tiny(structure) }, 60) {
            if recipe.flavour == Flavour::Huge {
                continue;
            }
            let case = recipe.build();
            let head = case.model.head(&case.inputs, 0, 0);
            let answers = enumerate::answer(&head);
            let theta: Vec<f64> = head.log_weight.iter().copied().collect();
            let alive = |z: &&f64| **z > f64::NEG_INFINITY;
            let slopes = finite_difference::gradient(&theta, |theta| {
                let mut moved = head.clone();
                moved.log_weight.as_slice_mut().unwrap().copy_from_slice(theta);
                dense::answer(&moved).log_partition.iter().filter(alive).sum()
            });
            for (slope, p) in slopes.iter().zip(&answers.marginals) {
                assert!((slope.value - p).abs() < 1e-8, "{recipe:?}: {slope:?} {p}");
            }
        }
    }
}
