//! A Hopfield network: states pulled to patterns.

use marginals::spec::HopfieldSpec;
use marginals::zoo::hopfield::{Hopfield, Settled};
use marginals::{Element, Error, Real, refuse_nan};
use ndarray::{Array4, Ix4};

use super::questions::Questions;
use super::solution;
use super::tensors::{Inputs, Output};

/// What the numbers of `settled` mean.
const SETTLED: &str = "0 pattern, 1 metastable, 2 nowhere";

/// Upstream gradients that are read.
const UPSTREAM: &[&str] = &["grad.state", "grad.recall"];

/// Runs the network from `states` and answers the questions where it stopped.
pub fn answer<T: Real + Element<Real = T>>(
    spec: &HopfieldSpec,
    questions: &Questions,
    mut inputs: Inputs<T>,
) -> Result<Output<T>, Error> {
    let states: Array4<T> = inputs.take("states", "where to start, [B, H, N, D]")?;
    let patterns: Array4<T> = inputs.take("patterns", "what is stored, [B, Hk, M, D]")?;
    let values: Option<Array4<T>> =
        inputs.optional::<Ix4>("values", "what is recalled, [B, Hk, M, D_v]")?;
    let of_state = inputs.optional::<Ix4>("grad.state", "an upstream gradient")?;
    let of_recall = inputs.optional::<Ix4>("grad.recall", "an upstream gradient")?;
    inputs.refuse_unread_gradients(UPSTREAM)?;
    refuse_nan("states", &states.view())?;
    let ((batch, heads, queries, width), stored) = (states.dim(), patterns.dim());
    if (batch, width) != (stored.0, stored.3) {
        return Err(Error::shape(
            "patterns",
            format!("[{batch}, Hk, M, {width}], as the states"),
            patterns.shape(),
            "States and patterns are compared number by number.",
        ));
    }
    let named = inputs.into_named();
    spec.reads().refuse_mistaken(&named)?;
    let network = Hopfield::new(patterns.view(), &spec.beta.values(), (heads, queries))?
        .with_prior(spec.build_prior(heads, &named)?)?;
    let (engine, update) = (spec.engine.build(), spec.update.build(&network)?);
    let start: Vec<T> = states.iter().copied().collect();
    let solution = engine.solve(&*update, &start)?;
    let z = &solution.z;

    let mut output = Output::default();
    let as_states = |z: &[T]| {
        Array4::from_shape_vec(states.raw_dim(), z.to_vec()).expect("a number for each").into_dyn()
    };
    output.real("state", as_states(z));
    output.real("energy", network.energy(z)?.into_dyn());
    solution::write(&solution, &[batch, heads, queries], &mut output);
    let retrieval = network.retrieval(z)?;
    output.integer("settled", retrieval.settled().mapv(settled).into_dyn());
    output.describe("settled", SETTLED);
    output.integer("pattern", retrieval.pattern.into_dyn());
    output.real("probability", retrieval.probability.into_dyn());
    output.real("entropy", retrieval.entropy.into_dyn());
    let separation = network.separation()?;
    output.real("separation", separation.of_pattern.into_dyn());
    output.integer("separation.nearest", separation.nearest.into_dyn());
    output.real("separation.required", separation.required.into_dyn());
    output.real("separation.radius", separation.radius.into_dyn());
    if let Some(values) = &values {
        output.real("recall", network.recall(z, values.view())?.into_dyn());
    }
    let posterior = network.posterior(z)?;
    questions.ask(&posterior, Some(values.as_ref().unwrap_or(&patterns)), false, &mut output)?;

    if of_state.is_none() && of_recall.is_none() {
        return Ok(output);
    }
    let mut upstream = vec![T::zero(); z.len()];
    let mut add = |more: &[T]| upstream.iter_mut().zip(more).for_each(|(sum, &g)| *sum += g);
    if let Some(of_state) = &of_state {
        if of_state.dim() != states.dim() {
            let expected = format!("{:?}", states.shape());
            let advice = "An upstream gradient has its answer's shape.";
            return Err(Error::shape("grad.state", expected, of_state.shape(), advice));
        }
        add(&of_state.iter().copied().collect::<Vec<T>>());
    }
    let mut gradients = marginals::infer::collapsed::Update::inputs(&*update);
    if let Some(of_recall) = &of_recall {
        let Some(values) = &values else {
            return Err(Error::MissingTensor {
                name: "values".into(),
                why: "what `grad.recall` is the gradient of".into(),
                present: vec!["states".into(), "patterns".into()],
            });
        };
        let recalled =
            network.recall_backward(z, values.view(), of_recall.view(), &mut gradients)?;
        add(&recalled.0);
        output.real("grad.values", recalled.1.into_dyn());
    }
    let through = engine.backward(&*update, &solution, &upstream)?;
    output.real("grad.states", as_states(&through.start));
    for (own, more) in gradients.iter().zip(through.inputs.iter()) {
        output.real(&format!("grad.{}", own.name), &own.gradient + &more.gradient);
    }
    solution::adjoint(through.adjoint, &mut output);
    Ok(output)
}

fn settled(kind: Settled) -> i64 {
    match kind {
        Settled::Pattern => 0,
        Settled::Metastable => 1,
        Settled::Nowhere => 2,
    }
}
