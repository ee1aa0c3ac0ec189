//! Scenarios reach the faults they are meant to reach, and the reference is right where they strike.

mod common;

use std::collections::HashSet;

use common::{assert_agree_unless, draw};
use marginals_testkit::compare::{Tolerance, assert_close};
use marginals_testkit::generate::strategy::Pantry;
use marginals_testkit::generate::{Case, Fault, Flavour, HUGE_MASKS, PriorKind, Scenario};
use marginals_testkit::{Problem, Structure, ValueKind, dense, enumerate};
use ndarray::Array2;

/// Everything that exists, small enough to enumerate.
fn pantries() -> Vec<Pantry> {
    let exponential = Structure::ALL.map(|structure| Pantry::tiny(structure).of_the_field());
    exponential.into_iter().chain([Pantry::nearest_accepted().of_the_field()]).collect()
}

fn every(count: usize, mut check: impl FnMut(&Scenario, &Case)) {
    for pantry in pantries() {
        for scenario in draw(&pantry.scenarios(), count) {
            check(&scenario, &scenario.build());
        }
    }
}

#[test]
fn every_part_and_every_fault_occurs() {
    let (mut priors, mut nulls, mut laws) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut faults = HashSet::new();
    every(600, |scenario, case| {
        assert_eq!(format!("{case:?}"), format!("{:?}", scenario.build()), "{scenario:?}");
        let recipe = scenario.recipe();
        priors.extend(recipe.priors.iter().copied());
        faults.extend(scenario.faults.iter().copied());
        laws.insert(case.model.law);
        nulls.insert(scenario.null);
        assert_eq!(
            case.inputs.q.dim(),
            (recipe.batch, recipe.heads(), recipe.queries, recipe.depth)
        );
        assert_eq!(case.inputs.v.dim().3, recipe.value_depth);
        assert_eq!(case.heads().len(), recipe.batch * recipe.heads());
    });
    assert_eq!(priors.len(), PriorKind::ALL.len() + PriorKind::further().len());
    assert_eq!((faults.len(), nulls.len(), laws.len()), (Fault::ALL.len(), 5, 2));
}

/// A scenario without law, null edge and faults of its own is its recipe.
#[test]
fn plain_scenarios_are_recipes() {
    for recipe in draw(&Pantry::tiny(Structure::EachQueryPicksAtMostOne).recipes(), 200) {
        let scenario = Scenario::from(recipe.clone());
        assert_eq!(format!("{:?}", scenario.build()), format!("{:?}", recipe.build()));
        // Taking a fault away leaves the other's numbers as they are.
        let both = Scenario { faults: vec![Fault::Garbage, Fault::CommonPart], ..scenario.clone() };
        let one = Scenario { faults: vec![Fault::CommonPart], ..scenario };
        let (both, one) = (both.build().inputs.v, one.build().inputs.v);
        assert!(both.iter().zip(&one).all(|(a, b)| a == b || !a.is_finite()));
    }
}

#[test]
fn the_routes_agree() {
    every(1_000, |scenario, case| {
        for (problem, touched) in case.problems().iter().zip(case.touched()) {
            let (found, expected) = (dense::answer(problem), enumerate::answer(problem));
            let name = format!("{scenario:?}");
            assert_agree_unless(&touched, &name, &found, &expected, Tolerance::mixed(1e-10));
        }
    });
}

/// The rule that garbage is held to: answers that it does not reach are what they are with zeros in its
/// place, and enough of them there are.
#[test]
fn garbage_reaches_what_it_touches_and_nothing_else() {
    let (mut clean, mut touched_by, mut spilled) = (0, 0, 0);
    for pantry in pantries() {
        let pantry = Pantry { faults: vec![Fault::Garbage], ..pantry };
        for scenario in draw(&pantry.scenarios(), 600) {
            let case = scenario.build();
            let mut mopped = case.clone();
            let inputs = &mut mopped.inputs;
            for x in inputs.q.iter_mut().chain(&mut inputs.k).chain(&mut inputs.v) {
                if !x.is_finite() {
                    (*x, spilled) = (0.0, spilled + 1);
                }
            }
            let heads = case.problems().into_iter().zip(mopped.problems()).zip(case.touched());
            for ((problem, mopped), touched) in heads {
                let (found, expected) = (dense::answer(&problem), dense::answer(&mopped));
                let name = format!("{scenario:?}");
                let exact = Tolerance { relative: 0.0, absolute: f64::MIN_POSITIVE };
                assert_agree_unless(&touched, &name, &found, &expected, exact);
                for &row in &touched.values {
                    *(if row { &mut touched_by } else { &mut clean }) += 1;
                }
            }
        }
    }
    assert!(spilled > 5_000 && touched_by > 300, "{spilled} {touched_by}");
    assert!(clean > 2 * touched_by, "{clean} clean rows of values, {touched_by} touched");
}

