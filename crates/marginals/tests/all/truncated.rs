//! Truncated inference: what is left out weighs no more than is said, and what is kept is exact.

use marginals::infer::{Certificate, Exactness, Kept, Truncated};
use marginals::potential::{Additive, Dot};
use marginals::prior::{Alibi, Bias, Causal, Combine, Survival};
use marginals::question::{
    Entropy, Kl, LogEvidence, LogPartition, Marginals, Mean, Samples, TopK, ValueVariance,
};
use marginals::structure::{
    EachKeyPicksOne, EachQueryPicksOne, Independent, NearestAccepted, Walk,
};
use marginals::{Error, Model};
use marginals_testkit::generate::{
    Case, DecayKind, DistanceKind, Flavour, PotentialKind, PriorKind, Random, Recipe,
    strategy::Pantry,
};
use marginals_testkit::{Structure, dense};
use ndarray::{Array1, Array2, Array3, Array4, s};

use crate::contract::bridge;
use crate::contract::expected::{By, Expected};
use crate::contract::runner::for_scenarios;

const CASES: u32 = 10_000;

/// Priors and potentials with bounds, sizes that tiles cut.
fn pantry() -> Pantry {
    use PriorKind::*;
    Pantry {
        structures: vec![Structure::EachQueryPicksOne, Structure::EachQueryPicksAtMostOne],
        priors: vec![
            Survival,
            Geometric,
            Alibi,
            Window,
            Causal,
            Laplace,
            GeneralizedGaussian,
            BetaGeometric,
            RelativeBuckets,
            Segments,
            WeightedAdjacency,
            OverDistance(DecayKind::Alibi, DistanceKind::Survival),
            OverDistance(DecayKind::RelativeBuckets, DistanceKind::Survival),
            OverDistance(DecayKind::BetaGeometric, DistanceKind::Survival),
        ],
        potentials: vec![
            PotentialKind::Dot,
            PotentialKind::SoftcappedDot,
            PotentialKind::Cosine,
            PotentialKind::Gaussian,
            PotentialKind::RotaryHalfSplit,
        ],
        // Of huge scores, and between few nodes, nothing is left out: most cases are of others.
        flavours: [Flavour::Ordinary, Flavour::Tiny, Flavour::Ties]
            .repeat(3)
            .into_iter()
            .chain([Flavour::Huge])
            .collect(),
        sizes: vec![1, 5, 9, 16, 24, 40],
        ..Pantry::tiny(Structure::EachQueryPicksOne)
    }
}

/// Which edges a posterior still has: those that it can rank, "no edge" among them.
fn edges(top: &Array4<i64>, keys: usize) -> Array4<bool> {
    let (b, h, n, _) = top.dim();
    let mut kept = Array4::from_elem((b, h, n, keys), false);
    for ((b, h, i, _), &j) in top.indexed_iter().filter(|(_, j)| **j >= 0) {
        kept[[b, h, i, j as usize]] = true;
    }
    kept
}

/// The dense posterior of every head in which only some edges are.
fn expected(recipe: &Recipe, case: &Case, kept: &Array4<bool>) -> Expected {
    let mut all = Expected::new(recipe, case, dense::answer);
    let heads: Vec<_> = case.heads();
    for ((problem, answers), (b, h)) in all.problems.iter_mut().zip(&mut all.answers).zip(heads) {
        let mask = |&kept: &bool| if kept { 0.0 } else { f64::NEG_INFINITY };
        problem.log_weight.push(kept.slice(s![b, h, .., ..]).map(mask));
        *answers = dense::answer(problem);
    }
    all
}

/// The exact posterior's mass outside a set, by query.
fn mass_outside(case: &Case, kept: &Array4<bool>) -> Array3<f64> {
    let (b, h, n, _) = kept.dim();
    let mut lost = Array3::zeros((b, h, n));
    for (problem, (b, h)) in case.problems().iter().zip(case.heads()) {
        let marginals: Array2<f64> = dense::answer(problem).marginals;
        for ((i, j), p) in marginals.indexed_iter().filter(|((i, j), _)| !kept[[b, h, *i, *j]]) {
            lost[[b, h, i]] += if p.is_finite() { *p } else { panic!("{p} at {i}, {j}") };
        }
    }
    lost
}

/// A number below `count`.
fn index(random: &mut Random, count: usize) -> usize {
    random.integer(0, count as i64 - 1) as usize
}

/// Room for what dense and streaming sums round.
fn within(found: f64, bound: f64) -> bool {
    found <= bound * (1.0 + 1e-9) + 1e-13
}

