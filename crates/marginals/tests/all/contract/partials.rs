//! Findings over a split of the keys, merged, are the whole.

use marginals::potential::Dot;
use marginals::prior::Bias;
use marginals::question::{
    ColumnMass, Entropy, ExpectedDistance, Kl, LogEvidence, LogPartition, Map, Marginals,
    MaxProbability, Mean, Samples, TopK, ValueVariance,
};
use marginals::structure::EachQueryPicksOne;
use marginals::{Gradients, Model};
use marginals_testkit::compare::{Tolerance, close};
use marginals_testkit::generate::{Case, Fault, Random, Recipe, strategy::Pantry};
use marginals_testkit::{Law, Structure};

use ndarray::{Array4, Axis};

use crate::contract::bridge;
use crate::contract::runner::{for_recipes, for_scenarios};

const CLOSE: Tolerance = Tolerance { relative: 1e-11, absolute: 1e-11 };

fn merged_is_whole(recipe: &Recipe) -> Result<(), String> {
    merged_case_is_whole(recipe, &recipe.build())
}

fn merged_case_is_whole(recipe: &Recipe, case: &Case) -> Result<(), String> {
    let mut random = Random::new(recipe.seed ^ 0xcafe);
    let model = bridge::model::<f64>(&case.model);
    let (q, k, v) = (case.inputs.q.view(), case.inputs.k.view(), case.inputs.v.view());
    let posterior = model.posterior(q, k).map_err(|e| e.to_string())?;
    let questions = (
        (Mean(v), ValueVariance(v), LogPartition, LogEvidence, Entropy, Kl),
        (ColumnMass, ExpectedDistance, Marginals, MaxProbability),
        (Map, TopK(3), Samples { count: 5, seed: recipe.seed }),
    );
    // Any cuts, the same one twice included: an empty range leaves a finding too.
    let m = recipe.keys as i64;
    let mut cuts: Vec<usize> =
        (0..random.integer(1, 4)).map(|_| random.integer(0, m) as usize).collect();
    cuts.extend([0, recipe.keys]);
    cuts.sort_unstable();
    let part = |range| posterior.find(&questions, range).map_err(|e| e.to_string());
    let mut partial = part(cuts[0]..cuts[1])?;
    for pair in cuts[1..].windows(2) {
        partial.merge(part(pair[0]..pair[1])?).map_err(|e| e.to_string())?;
    }
    let merged = posterior.complete(questions, partial).and_then(|pass| pass.answer());
    let merged = merged.map_err(|e| e.to_string())?;
    let whole = posterior.ask(questions).map_err(|e| e.to_string())?;

    let pairs = [
        ("mean", flat(&merged.0.0), flat(&whole.0.0)),
        ("value variance", flat(&merged.0.1), flat(&whole.0.1)),
        ("log-partition", flat(&merged.0.2), flat(&whole.0.2)),
        ("log-evidence", flat(&merged.0.3), flat(&whole.0.3)),
        ("entropy", flat(&merged.0.4), flat(&whole.0.4)),
        ("KL", flat(&merged.0.5), flat(&whole.0.5)),
        ("column mass", flat(&merged.1.0), flat(&whole.1.0)),
        ("distance", flat(&merged.1.1), flat(&whole.1.1)),
        ("marginals", flat(&merged.1.2), flat(&whole.1.2)),
        ("max probability", flat(&merged.1.3), flat(&whole.1.3)),
        ("top-k", flat(&merged.2.1.probability), flat(&whole.2.1.probability)),
    ];
    for (name, merged, whole) in pairs {
        close(format!("{name}, cut at {cuts:?}"), &merged, &whole, CLOSE)?;
    }
    if merged.2.0 != whole.2.0 || merged.2.1.index != whole.2.1.index {
        return Err(format!("MAP or top-k differ, cut at {cuts:?}"));
    }
    if merged.2.2 != whole.2.2 {
        return Err(format!("draws differ, cut at {cuts:?}"));
    }
    Ok(())
}

fn flat<D: ndarray::Dimension>(x: &ndarray::Array<f64, D>) -> Vec<f64> {
    x.iter().copied().collect()
}

/// Values far from 0, under which what is common to them must cancel in every merge, and masses that
/// underflow.
#[test]
fn far_from_zero() {
    for structure in Structure::ALL {
        let faults = vec![Fault::CommonPart, Fault::UnderflowingMass];
        let pantry = Pantry { laws: laws(structure), faults, ..Pantry::tiny(structure) };
        for_scenarios(400, &pantry, |scenario| {
            merged_case_is_whole(&scenario.recipe(), &scenario.build())
        });
    }
}

/// How at most one key may be picked.
fn laws(structure: Structure) -> Vec<Law> {
    match structure {
        Structure::EachQueryPicksAtMostOne => vec![Law::ExponentialFamily, Law::NearestAccepted],
        _ => vec![Law::ExponentialFamily],
    }
}

#[test]
fn small() {
    for structure in Structure::ALL {
        for_recipes(400, &Pantry::tiny(structure), merged_is_whole);
    }
}

#[test]
fn around_tile_edges() {
    for structure in Structure::ALL {
        let pantry = Pantry { batches: 1, ..Pantry::tiles(structure, 257) };
        for_recipes(25, &pantry, merged_is_whole);
    }
}

/// Gradients through ranges of the keys: those of the queries add up to the whole, and each range has
/// its own keys', values' and columns of a learned bias.
#[test]
fn gradients_through_ranges_of_keys_are_the_whole() {
    let mut random = Random::new(5);
    let mut draw = |shape| Array4::<f64>::from_shape_fn(shape, |_| random.normal());
    let (q, k, v) = (draw((2, 2, 5, 3)), draw((2, 2, 130, 3)), draw((2, 2, 130, 2)));
    for heads in [1, 2] {
        let (bias, upstream) = (draw((2, heads, 5, 130)), draw((2, 2, 5, 2)));
        let model = Model::new(EachQueryPicksOne, Bias::new(bias.view()), Dot::new(1.0));
        let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
        let pass = posterior.pass(Mean(v.view())).expect("a pass");
        let whole = pass.backward(&upstream).expect("gradients");
        let mut of_queries = Array4::<f64>::zeros(q.dim());
        for keys in [0..64, 64..71, 71..130] {
            let part = pass.backward_over(keys.clone(), &upstream).expect("gradients");
            of_queries += &part.q;
            let own = |of: &Gradients<f64>| {
                let bias = of.parameter("bias").expect("the bias learns").to_owned();
                let bias = bias.into_dimensionality().expect("four axes");
                (of.k.clone(), of.v().expect("values").clone(), bias)
            };
            let ((dk, dv, db), (wk, wv, wb)) = (own(&part), own(&whole));
            let pairs: [(&str, Array4<f64>, Array4<f64>, usize); 3] =
                [("keys", dk, wk, 2), ("values", dv, wv, 2), ("bias", db, wb, 3)];
            for (name, part, whole, axis) in pairs {
                for j in 0..130 {
                    let expected = if keys.contains(&j) { 1.0 } else { 0.0 };
                    let expected = whole.index_axis(Axis(axis), j).mapv(|g| g * expected);
                    let off = (&part.index_axis(Axis(axis), j) - &expected).mapv(f64::abs);
                    assert!(off.iter().all(|&x| x < 1e-12), "{name} {j} of {keys:?}: {off}");
                }
            }
        }
        let off = (&of_queries - &whole.q).mapv(f64::abs);
        assert!(off.iter().all(|&x| x < 1e-12), "{off}");
    }
}
