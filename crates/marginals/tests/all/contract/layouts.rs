//! Any strides, and the half types.

use half::{bf16, f16};
use marginals::Gradients;
use marginals::question::{ColumnMass, Entropy, LogPartition, Mean, ValueVariance};
use marginals::{Element, Error};
use marginals_kernels::Real;
use marginals_testkit::Structure;
use marginals_testkit::generate::strategy::Pantry;
use ndarray::{Array3, Array4, ArrayView4, s};

use crate::contract::bridge::{self, AnyModel};
use crate::contract::runner::for_recipes;

type Answers<T> = (Array4<T>, Array4<T>, Array3<T>, Array3<T>, Array3<T>);

/// Answers and gradients.
type Found<T> = (Answers<T>, Gradients<T>);

/// Answers, and gradients of the mean weighted by `upstream` and of the entropy.
fn ask<E: Element>(
    model: &AnyModel<E::Real>,
    (q, k, v): (ArrayView4<'_, E>, ArrayView4<'_, E>, ArrayView4<'_, E>),
    upstream: ArrayView4<'_, E::Real>,
) -> Result<Found<E::Real>, Error> {
    let posterior = model.posterior(q, k)?;
    let questions = (Mean(v), ValueVariance(v), LogPartition, Entropy, ColumnMass);
    let pass = posterior.pass(questions)?;
    let answers = pass.answer()?;
    let rows = Array3::from_elem(answers.3.dim(), E::Real::of(0.5));
    let gradients = pass.backward((upstream, None, None, &rows, None))?;
    Ok((answers, gradients))
}

fn same<T: Real>(a: &Found<T>, b: &Found<T>) -> Result<(), String> {
    let equal = a.0 == b.0
        && a.1.q == b.1.q
        && a.1.k == b.1.k
        && a.1.values == b.1.values
        && a.1.parameters == b.1.parameters;
    if equal { Ok(()) } else { Err("the same numbers in another layout give other bits".into()) }
}

/// [batch, node, head, width], as most frameworks keep activations, seen as [batch, head, node, width];
/// and tensors whose last axis is not contiguous, or runs backwards.
#[test]
fn strides_do_not_matter() {
    for structure in Structure::ALL {
        let pantry = Pantry { sizes: vec![1, 4, 13, 40], ..Pantry::tiles(structure, 33) };
        for_recipes(40, &pantry, |recipe| {
            let case = recipe.build();
            let model = bridge::model::<f64>(&case.model);
            let (q, k, v) = (&case.inputs.q, &case.inputs.k, &case.inputs.v);
            let (b, h, n, _) = q.dim();
            let g = Array4::from_shape_fn((b, h, n, v.dim().3), |(b, h, i, d)| {
                ((b + 2 * h + 3 * i + 5 * d) % 7) as f64 - 3.0
            });
            let run = |q, k, v, g| ask(&model, (q, k, v), g).map_err(|e| e.to_string());
            let plain = run(q.view(), k.view(), v.view(), g.view())?;

            let heads_inside = |x: &Array4<f64>| {
                x.view().permuted_axes([0, 2, 1, 3]).as_standard_layout().into_owned()
            };
            let [q2, k2, v2, g2] = [q, k, v, &g].map(heads_inside);
            let seen = |x| ArrayView4::permuted_axes(x, [0, 2, 1, 3]);
            same(
                &plain,
                &run(seen(q2.view()), seen(k2.view()), seen(v2.view()), seen(g2.view()))?,
            )?;

            let width_outside = |x: &Array4<f64>| {
                x.view().permuted_axes([3, 0, 1, 2]).as_standard_layout().into_owned()
            };
            let [q3, k3, v3, g3] = [q, k, v, &g].map(width_outside);
            let seen = |x| ArrayView4::permuted_axes(x, [1, 2, 3, 0]);
            same(
                &plain,
                &run(seen(q3.view()), seen(k3.view()), seen(v3.view()), seen(g3.view()))?,
            )?;

            let backwards = |x: &Array4<f64>| x.slice(s![.., ..;-1, ..;-1, ..;-1]).to_owned();
            let [q4, k4, v4, g4] = [q, k, v, &g].map(backwards);
            let flip = s![.., ..;-1, ..;-1, ..;-1];
            same(&plain, &run(q4.slice(flip), k4.slice(flip), v4.slice(flip), g4.slice(flip))?)
        });
    }
}

/// The half types are read as they are and computed in `f32`: the bits are those of widened tensors.
#[test]
fn half_types_are_widened() {
    for structure in Structure::ALL {
        let pantry = Pantry { sizes: vec![1, 5, 40], ..Pantry::tiles(structure, 33) };
        for_recipes(15, &pantry, |recipe| {
            let case = recipe.build();
            let model = bridge::model::<f32>(&case.model);
            let inputs = [&case.inputs.q, &case.inputs.k, &case.inputs.v];
            let (b, h, n, _) = inputs[0].dim();
            let g = Array4::from_elem((b, h, n, inputs[2].dim().3), 0.25);
            let brains = inputs.map(|x| x.mapv(bf16::from_f64));
            let halves = inputs.map(|x| x.mapv(f16::from_f64));
            let run =
                |[q, k, v]: [Array4<f32>; 3]| ask(&model, (q.view(), k.view(), v.view()), g.view());
            let text = |e: Error| e.to_string();

            let wide = run([&brains[0], &brains[1], &brains[2]].map(|x| x.mapv(bf16::to_f32)));
            let [q, k, v] = &brains;
            let narrow = ask(&model, (q.view(), k.view(), v.view()), g.view());
            same(&wide.map_err(text)?, &narrow.map_err(text)?)?;

            let wide = run([&halves[0], &halves[1], &halves[2]].map(|x| x.mapv(f16::to_f32)));
            let [q, k, v] = &halves;
            let narrow = ask(&model, (q.view(), k.view(), v.view()), g.view());
            same(&wide.map_err(text)?, &narrow.map_err(text)?)
        });
    }
}