#[test]
fn mass_lost_is_at_most_what_is_said() {
    let (left_out, sets) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    for_scenarios(CASES, &pantry(), |scenario| {
        let (recipe, case) = (scenario.recipe(), scenario.build());
        let mut random = Random::new(recipe.seed ^ 0x7a11);
        let model = bridge::model::<f64>(&case.model);
        let (q, k) = (case.inputs.q.view(), case.inputs.k.view());
        let said = |e: Error| e.to_string();
        let tolerance = 10f64.powf(random.between(-7.0, -0.2));
        let truncated = Truncated::within(tolerance).with_tile(1 + index(&mut random, 4));
        let posterior = model.posterior(q, k).and_then(|p| p.by(truncated)).map_err(said)?;
        let pass = posterior.pass(TopK(recipe.keys + 1)).map_err(said)?;
        let Exactness::MassLost(bound) = pass.finding().report.exactness else {
            return Err("a truncated posterior that says that it is exact".into());
        };
        let kept = edges(&pass.answer().map_err(said)?.index, recipe.keys);
        let lost = mass_outside(&case, &kept);
        let largest = lost.iter().copied().fold(0.0, f64::max);
        if !within(largest, bound) || !within(bound, tolerance) {
            return Err(format!("{largest:e} lost, {bound:e} said, {tolerance:e} asked"));
        }
        left_out.set(left_out.get() + usize::from(largest > 0.0));

        // A set of the caller's: a window, the best edges, or tiles.
        let exact = model.posterior(q, k).map_err(said)?;
        let shape = *exact.shape();
        let set = match index(&mut random, 3) {
            0 => Kept::window(&shape, index(&mut random, 8), index(&mut random, 3)),
            1 => {
                let best = exact.ask(TopK(1 + index(&mut random, 4))).map_err(said)?;
                Kept::keys(&shape, best.index.view()).map_err(said)?
            }
            _ => {
                let (seed, tile) =
                    (recipe.seed, (1 + index(&mut random, 3), 1 + index(&mut random, 5)));
                let keep = |(b, h): (usize, usize), (r, c): (usize, usize)| {
                    Random::new(seed ^ (b * 7 + h * 31 + r * 101 + c * 997) as u64).chance(0.6)
                };
                Kept::tiles(&shape, tile, keep).map_err(said)?
            }
        };
        let certified = Certificate::new(&exact).and_then(|c| c.mass_lost(&set)).map_err(said)?;
        let posterior = exact.by(set).map_err(said)?;
        let kept = edges(&posterior.ask(TopK(recipe.keys + 1)).map_err(said)?.index, recipe.keys);
        let lost = mass_outside(&case, &kept);
        for (index, (&lost, &bound)) in lost.iter().zip(&certified).enumerate() {
            if !within(lost, bound) || !(0.0..=1.0).contains(&bound) {
                return Err(format!("query {index}: {lost:e} lost, certified {bound:e}"));
            }
            sets.set(sets.get() + usize::from(lost > 1e-9 && bound < 0.5));
        }
        Ok(())
    });
    // Neither is a bound of nothing, nor one that says nothing.
    assert!(left_out.get() > 1_000, "{} of {CASES} left something out", left_out.get());
    assert!(sets.get() > 1_000, "{} bounds of a loss that say something", sets.get());
}

/// All questions are those of the dense posterior in which the edges left out are impossible.
#[test]
fn what_is_kept_is_exact() {
    for_scenarios(1_200, &pantry(), |scenario| {
        let (recipe, case) = (scenario.recipe(), scenario.build());
        let mut random = Random::new(recipe.seed ^ 0x7a11);
        let model = bridge::model::<f64>(&case.model);
        let (q, k, v) = (case.inputs.q.view(), case.inputs.k.view(), case.inputs.v.view());
        let said = |e: Error| e.to_string();
        let truncated =
            Truncated::within(random.between(0.01, 0.5)).with_tile(1 + index(&mut random, 4));
        let posterior = model.posterior(q, k).and_then(|p| p.by(truncated)).map_err(said)?;
        let (mean, variance, marginals, top) = posterior
            .ask((Mean(v), ValueVariance(v), Marginals, TopK(recipe.keys + 1)))
            .map_err(said)?;
        let (partition, evidence, entropy, kl) =
            posterior.ask((LogPartition, LogEvidence, Entropy, Kl)).map_err(said)?;
        let expected = expected(&recipe, &case, &edges(&top.index, recipe.keys));
        expected.check("mean", By::Value, mean, |a| &a.mean)?;
        expected.check("variance", By::Value, variance, |a| &a.value_variance)?;
        expected.check("marginals", By::Edge, marginals, |a| &a.marginals)?;
        expected.check("log-partition", By::Factor, partition, |a| &a.log_partition)?;
        expected.check("log-evidence", By::Factor, evidence, |a| &a.log_evidence)?;
        expected.check("entropy", By::Factor, entropy, |a| &a.entropy)?;
        expected.check("KL", By::Factor, kl, |a| &a.kl)
    });
}

