//! The forward-mode derivative of the mean against finite differences along the tangents.

use marginals::Error;
use marginals::distance::Contextual;
use marginals::potential::FromFunction;
use marginals::prior::{Alibi, OfDistance, Uniform};
use marginals::question::{Jvp, Mean, Tangents};
use marginals::structure::{EachQueryPicksOne, Walk};
use marginals::{Model, potential::Dot};
use marginals_testkit::compare::{Tolerance, close};
use marginals_testkit::generate::{
    Case, Fault, Flavour, NullKind, PotentialKind, Random, Recipe, Scenario, strategy::Pantry,
};
use marginals_testkit::reference::{self, Prior};
use marginals_testkit::{Law, Structure};
use ndarray::{Array4, s};

use crate::contract::bridge;
use crate::contract::runner::for_scenarios;

const CASES: u32 = 250;

/// Agreement demanded, relative to the entry and at least this of 1.
const TOLERANCE: f64 = 1e-8;

/// Tangents of q, k, v and a bias, some of them still, and nothing else.
struct Motion {
    of: reference::Tangents,
    bias: Option<Array4<f64>>,
    moves: [bool; 3],
}

impl Motion {
    fn draw(case: &Case, random: &mut Random) -> Self {
        let mut of = case.tangents(random);
        let mut moves = [0, 1, 2].map(|_| random.chance(0.7));
        let is_bias = |prior: &&Prior| matches!(prior, Prior::Bias(_));
        let one_bias = case.model.priors.iter().filter(is_bias).count() == 1;
        let names: Vec<&str> = case.model.clone().parameters_mut().iter().map(|p| p.0).collect();
        let mut bias = None;
        for (name, tangent) in names.iter().zip(&mut of.parameters) {
            let prior = case.model.priors.iter().find(is_bias).filter(|_| one_bias);
            match (*name, prior) {
                ("bias", Some(Prior::Bias(own))) if random.chance(0.7) => {
                    bias = Some(Array4::from_shape_vec(own.dim(), tangent.clone()).unwrap());
                }
                _ => tangent.fill(0.0),
            }
        }
        moves[2] |= !moves[0] && !moves[1] && bias.is_none();
        for (moves, x) in moves.iter().zip([&mut of.q, &mut of.k, &mut of.v]) {
            if !moves {
                x.fill(0.0);
            }
        }
        Self { of, bias, moves }
    }

    fn tangents(&self) -> Tangents<'_, f64> {
        let [q, k, v] = [&self.of.q, &self.of.k, &self.of.v];
        let [q, k, v] = [(q, 0), (k, 1), (v, 2)].map(|(x, i)| self.moves[i].then(|| x.view()));
        Tangents { q, k, v, bias: self.bias.as_ref().map(|bias| bias.view()) }
    }
}

/// How many entries were compared, and of how many the differences did not settle.
#[derive(Default)]
struct Count {
    compared: std::cell::Cell<u32>,
    unsettled: std::cell::Cell<u32>,
}

fn check(case: &Case, seed: u64, count: &Count) -> Result<(), String> {
    let mut random = Random::new(seed ^ 0x71);
    let motion = Motion::draw(case, &mut random);
    let model = bridge::model::<f64>(&case.model);
    let (q, k, v) = (case.inputs.q.view(), case.inputs.k.view(), case.inputs.v.view());
    let posterior = model.posterior(q, k).map_err(|e| e.to_string())?;
    let question = Jvp { v, tangents: motion.tangents() };
    let (_, found) = posterior.ask((Mean(v), question)).map_err(|e| e.to_string())?;
    let expected = case.model.jvp(&case.inputs, &motion.of);
    let width = case.inputs.v.dim().3;
    let touched: Vec<bool> = case.touched().into_iter().flat_map(|t| t.values).collect();
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        if touched[index / width] {
            continue;
        }
        count.compared.update(|n| n + 1);
        let allowed = TOLERANCE * expected.value.abs().max(1.0);
        if expected.error > allowed {
            count.unsettled.update(|n| n + 1);
        } else if found.is_nan() || (found - expected.value).abs() > allowed {
            return Err(format!("entry {index}: {found:e}, expected {expected:?}"));
        }
    }
    // In two ranges of keys.
    let keys = case.inputs.k.dim().2;
    let cut = random.integer(0, keys as i64) as usize;
    let part = |range| posterior.find(&question, range).map_err(|e| e.to_string());
    let mut merged = part(0..cut)?;
    merged.merge(part(cut..keys)?).map_err(|e| e.to_string())?;
    let merged = posterior.complete(question, merged).and_then(|pass| pass.answer());
    let merged: Vec<f64> = merged.map_err(|e| e.to_string())?.into_iter().collect();
    let spared = |list: Vec<f64>| -> Vec<f64> {
        let spare = |(i, x): (usize, f64)| if touched[i / width] { 0.0 } else { x };
        list.into_iter().enumerate().map(spare).collect()
    };
    let whole = spared(found.into_iter().collect());
    let close_enough = Tolerance { relative: 1e-10, absolute: 1e-10 };
    close(format!("cut at {cut}"), &spared(merged), &whole, close_enough)
}

