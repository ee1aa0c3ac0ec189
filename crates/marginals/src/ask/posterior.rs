//! One posterior, asked and differentiated.

use ndarray::{Array4, ArrayViewD, Ix4, IxDyn};

use super::iteration;
use super::source::GRADIENT;
use super::{Answers, CowTensor, Inputs, Nan, Questions};
use crate::infer::{AnyInference, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::potential::AnyPotential;
use crate::question::{Entry, Named, QUESTIONS, Question, Upstream};
use crate::spec::ModelSpec;
use crate::{Error, Real, refuse_nan};

pub(super) const QUERIES: &str = "the queries, [B, H, N, D]";
pub(super) const KEYS: &str = "the keys, [B, Hk, M, D]";

/// Answers the questions, and gives the gradients of what has an upstream gradient.
pub(super) fn answer<T: Real>(
    spec: &ModelSpec,
    questions: Questions<'_>,
    mut inputs: Inputs<'_, T>,
) -> Result<Answers<T>, Error> {
    let given = matches!(spec.potential, AnyPotential::Scores(_));
    let (q, k) = match given {
        true => {
            let scores = inputs.take::<Ix4>("scores", "the scores, [B, H, N, M]")?;
            let (b, h, _, m) = scores.dim();
            (scores, Array4::zeros((b, h, m, 0)).into())
        }
        false => (inputs.take::<Ix4>("q", QUERIES)?, inputs.take::<Ix4>("k", KEYS)?),
    };
    let upstream = UpstreamTensors::take(questions.named, &mut inputs)?;
    let unasked = Questions { named: &upstream.unasked, ..questions };
    let v = match questions.average_values() || unasked.average_values() {
        true => {
            let why = "the values, [B, Hk, M, D_v], for the questions asked";
            Some(inputs.take::<Ix4>("v", why)?)
        }
        false => None,
    };
    if questions.settings.nan == Nan::IsRefused {
        let queries = if given { "scores" } else { "q" };
        for (name, tensor) in [(queries, Some(&q)), ("k", Some(&k)), ("v", v.as_ref())] {
            if let Some(tensor) = tensor {
                refuse_nan(name, &tensor.view()).map_err(Error::of_a_check)?;
            }
        }
    }
    let tensors = inputs.of_the_model(&spec.reads(), &[questions.named, unasked.named].concat())?;
    let model = spec.build::<T>(q.dim().1, q.dim().3, &tensors)?;
    let posterior = model.posterior(q.view(), k.view())?;

    let mut answers = Answers::default();
    let v = || v.as_ref().map(|v| v.view());
    let asked = questions.of(v(), &tensors)?;
    let is_transport = matches!(spec.inference, Some(AnyInference::Entropic(_)));
    if upstream.gradients.is_empty() && !is_transport {
        answers.extend(posterior.ask(asked)?);
        return Ok(answers);
    }
    let pass = posterior.pass((asked, Unanswered(unasked.of(v(), &tensors)?)))?;
    answers.extend(pass.answer()?.0);
    iteration::transport(&pass.finding().report, &mut answers);
    if upstream.gradients.is_empty() {
        return Ok(answers);
    }
    let gradients = (upstream.of(questions.named), upstream.of(unasked.named));
    answers.gradients(pass.backward(gradients)?);
    if given {
        // What stands for queries are the scores, and keys hold nothing.
        answers.rename("grad.q", "grad.scores");
        answers.remove("grad.k");
    }
    Ok(answers)
}

/// Upstream gradients by the questions that they are of.
struct UpstreamTensors<'s, T> {
    gradients: Vec<(&'static Entry, CowTensor<'s, T, IxDyn>)>,
    /// Those of the questions that are not asked as well.
    unasked: Vec<Named>,
}

impl<'s, T: Real> UpstreamTensors<'s, T> {
    /// Takes every upstream gradient out of the input.
    ///
    /// # Errors
    /// [`Error::UnknownName`] where there is no such question; [`Error::NotAnswerable`] where its answer
    /// has no gradient.
    fn take(asked: &[Named], inputs: &mut Inputs<'s, T>) -> Result<Self, Error> {
        let (mut gradients, mut unasked) = (Vec::new(), Vec::new());
        for name in inputs.beginning_with(GRADIENT) {
            let entry = differentiable(&name)?;
            gradients.push((entry, inputs.take(&name, "an upstream gradient")?));
            if asked.iter().any(|named| named.entry.name == entry.name) {
                continue;
            }
            if let Some(argument) = entry.argument {
                return Err(Error::NotAnswerable {
                    question: name,
                    why: format!("`{}` is asked with a number, {argument}", entry.name),
                    instead: format!("Ask `{}` too.", entry.usage()),
                });
            }
            unasked.push(Named { entry, argument: None });
        }
        Ok(Self { gradients, unasked })
    }

    /// The gradients of questions, in order.
    fn of(&self, questions: &[Named]) -> Vec<Option<ArrayViewD<'_, T>>> {
        let of = |named: &Named| {
            let own = self.gradients.iter().find(|(entry, _)| entry.name == named.entry.name);
            own.map(|(_, gradient)| gradient.view())
        };
        questions.iter().map(of).collect()
    }
}

/// The differentiable question that `name` is the upstream gradient of.
fn differentiable(name: &str) -> Result<&'static Entry, Error> {
    let question = name.strip_prefix(GRADIENT).unwrap_or(name);
    match QUESTIONS.iter().find(|entry| entry.name == question) {
        Some(entry) if entry.differentiable => Ok(entry),
        Some(_) => Err(Error::NotAnswerable {
            question: name.into(),
            why: format!("`{question}` is not differentiable"),
            instead: "Leave its gradient out.".into(),
        }),
        None => {
            let known = QUESTIONS.iter().filter(|entry| entry.differentiable);
            let known: Vec<String> =
                known.map(|entry| format!("{GRADIENT}{}", entry.name)).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            Err(Error::unknown("upstream gradient", name, &known))
        }
    }
}

/// A question whose answer is differentiated and not given.
struct Unanswered<Q>(Q);

impl<'v, T: Real, Q: Question<'v, T>> Question<'v, T> for Unanswered<Q> {
    type Answer = ();
    type Upstream = Q::Upstream;
    type Plan = Q::Plan;

    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Q::Plan, Error> {
        self.0.plan(posterior, request)
    }

    fn answer(&self, _: &Q::Plan, _: &Found<'_, '_, 'v, T>) -> Result<(), Error> {
        Ok(())
    }

    fn backward<'g>(
        &self,
        plan: &Q::Plan,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: <Q::Upstream as Upstream>::Of<'g, T>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        self.0.backward(plan, found, upstream, slopes)
    }
}
