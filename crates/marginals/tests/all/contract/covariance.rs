//! Covariances with a second score: by definition, merged, differentiated, and far from 0.

use marginals::infer::EdgeFunction;
use marginals::question::{Covariance, Mean};
use marginals::structure::EachQueryPicksOne;
use marginals::{
    Accumulator, Block, Model, Parameter, Tile, TileMut, potential::Dot, prior::Causal,
};
use marginals_testkit::compare::{Tolerance, close};
use marginals_testkit::generate::{
    Case, Fault, Flavour, NullKind, PotentialKind, Random, Recipe, Scenario, strategy::Pantry,
};
use marginals_testkit::{Law, Problem, Structure, ValueKind, dense, enumerate};
use ndarray::{Array2, Array4, Axis, s};

use crate::contract::bridge;
use crate::contract::expected::EXACT;
use crate::contract::runner::{for_recipes, for_scenarios};
use crate::contract::slopes::{Slopes, numbered};

const CASES: u32 = 600;

/// r of a case.
fn second(case: &Case, seed: u64) -> Array4<f64> {
    let mut random = Random::new(seed ^ 0xC0);
    case.inputs.q.map(|_| random.normal())
}

/// The covariance of every head in a row, by one of the testkit's routes.
fn truth(
    case: &Case,
    r: &Array4<f64>,
    route: impl Fn(&Problem, &Array2<f64>) -> Array2<f64>,
) -> Vec<f64> {
    let of_head = |((b, h), problem): ((usize, usize), Problem)| {
        route(&problem, &case.inputs.second_score(r, b, h)).into_iter()
    };
    case.heads().into_iter().zip(case.problems()).flat_map(of_head).collect()
}

fn flat(x: &Array4<f64>) -> Vec<f64> {
    x.iter().copied().collect()
}

fn check(
    case: &Case,
    seed: u64,
    route: impl Fn(&Problem, &Array2<f64>) -> Array2<f64>,
) -> Result<(), String> {
    let r = second(case, seed);
    let model = bridge::model::<f64>(&case.model);
    let (q, k, v) = (case.inputs.q.view(), case.inputs.k.view(), case.inputs.v.view());
    let posterior = model.posterior(q, k).map_err(|e| e.to_string())?;
    let covariance = Covariance::with_score(v, r.view(), 1.0);
    let alone = posterior.ask(covariance).map_err(|e| e.to_string())?;
    let (_, together) = posterior.ask((Mean(v), covariance)).map_err(|e| e.to_string())?;
    let width = case.inputs.v.dim().3;
    let touched = case.touched().into_iter().flat_map(|touched| touched.values);
    let touched: Vec<bool> = touched.flat_map(|t| std::iter::repeat_n(t, width)).collect();
    let spared = |list: Vec<f64>| -> Vec<f64> {
        list.into_iter().zip(&touched).map(|(x, &t)| if t { 0.0 } else { x }).collect()
    };
    let expected = spared(truth(case, &r, route));
    close("covariance alone", &spared(flat(&alone)), &expected, EXACT)?;
    close("covariance beside the mean", &spared(flat(&together)), &expected, EXACT)
}

fn agrees_with_enumeration(pantry: &Pantry) {
    for_scenarios(CASES, pantry, |scenario| {
        check(&scenario.build(), scenario.base.seed, enumerate::covariance)
    });
}

#[test]
fn each_query_picks_one() {
    agrees_with_enumeration(&Pantry::tiny(Structure::EachQueryPicksOne));
}

#[test]
fn each_query_picks_at_most_one() {
    agrees_with_enumeration(&Pantry::tiny(Structure::EachQueryPicksAtMostOne));
}

#[test]
fn each_key_picks_one() {
    agrees_with_enumeration(&Pantry::tiny(Structure::EachKeyPicksOne));
}

#[test]
fn independent() {
    agrees_with_enumeration(&Pantry::tiny(Structure::Independent));
}

/// Having no edge: of a log-weight, of a logit, and gated.
#[test]
fn null_edges() {
    agrees_with_enumeration(&null_edges_pantry());
}