fn tensors(n: usize, seed: u64) -> [Array4<f64>; 3] {
    let mut random = Random::new(seed);
    [8, 8, 5].map(|width| Array4::from_shape_fn((1, 2, n, width), |_| random.normal()))
}

fn forgetting(n: usize) -> Array3<f64> {
    let mut random = Random::new(9);
    Array3::from_shape_fn((1, 2, n), |_| -random.between(0.0, 1.0))
}

/// Gradients are those of the exact inference behind a mask of what was left out.
#[test]
fn gradients_are_of_what_is_kept() {
    let n = 300;
    let [q, k, v] = tensors(n, 1);
    let model = Model::new(EachQueryPicksOne, Survival::new(forgetting(n)), Dot::scaled(8));
    let exact = model.posterior(q.view(), k.view()).unwrap();
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let posterior = posterior.by(Truncated::within(1e-3).with_tile(16)).unwrap();
    let kept = edges(&posterior.ask(TopK(n)).unwrap().index, n);
    let share = kept.iter().filter(|kept| **kept).count() as f64 / (n * n) as f64;
    assert!(share < 0.5, "{share} of the edges kept");
    let masked = model.with_prior(
        model.prior().and(Bias::new(kept.map(|&kept| if kept { 0.0 } else { f64::NEG_INFINITY }))),
    );
    let masked = masked.posterior(q.view(), k.view()).unwrap();
    let questions = || (Mean(v.view()), Entropy, LogPartition);
    let (pass, other) = (posterior.pass(questions()).unwrap(), masked.pass(questions()).unwrap());
    let (mean, entropy, partition) = pass.answer().unwrap();
    let (d_mean, d_entropy) = (mean.mapv(f64::sin), entropy.mapv(f64::cos));
    let d_partition = partition.mapv(f64::sin);
    let found = pass.backward((&d_mean, &d_entropy, &d_partition)).unwrap().into_named();
    let others = other.backward((&d_mean, &d_entropy, &d_partition)).unwrap().into_named();
    for (name, gradient) in &found {
        let (_, other) = others.iter().find(|(other, _)| other == name).expect("by that name");
        let apart = (gradient - other).iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        assert!(apart < 1e-12, "{name}: {apart:e}");
    }
    assert!(found.iter().any(|(name, _)| name == "survival.log-gates"));
    // And nearly the answers of all edges.
    let apart =
        (&exact.ask(Mean(v.view())).unwrap() - &mean).iter().fold(0.0f64, |m, x| m.max(x.abs()));
    assert!(apart > 0.0 && apart < 2e-2, "{apart:e}");
    // Draws are of what is kept.
    let draws = posterior.ask(Samples { count: 50, seed: 3 }).unwrap();
    for ((_, b, h, i), &j) in draws.choices().expect("a key each").indexed_iter() {
        assert!(kept[[b, h, i, j as usize]]);
    }
}

/// What a second truncation leaves out is lost beside what the first did.
#[test]
fn bounds_add_up() {
    let n = 200;
    let [q, k, v] = tensors(n, 5);
    let model = Model::new(EachQueryPicksOne, Survival::new(forgetting(n)), Dot::scaled(8));
    let exact = || model.posterior(q.view(), k.view()).unwrap();
    let bound = |posterior: marginals::Posterior<'_, f64>| {
        let whole = posterior.pass(Mean(v.view())).unwrap().finding().report.exactness;
        let mut finding = posterior.find(&Mean(v.view()), 0..128).unwrap();
        finding.merge(posterior.find(&Mean(v.view()), 128..n).unwrap()).unwrap();
        let merged = posterior.complete(Mean(v.view()), finding).unwrap();
        match (whole, merged.finding().report.exactness) {
            (Exactness::MassLost(whole), Exactness::MassLost(merged)) => {
                assert!((whole - merged).abs() < 1e-12, "{whole:e} {merged:e}");
                whole
            }
            other => panic!("{other:?}"),
        }
    };
    let window = || Kept::window(exact().shape(), 12, 0);
    let first = bound(exact().by(window()).unwrap());
    let half = || Kept::window(exact().shape(), 6, 0);
    let second = bound(exact().by(half()).unwrap());
    let both = bound(exact().by(window()).unwrap().by(half()).unwrap());
    assert!(first > 0.0 && first < second, "{first:e} {second:e}");
    assert!(both > second && both <= 2.0 * second, "{both:e} {second:e}");
}

