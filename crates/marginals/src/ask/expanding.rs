//! Expanding attention.

use ndarray::{Array3, Ix3, Ix4};

use super::posterior::{KEYS, QUERIES};
use super::{Answers, Inputs, Questions, iteration};
use crate::question::Distance;
use crate::spec::{ExpandingInference, ExpandingSpec, PerHead, Sizes};
use crate::structure::EachQueryPicksOne;
use crate::zoo::expanding::{Expanding, ExpandingUpstream, Inference};
use crate::{Error, Model, Real};

/// Upstream gradients that are read.
const UPSTREAM: &[&str] = &["grad.mean", "grad.log-evidence", "grad.rho"];

/// Expands the windows of `q` over `k`, averages `v` in them, and answers the questions about the
/// posterior over the keys in the windows.
pub(super) fn answer<T: Real>(
    spec: &ExpandingSpec,
    questions: Questions<'_>,
    mut inputs: Inputs<'_, T>,
) -> Result<Answers<T>, Error> {
    let q = inputs.take::<Ix4>("q", QUERIES)?;
    let k = inputs.take::<Ix4>("k", KEYS)?;
    let v = inputs.take::<Ix4>("v", "the values, [B, Hk, M, D_v]")?;
    let of_mean = inputs.optional::<Ix4>(UPSTREAM[0], "an upstream gradient")?;
    let of_log_evidence = inputs.optional::<Ix3>(UPSTREAM[1], "an upstream gradient")?;
    let of_rho = inputs.optional::<Ix3>(UPSTREAM[2], "an upstream gradient")?;
    inputs.refuse_unread_gradients(UPSTREAM)?;
    let alpha = concentration("alpha", &spec.alpha, &mut inputs)?;
    let beta = concentration("beta", &spec.beta, &mut inputs)?;
    let tensors = inputs.of_the_model(&spec.reads(), questions.named)?;
    let sizes = Sizes { heads: q.dim().1, key_heads: k.dim().1, width: q.dim().3 };
    let potential = spec.potential.build_for(sizes, &tensors)?;
    let inference = match &spec.inference {
        ExpandingInference::Exact => Inference::Exact,
        ExpandingInference::MeanField(engine) => Inference::MeanField(engine.build()),
    };
    let expanding = Expanding::per_query(alpha, beta)
        .with_inference(inference)
        .with_tolerance(spec.lost)
        .with_first_keys(spec.first_keys)
        .with_query_offset(spec.query_offset);
    let found = expanding.attend(&*potential, q.view(), k.view(), v.view())?;

    let mut answers = Answers::default();
    // Before the mechanism's own answers, which stand where both have a name.
    if !questions.named.is_empty() {
        let asked = questions.of(Some(v.view()), &tensors)?;
        let asked = found.with_prior(|prior| {
            let potential = spec.potential.build_for(sizes, &tensors)?;
            let model = Model::new(EachQueryPicksOne, prior, potential)
                .with_query_offset(spec.query_offset);
            model.posterior(q.view(), k.view())?.ask(asked)
        })?;
        answers.extend(asked);
    }
    let mut real = |name: &str, tensor: &Array3<f64>| {
        answers.real(name, tensor.mapv(T::of).into_dyn());
    };
    real("log-evidence", &found.log_evidence);
    real("lost", &found.lost);
    real(Distance::EXPECTED, &found.distance);
    real("rho", &found.rho_mean);
    real("rho.variance", &found.rho_variance);
    if let Some(concentration) = &found.concentration {
        real("concentration", concentration);
    }
    answers.real("mean", found.mean.clone().into_dyn());
    let whole = |tensor: &Array3<usize>| tensor.mapv(|x| x as i64).into_dyn();
    answers.index("window", whole(&found.window));
    answers.index("growths", whole(&found.growths));
    answers.index("steps", whole(&found.steps));
    if let Some(reasons) = &found.reasons {
        iteration::reasons(reasons.mapv(iteration::code).into_dyn(), &mut answers);
    }
    if of_mean.is_none() && of_log_evidence.is_none() && of_rho.is_none() {
        return Ok(answers);
    }
    let gradients = found.backward(&ExpandingUpstream {
        mean: of_mean.as_ref().map(|g| g.view()),
        log_evidence: of_log_evidence.as_ref().map(|g| g.view()),
        rho: of_rho.as_ref().map(|g| g.view()),
    })?;
    answers.real("grad.q", gradients.q.into_dyn());
    answers.real("grad.k", gradients.k.into_dyn());
    answers.real("grad.v", gradients.v.into_dyn());
    answers.real("grad.alpha", gradients.alpha.mapv(T::of).into_dyn());
    answers.real("grad.beta", gradients.beta.mapv(T::of).into_dyn());
    for parameter in gradients.potential {
        answers.real(&format!("grad.{}", parameter.name), parameter.gradient);
    }
    iteration::adjoint(gradients.adjoint, &mut answers);
    Ok(answers)
}

/// α or β: from the model file, or from the input.
fn concentration<T: Real>(
    name: &str,
    given: &Option<PerHead>,
    inputs: &mut Inputs<'_, T>,
) -> Result<Array3<f64>, Error> {
    if let Some(given) = given {
        let list = given.values();
        return Ok(Array3::from_shape_fn((1, list.len(), 1), |(_, h, _)| list[h]));
    }
    let tensor = inputs.take::<Ix3>(name, "[B, H, N], any axis of which may be 1")?;
    Ok(tensor.mapv(T::f64))
}