fn null_edges_pantry() -> Pantry {
    let nulls = NullKind::ALL.to_vec();
    Pantry { nulls, ..Pantry::tiny(Structure::EachQueryPicksAtMostOne) }
}

#[test]
fn nearest_accepted() {
    agrees_with_enumeration(&Pantry::nearest_accepted());
}

/// Garbage behind masks, empty axes, values far from 0, masses that underflow.
#[test]
fn faults_of_the_field() {
    let laws = Structure::ALL.into_iter().map(|structure| (structure, Law::ExponentialFamily));
    let nearest_accepted = (Structure::EachQueryPicksAtMostOne, Law::NearestAccepted);
    for (structure, law) in laws.chain([nearest_accepted]) {
        let others = |fault: &Fault| !matches!(fault, Fault::HugeMasks | Fault::FarPositions);
        let faults = Fault::ALL.into_iter().filter(others).collect();
        let pantry = Pantry { laws: vec![law], faults, ..Pantry::tiny(structure) };
        for_scenarios(CASES, &pantry, |scenario| {
            check(&scenario.build(), scenario.base.seed, dense::covariance)
        });
    }
}

#[test]
fn sizes_around_tile_edges() {
    for structure in Structure::ALL {
        let pantry = Pantry { batches: 1, ..Pantry::tiles(structure, 257) };
        for_recipes(25, &pantry, |recipe| check(&recipe.build(), recipe.seed, dense::covariance));
    }
}

/// The findings over a split of the keys, merged, are the whole.
#[test]
fn merged_is_whole() {
    const CLOSE: Tolerance = Tolerance { relative: 1e-11, absolute: 1e-11 };
    let tiny = Structure::ALL.map(Pantry::tiny);
    for pantry in tiny.into_iter().chain([Pantry::nearest_accepted(), null_edges_pantry()]) {
        for_scenarios(300, &pantry, |scenario| {
            let (case, recipe) = (scenario.build(), scenario.recipe());
            let r = second(&case, recipe.seed);
            let mut random = Random::new(recipe.seed ^ 0xcafe);
            let model = bridge::model::<f64>(&case.model);
            let (q, k, v) = (case.inputs.q.view(), case.inputs.k.view(), case.inputs.v.view());
            let posterior = model.posterior(q, k).map_err(|e| e.to_string())?;
            let covariance = Covariance::with_score(v, r.view(), 1.0);
            let cut = random.integer(0, recipe.keys as i64) as usize;
            let part = |range| posterior.find(&covariance, range).map_err(|e| e.to_string());
            let mut merged = part(0..cut)?;
            merged.merge(part(cut..recipe.keys)?).map_err(|e| e.to_string())?;
            let merged = posterior.complete(covariance, merged).and_then(|pass| pass.answer());
            let merged = merged.map_err(|e| e.to_string())?;
            let whole = posterior.ask(covariance).map_err(|e| e.to_string())?;
            close(format!("cut at {cut}"), &flat(&merged), &flat(&whole), CLOSE)
        });
    }
}

/// Variables that the covariance is differentiated in.
#[derive(Clone, Copy)]
enum Variable {
    Q,
    K,
    V,
    R,
    Parameter(usize),
}

fn numbers<'c>(case: &'c mut Case, r: &'c mut Array4<f64>, variable: Variable) -> &'c mut [f64] {
    const CONTIGUOUS: &str = "generated tensors are in standard layout";
    match variable {
        Variable::Q => case.inputs.q.as_slice_mut().expect(CONTIGUOUS),
        Variable::K => case.inputs.k.as_slice_mut().expect(CONTIGUOUS),
        Variable::V => case.inputs.v.as_slice_mut().expect(CONTIGUOUS),
        Variable::R => r.as_slice_mut().expect(CONTIGUOUS),
        Variable::Parameter(index) => case.model.parameters_mut().swap_remove(index).1,
    }
}