/// Findings of ranges of keys merge, and their bounds with them.
#[test]
fn bounds_merge_with_findings() {
    let n = 200;
    let [q, k, v] = tensors(n, 2);
    let prior = Causal.and(Alibi::new(&[0.3]));
    let model = Model::new(EachQueryPicksOne, prior, Dot::scaled(8));
    let truncated = || Truncated::within(1e-4).with_tile(16);
    let posterior = model.posterior(q.view(), k.view()).unwrap().by(truncated()).unwrap();
    let bound = |exactness| match exactness {
        Exactness::MassLost(bound) => bound,
        other => panic!("{other:?}"),
    };
    let whole = posterior.pass(Mean(v.view())).unwrap();
    let said = bound(whole.finding().report.exactness);
    assert!(said > 1e-7 && said <= 1e-4, "{said:e}");
    let mut finding = posterior.find(&Mean(v.view()), 0..64).unwrap();
    finding.merge(posterior.find(&Mean(v.view()), 64..n).unwrap()).unwrap();
    let merged = posterior.complete(Mean(v.view()), finding).unwrap();
    assert!((bound(merged.finding().report.exactness) - said).abs() < 1e-12);
    let apart = (&merged.answer().unwrap() - &whole.answer().unwrap()).mapv(f64::abs).sum();
    assert!(apart < 1e-9, "{apart:e}");
}

#[test]
fn what_has_no_bound_is_refused_by_name() {
    let n = 6;
    let [q, k, _] = tensors(n, 3);
    let (q, k) = (q.view(), k.view());
    let truncated = || Truncated::within(1e-3);
    let refused = |error: Result<(), Error>, words: &[&str]| {
        let text = error.expect_err("a refusal").to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    };
    macro_rules! refuse {
        ($structure:expr, $prior:expr, $potential:expr, $truncated:expr, $words:expr) => {
            let model = Model::new($structure, $prior, $potential);
            let exact = model.posterior(q, k).unwrap();
            refused(exact.by($truncated).map(|_| ()), $words);
        };
    }
    let dot = || Dot::scaled(8);
    let others = ["each-query-picks-one", "each-query-picks-at-most-one"];
    let named = |name| [&[name], &others[..]].concat();
    refuse!(Independent, Causal, dot(), truncated(), &named("independent"));
    refuse!(EachKeyPicksOne, Causal, dot(), truncated(), &named("each-key-picks-one"));
    refuse!(NearestAccepted, Causal, dot(), truncated(), &named("nearest-accepted"));
    let walk = Walk::exactly(2).unwrap().of(EachQueryPicksOne);
    refuse!(walk, Causal, dot(), truncated(), &named("walk"));
    let bias = Bias::new(Array4::<f64>::zeros((1, 1, n, n)));
    refuse!(EachQueryPicksOne, bias, dot(), truncated(), &["bias", "Prior::log_tail"]);
    let additive = Additive::gat(0.2, Array2::zeros((1, 8)), Array2::zeros((1, 8)));
    refuse!(EachQueryPicksOne, Causal, additive, truncated(), &["additive", "Potential::greatest"]);
    for mass in [-0.1, 1.0, f64::NAN] {
        let truncated = Truncated::within(mass);
        refuse!(EachQueryPicksOne, Causal, dot(), truncated, &["truncated.mass"]);
    }
    let none = truncated().with_tile(0);
    refuse!(EachQueryPicksOne, Causal, dot(), none, &["truncated.tile"]);
    let model = Model::new(EachQueryPicksOne, Causal, dot());
    let other = model.posterior(q, k.slice(s![.., .., ..5, ..])).unwrap();
    let kept = Kept::window(other.shape(), 1, 1);
    refuse!(EachQueryPicksOne, Causal, dot(), kept, &["kept", "[1, 2, 6, 6]"]);
    let shape = *other.shape();
    let index = Array4::from_elem((1, 2, n, 1), 5i64);
    refused(Kept::keys(&shape, index.view()).map(|_| ()), &["kept.keys", "5"]);
    let index = Array4::from_elem((1, 2, 3, 1), 0i64);
    refused(Kept::keys(&shape, index.view()).map(|_| ()), &["kept.keys", "[1, 2, 3, 1]"]);
    refused(Kept::tiles(&shape, (0, 1), |_, _| true).map(|_| ()), &["kept.tiles"]);
}

/// Vectors that are no numbers keep their keys, and those of impossible keys reach nobody.
#[test]
fn garbage_is_not_left_out() {
    let n = 64;
    let [q, mut k, v] = tensors(n, 4);
    k.slice_mut(s![.., .., 5, ..]).fill(f64::NAN);
    let prior = Causal.and(Alibi::new(&[2.0]));
    let model = Model::new(EachQueryPicksOne, prior, Dot::scaled(8));
    let truncated = Truncated::within(1e-2).with_tile(4);
    let posterior = model.posterior(q.view(), k.view()).unwrap().by(truncated).unwrap();
    let mean = posterior.ask(Mean(v.view())).unwrap();
    let is_nan: Array1<bool> = mean.slice(s![0, 0, .., 0]).map(|x| x.is_nan());
    assert!((0..n).all(|i| is_nan[i] == (i >= 5)), "{is_nan}");
}