/// Whether means have a slope at the numbers of a recipe.
fn smooth(recipe: &Recipe) -> bool {
    use PotentialKind::{Cosine, Gat, GatV2};
    recipe.flavour != Flavour::Ties || !matches!(recipe.potential, Cosine | Gat | GatV2)
}

fn agrees(pantry: Pantry) {
    let pantry = Pantry {
        flavours: vec![Flavour::Ordinary, Flavour::Ties],
        sizes: (1..=4).collect(),
        ..pantry
    };
    let count = Count::default();
    for_scenarios(CASES, &pantry, |scenario: &Scenario| match smooth(&scenario.base) {
        true => check(&scenario.build(), scenario.base.seed, &count),
        false => Ok(()),
    });
    let (compared, unsettled) = (count.compared.get(), count.unsettled.get());
    assert!(compared > 1_000 && unsettled * 50 < compared, "{unsettled} of {compared} unsettled");
}

#[test]
fn each_query_picks_one() {
    agrees(Pantry::tiny(Structure::EachQueryPicksOne));
}

#[test]
fn each_query_picks_at_most_one() {
    agrees(Pantry::tiny(Structure::EachQueryPicksAtMostOne));
}

/// Having no edge: of a log-weight, of a logit, and gated, where it stays as probable as it is.
#[test]
fn null_edges() {
    let nulls = NullKind::ALL.to_vec();
    agrees(Pantry { nulls, ..Pantry::tiny(Structure::EachQueryPicksAtMostOne) });
}

#[test]
fn each_key_picks_one() {
    agrees(Pantry::tiny(Structure::EachKeyPicksOne));
}

#[test]
fn independent() {
    agrees(Pantry::tiny(Structure::Independent));
}

#[test]
fn nearest_accepted() {
    agrees(Pantry::nearest_accepted());
}

/// Garbage behind masks and empty axes.
#[test]
fn faults_of_the_field() {
    let laws = Structure::ALL.into_iter().map(|structure| (structure, Law::ExponentialFamily));
    let nearest_accepted = (Structure::EachQueryPicksAtMostOne, Law::NearestAccepted);
    for (structure, law) in laws.chain([nearest_accepted]) {
        let faults = Fault::ALL.into_iter();
        let faults = faults.filter(|f| matches!(f, Fault::EmptyAxis(_) | Fault::Garbage)).collect();
        agrees(Pantry { laws: vec![law], faults, ..Pantry::tiny(structure) });
    }
}

fn case() -> [Array4<f64>; 3] {
    let mut random = Random::new(3);
    let mut draw = |n| Array4::from_shape_simple_fn((1, 1, n, 2), || random.normal());
    [draw(3), draw(4), draw(4)]
}

/// A potential without a tangent, a walk and tangents of other shapes are refused by name.
#[test]
fn refusals_say_what_is_missing() {
    let [q, k, v] = case();
    let still = Tangents::default();
    let model = Model::new(EachQueryPicksOne, Uniform, Dot::new(1.0));
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let refusal = |tangents| posterior.ask(Jvp { v: v.view(), tangents }).unwrap_err().to_string();
    assert!(refusal(still).contains("at least one of tangent.q"), "{}", refusal(still));
    let wrong = refusal(Tangents { q: Some(k.view()), ..still });
    assert!(wrong.contains("`tangent.q` has shape [1, 1, 4, 2], expected [1, 1, 3, 2]"), "{wrong}");
    let bias = v.slice(s![.., .., ..3, ..]);
    let wrong = refusal(Tangents { bias: Some(bias), ..still });
    assert!(
        wrong.contains("`tangent.bias` has shape [1, 1, 3, 2], expected [1, 1, 3, 4]"),
        "{wrong}"
    );

    let tangents = Tangents { q: Some(q.view()), ..still };
    let own = FromFunction(|q: &[f64], k: &[f64]| q[0] - k[0]);
    let model = Model::new(EachQueryPicksOne, Uniform, own);
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let refused = posterior.ask(Jvp { v: v.view(), tangents });
    let method = |e: &Error| matches!(e, Error::NoGradient { method: "Potential::tangent", .. });
    assert!(refused.as_ref().is_err_and(method), "{refused:?}");
    // What does not go through the potential needs none.
    assert!(
        posterior
            .ask(Jvp { v: v.view(), tangents: Tangents { v: Some(v.view()), ..still } })
            .is_ok()
    );

    // A prior that reads the nodes would move too.
    let prior = Alibi::new(&[0.5]).over(Contextual::new(1.0));
    let model = Model::new(EachQueryPicksOne, prior, Dot::new(1.0));
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let refused = posterior.ask(Jvp { v: v.view(), tangents }).unwrap_err().to_string();
    assert!(refused.contains("the prior reads queries and keys too"), "{refused}");

    let model = Model::new(Walk::uniform(2).unwrap(), Uniform, Dot::new(1.0));
    let posterior = model.posterior(k.view(), k.view()).unwrap();
    let tangents = Tangents { q: Some(k.view()), ..still };
    let refused = posterior.ask(Jvp { v: v.view(), tangents }).unwrap_err().to_string();
    assert!(refused.contains("`jvp` cannot be answered here"), "{refused}");
}
