//! Expanding attention.

use marginals::spec::{ExpandingInference, ExpandingSpec, PerHead, Sizes};
use marginals::structure::EachQueryPicksOne;
use marginals::zoo::expanding::{Expanding, ExpandingUpstream, Inference};
use marginals::{Element, Error, Model, Real};
use ndarray::{Array3, Array4, Ix3, Ix4};

use super::questions::Questions;
use super::solution;
use super::tensors::{Inputs, Output};

/// Upstream gradients that are read.
const UPSTREAM: &[&str] = &["grad.mean", "grad.log-evidence", "grad.rho"];

/// Expands the windows of `q` over `k`, averages `v` in them, and answers the questions about the
/// posterior over the keys in the windows.
pub fn answer<T: Real + Element<Real = T>>(
    spec: &ExpandingSpec,
    questions: &Questions,
    mut inputs: Inputs<T>,
) -> Result<Output<T>, Error> {
    let q: Array4<T> = inputs.take("q", "the queries, [B, H, N, D]")?;
    let k: Array4<T> = inputs.take("k", "the keys, [B, Hk, M, D]")?;
    let v: Array4<T> = inputs.take("v", "the values, [B, Hk, M, D_v]")?;
    let of_mean = inputs.optional::<Ix4>("grad.mean", "an upstream gradient")?;
    let of_log_evidence = inputs.optional::<Ix3>("grad.log-evidence", "an upstream gradient")?;
    let of_rho = inputs.optional::<Ix3>("grad.rho", "an upstream gradient")?;
    inputs.refuse_unread_gradients(UPSTREAM)?;
    let alpha = concentration("alpha", &spec.alpha, &mut inputs)?;
    let beta = concentration("beta", &spec.beta, &mut inputs)?;
    let named = inputs.into_named();
    spec.reads().refuse_mistaken(&named)?;
    let sizes = Sizes { heads: q.dim().1, key_heads: k.dim().1, width: q.dim().3 };
    let potential = spec.potential.build_for(sizes, &named)?;
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

    let mut output = Output::default();
    // Before the mechanism's own answers, which stand where both have a name.
    if questions.names().next().is_some() {
        found.with_prior(|prior| {
            let potential = spec.potential.build_for(sizes, &named)?;
            let model = Model::new(EachQueryPicksOne, prior, potential)
                .with_query_offset(spec.query_offset);
            let posterior = model.posterior(q.view(), k.view())?;
            questions.ask(&posterior, Some(&v), false, &mut output).map(drop)
        })?;
    }
    let mut real = |name: &str, tensor: &Array3<f64>| {
        output.real(name, tensor.mapv(T::of).into_dyn());
    };
    real("log-evidence", &found.log_evidence);
    real("lost", &found.lost);
    real("expected-distance", &found.distance);
    real("rho", &found.rho_mean);
    real("rho.variance", &found.rho_variance);
    if let Some(concentration) = &found.concentration {
        real("concentration", concentration);
    }
    output.real("mean", found.mean.clone().into_dyn());
    let whole = |tensor: &Array3<usize>| tensor.mapv(|x| x as i64).into_dyn();
    output.integer("window", whole(&found.window));
    output.integer("growths", whole(&found.growths));
    output.integer("steps", whole(&found.steps));
    if let Some(reasons) = &found.reasons {
        solution::reasons(reasons.mapv(solution::code).into_dyn(), &mut output);
    }
    if of_mean.is_none() && of_log_evidence.is_none() && of_rho.is_none() {
        return Ok(output);
    }
    let gradients = found.backward(&ExpandingUpstream {
        mean: of_mean.as_ref().map(|g| g.view()),
        log_evidence: of_log_evidence.as_ref().map(|g| g.view()),
        rho: of_rho.as_ref().map(|g| g.view()),
    })?;
    output.real("grad.q", gradients.q.into_dyn());
    output.real("grad.k", gradients.k.into_dyn());
    output.real("grad.v", gradients.v.into_dyn());
    output.real("grad.alpha", gradients.alpha.mapv(T::of).into_dyn());
    output.real("grad.beta", gradients.beta.mapv(T::of).into_dyn());
    for parameter in gradients.potential {
        output.real(&format!("grad.{}", parameter.name), parameter.gradient);
    }
    solution::adjoint(gradients.adjoint, &mut output);
    Ok(output)
}

/// α or β: from the model file, or from the input.
fn concentration<T: Real>(
    name: &str,
    given: &Option<PerHead>,
    inputs: &mut Inputs<T>,
) -> Result<Array3<f64>, Error> {
    if let Some(given) = given {
        let list = given.values();
        return Ok(Array3::from_shape_fn((1, list.len(), 1), |(_, h, _)| list[h]));
    }
    let tensor = inputs.take::<Ix3>(name, "[B, H, N], any axis of which may be 1")?;
    Ok(tensor.mapv(T::f64))
}
