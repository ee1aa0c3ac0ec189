//! Values of their own for query heads that share keys.

use marginals::question::{Mean, ValueVariance};
use marginals_testkit::compare::{Tolerance, close};
use marginals_testkit::finite_difference::along;
use marginals_testkit::generate::{Case, Flavour, Random, Recipe, strategy::Pantry};
use marginals_testkit::{Answers, Structure, dense};
use ndarray::{Array4, s};

use crate::contract::bridge;
use crate::contract::expected::EXACT;
use crate::contract::runner::for_recipes;

/// The answers of every head, with values [B, H, M, d_v].
fn answers(recipe: &Recipe, case: &Case, v: &Array4<f64>) -> Vec<Answers> {
    let places = (0..recipe.batch).flat_map(|b| (0..recipe.heads()).map(move |h| (b, h)));
    let of_head = |(b, h): (usize, usize)| {
        let mut head = case.model.head(&case.inputs, b, h);
        head.value = v.slice(s![b, h, .., ..]).to_owned();
        dense::answer(&head)
    };
    places.map(of_head).collect()
}

fn flat<'a>(tensors: impl Iterator<Item = &'a ndarray::Array2<f64>>) -> Vec<f64> {
    tensors.flat_map(|x| x.iter().copied()).collect()
}

fn check(recipe: &Recipe) -> Result<(), String> {
    let case = recipe.build();
    let mut random = Random::new(recipe.seed ^ 0x51);
    let (n, m, width) = (recipe.queries, recipe.keys, recipe.value_depth);
    let mut tensor = |nodes| {
        Array4::from_shape_fn((recipe.batch, recipe.heads(), nodes, width), |_| random.normal())
    };
    let (v, direction, of_mean, of_variance) = (tensor(m), tensor(m), tensor(n), tensor(n));

    let model = bridge::model::<f64>(&case.model);
    let (q, k) = (case.inputs.q.view(), case.inputs.k.view());
    let posterior = model.posterior(q, k).map_err(|e| e.to_string())?;
    let questions = (Mean(v.view()), ValueVariance(v.view()));
    let pass = posterior.pass(questions).map_err(|e| e.to_string())?;
    let (mean, variance) = pass.answer().map_err(|e| e.to_string())?;
    let list = |x: &Array4<f64>| x.iter().copied().collect::<Vec<f64>>();
    let expected = answers(recipe, &case, &v);
    close("mean", &list(&mean), &flat(expected.iter().map(|a| &a.mean)), EXACT)?;
    let variances = flat(expected.iter().map(|a| &a.value_variance));
    close("variance", &list(&variance), &variances, EXACT)?;

    let found = pass.backward((&of_mean, &of_variance)).map_err(|e| e.to_string())?;
    let loss = |case: &Case, v: &Array4<f64>| -> f64 {
        let answers = answers(recipe, case, v);
        let dot = |a: Vec<f64>, b: &Array4<f64>| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(flat(answers.iter().map(|a| &a.mean)), &of_mean)
            + dot(flat(answers.iter().map(|a| &a.value_variance)), &of_variance)
    };
    let dv = found.v().ok_or("no gradient of v")?;
    let slope = along(&list(&v), &list(&direction), |x| {
        loss(&case, &Array4::from_shape_vec(v.raw_dim(), x.to_vec()).expect("as many values"))
    });
    let sum = dv.iter().zip(&direction).map(|(g, d)| g * d).sum();
    let allowed = Tolerance { relative: 1e-6, absolute: 1e-8 + 4.0 * slope.error };
    close("gradient of v", &[sum], &[slope.value], allowed)?;
    let towards: Vec<f64> = (0..q.len()).map(|_| random.normal()).collect();
    let slope = along(&list(&case.inputs.q), &towards, |x| {
        let mut moved = case.clone();
        moved.inputs.q.as_slice_mut().expect("standard layout").copy_from_slice(x);
        loss(&moved, &v)
    });
    let sum = found.q.iter().zip(&towards).map(|(g, d)| g * d).sum();
    let allowed = Tolerance { relative: 1e-6, absolute: 1e-8 + 4.0 * slope.error };
    close("gradient of q", &[sum], &[slope.value], allowed)
}

#[test]
fn agree_with_the_dense_formulas() {
    for structure in Structure::ALL {
        let pantry = Pantry {
            flavours: vec![Flavour::Ordinary],
            batches: 3,
            sizes: vec![1, 2, 5, 33],
            ..Pantry::tiny(structure)
        };
        for_recipes(100, &pantry, check);
    }
}