/// The same posterior with −∞ for keys that have more masks than others of their query, and nothing for
/// those that have the fewest; how many rows have a mask on every key, and on some twice.
fn with_infinite_masks(problem: &Problem) -> (Problem, usize, usize) {
    let (mut out, mut wholly, mut twice) = (problem.clone(), 0, 0);
    let shape = (problem.queries(), problem.keys());
    let masks = Array2::from_shape_fn(shape, |(i, j)| {
        problem.log_weight.iter().filter(|w| HUGE_MASKS.contains(&w[[i, j]])).count()
    });
    for term in &mut out.log_weight {
        term.mapv_inplace(|x| if HUGE_MASKS.contains(&x) { 0.0 } else { x });
    }
    out.log_weight.push(Array2::from_shape_fn(shape, |(i, j)| {
        let of_row = (0..shape.1).filter(|&j| problem.allowed(i, j)).map(|j| masks[[i, j]]);
        let fewest = of_row.min().unwrap_or(0);
        wholly += usize::from(fewest == 1);
        twice += usize::from(fewest == 2);
        if masks[[i, j]] > fewest { f64::NEG_INFINITY } else { 0.0 }
    }));
    (out, wholly, twice)
}

/// A mask of a large finite number is −∞ to a query that has a key with fewer of them, and nothing to
/// one that has none; e^−10000 is 0.
#[test]
fn huge_masks_are_masks() {
    let (mut wholly, mut twice) = (0, 0);
    let pantry = Pantry {
        flavours: vec![Flavour::Ordinary, Flavour::Ties, Flavour::Tiny],
        faults: vec![Fault::HugeMasks],
        ..Pantry::tiny(Structure::EachQueryPicksOne)
    };
    for scenario in draw(&pantry.scenarios(), 1_500) {
        for problem in scenario.build().problems() {
            let (masked, once_more, twice_more) = with_infinite_masks(&problem);
            (wholly, twice) = (wholly + once_more, twice + twice_more);
            let (found, expected) = (dense::answer(&problem), dense::answer(&masked));
            let t = Tolerance::mixed(1e-13);
            let name = |what: &str| format!("{what} of {scenario:?}");
            assert_close(name("marginals"), &found.marginals, &expected.marginals, t);
            assert_close(name("mean"), &found.mean, &expected.mean, t);
            let variances = (&found.value_variance, &expected.value_variance);
            assert_close(name("variance"), variances.0, variances.1, t);
            assert_close(name("KL"), &found.kl, &expected.kl, t);
            assert_close(name("log-evidence"), &found.log_evidence, &expected.log_evidence, t);
            assert_close(name("entropy"), &found.entropy, &expected.entropy, t);
        }
    }
    assert!(wholly > 1_000 && twice > 100, "{wholly} keys masked in whole rows, {twice} twice");
}

/// What the nearest key has is common to all: 10⁹ positions away, and beside the keys, linear decays
/// make the same posterior.
#[test]
fn far_positions_keep_every_digit() {
    let linear = [PriorKind::Geometric, PriorKind::Alibi, PriorKind::Laplace];
    let pantry = Pantry {
        priors: linear.into_iter().chain([PriorKind::Bias, PriorKind::KeyBias]).collect(),
        faults: vec![Fault::FarPositions],
        ..Pantry::tiny(Structure::EachQueryPicksOne)
    };
    let mut count = 0;
    for scenario in draw(&pantry.scenarios(), 1_000).iter().filter(|s| s.has(Fault::FarPositions)) {
        let far = scenario.build();
        if !scenario.recipe().priors.iter().all(|kind| pantry.priors.contains(kind)) {
            continue;
        }
        let mut near = far.clone();
        let away = far.model.query_offset;
        if away.abs() < 10_000_000 {
            // Rotary positions are not moved.
            continue;
        }
        near.model.query_offset = if away > 0 { 5 } else { -10 };
        for (far, near) in far.problems().into_iter().zip(near.problems()) {
            let (found, expected) = (dense::answer(&far), dense::answer(&near));
            let t = Tolerance::mixed(1e-13);
            let name = |what: &str| format!("{what} of {scenario:?}");
            assert_close(name("marginals"), &found.marginals, &expected.marginals, t);
            assert_close(name("mean"), &found.mean, &expected.mean, t);
            assert_close(name("KL"), &found.kl, &expected.kl, t);
            assert_close(name("log-evidence"), &found.log_evidence, &expected.log_evidence, t);
            count += 1;
        }
    }
    assert!(count > 500, "{count}");
}

/// Averaged queries have masses of every size down to 10⁻³⁰⁰, and values far from 0 are there.
#[test]
fn masses_underflow_and_values_lie_far_out() {
    let mut decades = [0; 10];
    for structure in [Structure::EachKeyPicksOne, Structure::Independent] {
        let faults = vec![Fault::UnderflowingMass, Fault::CommonPart];
        let pantry = Pantry { faults, ..Pantry::tiny(structure) };
        for scenario in draw(&pantry.scenarios(), 400) {
            let case = scenario.build();
            if scenario.has(Fault::CommonPart) {
                // But for a padding of zeros.
                let values = case.inputs.v.iter().filter(|v| **v != 0.0);
                let smallest = values.fold(f64::INFINITY, |m, v| m.min(v.abs()));
                assert!(smallest > 900.0, "{scenario:?}");
            }
            if scenario.has(Fault::UnderflowingMass) {
                for problem in case.problems() {
                    assert_eq!(problem.value_kind, ValueKind::Average);
                    for mass in dense::answer(&problem).marginals.sum_axis(ndarray::Axis(1)) {
                        if mass > 0.0 {
                            decades[(-mass.log10() / 32.0).clamp(0.0, 9.0) as usize] += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(decades.iter().all(|count| *count > 10), "{decades:?}");
}
