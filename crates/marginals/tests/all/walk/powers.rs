//! The mean, against dense matrix powers.

use marginals::question::Mean;
use marginals_testkit::compare::{Tolerance, close};
use marginals_testkit::generate::{Flavour, Random, Recipe};
use marginals_testkit::{Answers, Head, dense, enumerate};
use ndarray::{Array2, Array4};

use crate::contract::bridge;
use crate::contract::runner::for_recipes;
use crate::walk::case::{EXACT, heads, normalised, pantry, row_of, self_attention, walk, weights};

const HOPS: usize = 4;

/// Σ_h P(h) P^h V of one head, the power taken first.
fn mean(p: &Array2<f64>, value: &Array2<f64>, hops: &[f64]) -> Array2<f64> {
    let mut power = Array2::eye(p.nrows());
    let mut mean = Array2::zeros(value.raw_dim());
    for &weight in hops {
        mean = mean + weight * power.dot(value);
        power = power.dot(p);
    }
    mean
}

fn expected(recipe: &Recipe, weights: &Array2<f64>, route: impl Fn(&Head) -> Answers) -> Vec<f64> {
    let hops = normalised(weights);
    let of_head = |(h, head): (usize, Head)| {
        let own = hops.row(row_of(&hops, h)).to_vec();
        mean(&route(&head).marginals, &head.value, &own)
    };
    let means = heads(recipe, &recipe.build()).into_iter().map(of_head);
    means.flat_map(|m| m.into_iter().collect::<Vec<_>>()).collect()
}

fn check(recipe: &Recipe, route: impl Fn(&Head) -> Answers) -> Result<(), String> {
    let recipe = self_attention(recipe);
    let mut random = Random::new(recipe.seed ^ 0xa1);
    let weights = weights(&recipe, HOPS, true, &mut random);
    let walk = walk(&weights, random.chance(0.5))?;
    let case = recipe.build();
    let model = bridge::walk::<f64>(&case.model, walk);
    let (q, k, v) = (case.inputs.q.view(), case.inputs.k.view(), case.inputs.v.view());
    let posterior = model.posterior(q, k).map_err(|e| e.to_string())?;
    let found = posterior.ask(Mean(v)).map_err(|e| e.to_string())?;
    let found: Vec<f64> = found.iter().copied().collect();
    close("mean", &found, &expected(&recipe, &weights, route), EXACT)
}

#[test]
fn equals_enumerated_powers() {
    for_recipes(1_000, &pantry((1..=5).collect()), |recipe| check(recipe, enumerate::answer));
}

/// Several blocks of queries and of keys.
#[test]
fn equals_dense_powers_around_tile_edges() {
    let mut pantry = pantry(vec![3, 64, 97, 193, 257, 513]);
    pantry.batches = 1;
    for_recipes(24, &pantry, |recipe| check(recipe, dense::answer));
}

#[test]
fn single_precision_is_close() {
    let mut pantry = pantry(vec![2, 7, 33, 130]);
    pantry.flavours = vec![Flavour::Ordinary, Flavour::Tiny];
    for_recipes(60, &pantry, |recipe| {
        let recipe = self_attention(recipe);
        let mut random = Random::new(recipe.seed ^ 0xa2);
        let weights = weights(&recipe, HOPS, true, &mut random);
        let walk = walk(&weights, false)?;
        let case = recipe.build();
        let model = bridge::walk::<f32>(&case.model, walk);
        let [q, k, v] = [&case.inputs.q, &case.inputs.k, &case.inputs.v]
            .map(|x: &Array4<f64>| x.mapv(|x| x as f32));
        let posterior = model.posterior(q.view(), k.view()).map_err(|e| e.to_string())?;
        let found = posterior.ask(Mean(v.view())).map_err(|e| e.to_string())?;
        let found: Vec<f64> = found.iter().map(|&x| f64::from(x)).collect();
        let expected = expected(&recipe, &weights, dense::answer);
        close("mean in f32", &found, &expected, Tolerance { relative: 1e-4, absolute: 1e-4 })
    });
}