fn gradients_agree(
    mut case: Case,
    seed: u64,
    entries: usize,
    slopes: &Slopes,
) -> Result<(), String> {
    let mut r = second(&case, seed);
    let mut random = Random::new(seed ^ 0x5eed);
    let model = bridge::model::<f64>(&case.model);
    let (q, k, v) = (case.inputs.q.clone(), case.inputs.k.clone(), case.inputs.v.clone());
    let posterior = model.posterior(q.view(), k.view()).map_err(|e| e.to_string())?;
    let (scale, of_r) = (0.7, r.clone());
    let pass = posterior.pass(Covariance::with_score(v.view(), of_r.view(), scale));
    let pass = pass.map_err(|e| e.to_string())?;
    let upstream = pass.answer().map_err(|e| e.to_string())?.mapv(|_| random.normal());
    let found = pass.backward(&upstream).map_err(|e| e.to_string())?;
    let of_r = found.parameter("covariance.r").ok_or("no gradient of r")?;
    let mut all = vec![
        ("q".to_owned(), Variable::Q, flat(&found.q)),
        ("k".to_owned(), Variable::K, flat(&found.k)),
        ("v".to_owned(), Variable::V, flat(found.v().ok_or("no gradient of v")?)),
        ("r".to_owned(), Variable::R, of_r.iter().copied().collect()),
    ];
    let listed: Vec<&str> = case.model.clone().parameters_mut().iter().map(|p| p.0).collect();
    for (index, name) in numbered(&listed).into_iter().enumerate() {
        let own = found.parameter(&name).ok_or_else(|| format!("no gradient of {name}"))?;
        all.push((name, Variable::Parameter(index), own.iter().copied().collect()));
    }
    // That a null edge has score 0 is nothing that the description learns.
    let is_listed = |name: &str| all.iter().any(|(own, ..)| own == name) || name == "null";
    let further = found.parameters.iter().map(|p| p.name.as_str());
    if let Some(name) = further.filter(|name| *name != "covariance.r").find(|n| !is_listed(n)) {
        return Err(format!("an unexpected gradient of {name}"));
    }
    for (name, variable, gradient) in all {
        let x = numbers(&mut case, &mut r, variable).to_vec();
        let (mut moved, mut moved_r) = (case.clone(), r.clone());
        slopes.check(&name, (&x, &gradient), entries, &mut random, |x| {
            numbers(&mut moved, &mut moved_r, variable).copy_from_slice(x);
            let found = truth(&moved, &moved_r, dense::covariance);
            found.iter().zip(&upstream).map(|(x, g)| scale * x * g).sum()
        })?;
    }
    Ok(())
}

#[test]
fn gradients_are_finite_differences() {
    use PotentialKind::{Cosine, Gat, GatV2};
    let smooth = |recipe: &Recipe| {
        recipe.flavour != Flavour::Ties || !matches!(recipe.potential, Cosine | Gat | GatV2)
    };
    let tiny = Structure::ALL.map(Pantry::tiny);
    for pantry in tiny.into_iter().chain([Pantry::nearest_accepted(), null_edges_pantry()]) {
        let slopes = Slopes::default();
        let pantry = Pantry {
            flavours: vec![Flavour::Ordinary, Flavour::Ties],
            sizes: (1..=4).collect(),
            depths: vec![1, 2, 3],
            ..pantry
        };
        for_scenarios(150, &pantry, |scenario: &Scenario| match smooth(&scenario.base) {
            true => gradients_agree(scenario.build(), scenario.base.seed, 3, &slopes),
            false => Ok(()),
        });
        slopes.assert_settled(200);
    }
}

/// Several blocks of queries, and several ranges of keys that each give a part of r's gradient; grouped
/// heads.
#[test]
fn gradients_of_many_nodes() {
    for structure in Structure::ALL {
        for (queries, keys) in [(130, 3), (2, 1100)] {
            let recipe = Recipe {
                structure,
                value_kind: ValueKind::Gather,
                priors: Vec::new(),
                potential: PotentialKind::Dot,
                flavour: Flavour::Ordinary,
                batch: 1,
                key_heads: 1,
                group: 2,
                queries,
                keys,
                depth: 2,
                value_depth: 1,
                query_offset: 0,
                seed: 5,
            };
            let slopes = Slopes::default();
            gradients_agree(recipe.build(), recipe.seed, 1, &slopes).unwrap();
            slopes.assert_settled(10);
        }
    }
}

