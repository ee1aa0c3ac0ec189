//! A Hopfield network: states pulled to patterns.

use ndarray::{Array4, ArrayView4, Ix4};

use super::{Answers, CowTensor, Inputs, Questions, iteration};
use crate::infer::collapsed::Update;
use crate::question::Named;
use crate::spec::HopfieldSpec;
use crate::zoo::hopfield::{Hopfield, Settled};
use crate::{Error, Real, refuse_nan};

/// Meaning of the numbers of `settled`.
const SETTLED: &str = "0 pattern, 1 metastable, 2 nowhere";

/// Upstream gradients that are read.
const UPSTREAM: &[&str] = &["grad.state", "grad.recall"];

/// Runs the network from `states` and answers the questions where it stopped.
pub(super) fn answer<T: Real>(
    spec: &HopfieldSpec,
    questions: Questions<'_>,
    mut inputs: Inputs<'_, T>,
) -> Result<Answers<T>, Error> {
    let states = inputs.take::<Ix4>("states", "where to start, [B, H, N, D]")?;
    let patterns = inputs.take::<Ix4>("patterns", "what is stored, [B, Hk, M, D]")?;
    let values = inputs.optional::<Ix4>("values", "what is recalled, [B, Hk, M, D_v]")?;
    let upstream = UPSTREAM.iter().map(|name| inputs.optional(name, "an upstream gradient"));
    let upstream: Vec<Option<CowTensor<'_, T, Ix4>>> = upstream.collect::<Result<_, _>>()?;
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
    let tensors = inputs.of_the_model(&spec.reads(), questions.named)?;
    let network = Hopfield::new(patterns.view(), spec.beta.values(), (heads, queries))?
        .with_prior(spec.build_prior(heads, &tensors)?)?;
    let (engine, update) = (spec.engine.build(), spec.update.build(&network)?);
    let start: Vec<T> = states.iter().copied().collect();
    let solution = engine.solve(&*update, &start)?;
    let z = &solution.z;

    let mut answers = Answers::default();
    let as_states = |z: &[T]| {
        Array4::from_shape_vec(states.raw_dim(), z.to_vec()).expect("a number for each").into_dyn()
    };
    answers.real("state", as_states(z));
    answers.real("energy", network.energy(z)?.into_dyn());
    iteration::write(&solution, &[batch, heads, queries], &mut answers);
    let retrieval = network.retrieval(z)?;
    answers.index("settled", retrieval.settled().mapv(code).into_dyn());
    answers.describe("settled", SETTLED);
    answers.index("pattern", retrieval.pattern.into_dyn());
    answers.real("probability", retrieval.probability.into_dyn());
    answers.real("entropy", retrieval.entropy.into_dyn());
    let separation = network.separation()?;
    answers.real("separation", separation.of_pattern.into_dyn());
    answers.index("separation.nearest", separation.nearest.into_dyn());
    answers.real("separation.required", separation.required.into_dyn());
    answers.real("separation.radius", separation.radius.into_dyn());
    if let Some(values) = &values {
        answers.real("recall", network.recall(z, values.view())?.into_dyn());
    }
    if !questions.named.is_empty() {
        let averaged = values.as_ref().unwrap_or(&patterns).view();
        let relative = network.relative(z)?;
        let (of_scores, others) = questions.named.iter().partition(|named| is_of_scores(named));
        for (named, posterior) in
            [(others, relative.posterior()?), (of_scores, network.posterior(z)?)]
        {
            let named: Vec<Named> = named;
            if named.is_empty() {
                continue;
            }
            let asked = Questions { named: &named, ..questions };
            answers.extend(posterior.ask(asked.of(Some(averaged), &tensors)?)?);
        }
    }

    let [of_state, of_recall] = upstream.as_slice() else { return Ok(answers) };
    if of_state.is_none() && of_recall.is_none() {
        return Ok(answers);
    }
    let mut upstream = vec![T::zero(); z.len()];
    let mut add = |more: &mut dyn Iterator<Item = T>| {
        upstream.iter_mut().zip(more).for_each(|(sum, g)| *sum += g);
    };
    if let Some(of_state) = of_state {
        if of_state.dim() != states.dim() {
            let expected = format!("{:?}", states.shape());
            let advice = "An upstream gradient has its answer's shape.";
            return Err(Error::shape("grad.state", expected, of_state.shape(), advice));
        }
        add(&mut of_state.iter().copied());
    }
    let mut gradients = Update::inputs(&*update);
    if let Some(of_recall) = of_recall {
        let values = recalled_values(values.as_ref())?;
        let recalled = network.recall_backward(z, values, of_recall.view(), &mut gradients)?;
        add(&mut recalled.0.into_iter());
        answers.real("grad.values", recalled.1.into_dyn());
    }
    let through = engine.backward(&*update, &solution, &upstream)?;
    answers.real("grad.states", as_states(&through.start));
    for more in through.inputs.iter() {
        gradients.add(&more.name, &more.gradient)?;
    }
    iteration::gradients(gradients, &mut answers);
    iteration::adjoint(through.adjoint, &mut answers);
    Ok(answers)
}

/// The values that `grad.recall` needs.
fn recalled_values<'v, T>(
    values: Option<&'v CowTensor<'_, T, Ix4>>,
) -> Result<ArrayView4<'v, T>, Error> {
    values.map(|values| values.view()).ok_or_else(|| Error::MissingTensor {
        name: "values".into(),
        why: "what `grad.recall` is the gradient of".into(),
        present: Vec::new(),
    })
}

/// Whether a question is about the scores themselves, and not about what they say of the patterns.
fn is_of_scores(named: &Named) -> bool {
    ["log-partition", "log-evidence", "max-score", "min-score"].contains(&named.entry.name)
}

/// The number that stands for where a state settled.
fn code(settled: Settled) -> i64 {
    match settled {
        Settled::Pattern => 0,
        Settled::Metastable => 1,
        Settled::Nowhere => 2,
    }
}