/// In `f32`, values and second scores with large parts in common: what varies keeps its digits. Keys
/// have a coordinate of 1 that only the second score reads.
#[test]
fn common_parts_cost_no_digits() {
    let (n, m, d) = (40, 300, 8);
    for common in [1e3, 1e4] {
        let mut random = Random::new(7);
        let mut q = Array4::from_shape_simple_fn((1, 2, n, d), || random.normal() as f32);
        let mut k = Array4::from_shape_simple_fn((1, 2, m, d), || random.normal() as f32);
        let mut r = Array4::from_shape_simple_fn((1, 2, n, d), || random.normal() as f32);
        let v = Array4::from_shape_simple_fn((1, 2, m, 3), || (common + random.normal()) as f32);
        q.slice_mut(s![.., .., .., 0]).fill(0.0);
        k.slice_mut(s![.., .., .., 0]).fill(1.0);
        r.slice_mut(s![.., .., .., 0]).fill(common as f32);
        let model = Model::new(EachQueryPicksOne, Causal, Dot::new(0.4)).with_query_offset(260);
        let wide = |x: &Array4<f32>| x.mapv(f64::from);
        let (q64, k64, r64, v64) = (wide(&q), wide(&k), wide(&r), wide(&v));
        let posterior = model.posterior(q.view(), k.view()).unwrap();
        let question = Covariance::with_score(v.view(), r.view(), 1.0);
        let found = posterior.ask(question).unwrap();
        let mut halves = posterior.find(&question, 0..100).unwrap();
        halves.merge(posterior.find(&question, 100..m).unwrap()).unwrap();
        let halves = posterior.complete(question, halves).unwrap().answer().unwrap();
        let mut worst = 0.0f64;
        for ((b, h, i, c), found) in found.indexed_iter() {
            let dot = |x: &Array4<f64>, j: usize| -> f64 {
                (0..d).map(|e| x[[b, h, i, e]] * k64[[b, h, j, e]]).sum()
            };
            let seen: Vec<usize> = (0..m).filter(|&j| j <= i + 260).collect();
            let weights: Vec<f64> = seen.iter().map(|&j| (0.4 * dot(&q64, j)).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mean = |f: &dyn Fn(usize) -> f64| -> f64 {
                seen.iter().zip(&weights).map(|(&j, w)| w / total * f(j)).sum()
            };
            let (s, v) = (|j: usize| dot(&r64, j), |j: usize| v64[[b, h, j, c]]);
            let (of_s, of_v) = (mean(&s), mean(&v));
            let exact = mean(&|j| (s(j) - of_s) * (v(j) - of_v));
            let spread =
                (mean(&|j| (s(j) - of_s).powi(2)) * mean(&|j| (v(j) - of_v).powi(2))).sqrt();
            for found in [*found, halves[[b, h, i, c]]] {
                worst = worst.max((f64::from(found) - exact).abs() / spread);
            }
        }
        // Rounding of products of eight numbers and of sums of 300; the common part alone, rounded,
        // would cost 1e-5 and more.
        assert!(worst < 3e-6, "common part {common}: off by {worst:e} of the spread");
    }
}

/// Parallax (Zuo et al., arXiv 2605.29157, Algorithm 1): with e the exponentials of causal scores and s
/// the probe's, o = O₁/d₁ (1 + d₂/d₁) − O₂/d₁, where d₁ = Σ e, d₂ = Σ e s, O₁ = Σ e v, O₂ = Σ e s v.
#[test]
fn the_mean_less_the_covariance_is_parallax() {
    let (b, h, n, d) = (2, 3, 17, 5);
    let mut random = Random::new(11);
    let mut draw = |heads| Array4::from_shape_simple_fn((b, heads, n, d), || random.normal());
    let (q, k, r, v) = (draw(h), draw(h), draw(h), draw(h));
    let model = Model::new(EachQueryPicksOne, Causal, Dot::scaled(d));
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let covariance = Covariance::with_score(v.view(), r.view(), 1.0);
    let (mean, covariance) = posterior.ask((Mean(v.view()), covariance)).unwrap();
    let found = mean - covariance;
    for (batch, head) in (0..b).flat_map(|b| (0..h).map(move |h| (b, h))) {
        let of = |x: &Array4<f64>| x.slice(s![batch, head, .., ..]).to_owned();
        let (q, k, r, v) = (of(&q), of(&k), of(&r), of(&v));
        let e = Array2::from_shape_fn((n, n), |(i, j)| match j <= i {
            true => (q.row(i).dot(&k.row(j)) / (d as f64).sqrt()).exp(),
            false => 0.0,
        });
        let es = &e * &r.dot(&k.t());
        let column = |x: &Array2<f64>| x.sum_axis(Axis(1)).insert_axis(Axis(1));
        let (d1, d2) = (column(&e), column(&es));
        let parallax = e.dot(&v) / &d1 * (1.0 + &d2 / &d1) - es.dot(&v) / &d1;
        let own = found.slice(s![batch, head, .., ..]);
        for (found, expected) in own.iter().zip(&parallax) {
            assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
        }
    }
}

/// a sin(i − 2 j), a learned.
#[derive(Debug)]
struct Wave {
    a: f64,
}

impl EdgeFunction<f64> for Wave {
    fn fill(&self, block: &Block, mut values: TileMut<'_, f64>) {
        for (r, i) in block.queries.clone().enumerate() {
            for (x, j) in values.row_mut(r).iter_mut().zip(block.keys.clone()) {
                *x = self.a * (i as f64 - 2.0 * j as f64).sin();
            }
        }
    }
    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter::new("wave.a", &[1])]
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, f64>,
        into: &mut [Accumulator<'_, f64>],
    ) {
        for (r, i) in block.queries.clone().enumerate() {
            for (g, j) in gradient.row(r).iter().zip(block.keys.clone()) {
                into[0].add(0, g * (i as f64 - 2.0 * j as f64).sin());
            }
        }
    }
}

/// A function of the user's own, whose covariance is linear in its amplitude: so is the gradient.
#[test]
fn a_function_of_ones_own() {
    for structure in Structure::ALL {
        for_recipes(60, &Pantry::tiny(structure), |recipe| {
            let case = recipe.build();
            let model = bridge::model::<f64>(&case.model);
            let (q, k, v) = (case.inputs.q.view(), case.inputs.k.view(), case.inputs.v.view());
            let posterior = model.posterior(q, k).map_err(|e| e.to_string())?;
            let wave = Wave { a: 1.7 };
            let pass = posterior.pass(Covariance::with_function(v, &wave));
            let pass = pass.map_err(|e| e.to_string())?;
            let found = pass.answer().map_err(|e| e.to_string())?;
            let expected: Vec<f64> = (case.problems().iter())
                .flat_map(|problem| {
                    let shape = (problem.queries(), problem.keys());
                    let s = Array2::from_shape_fn(shape, |(i, j)| {
                        wave.a * (i as f64 - 2.0 * j as f64).sin()
                    });
                    enumerate::covariance(problem, &s).into_iter()
                })
                .collect();
            close("covariance", &flat(&found), &expected, EXACT)?;
            let gradients = pass.backward(&Array4::ones(found.dim())).map_err(|e| e.to_string())?;
            let slope = gradients.parameter("wave.a").ok_or("no gradient of a")?[[0]];
            let sum: f64 = expected.iter().sum();
            let size: f64 = expected.iter().map(|x| x.abs()).sum();
            close("slope", &[slope], &[sum / wave.a], Tolerance::mixed(1e-10 * size.max(1.0)))
        });
    }
}
