//! One posterior, asked and differentiated.

use ndarray::{Array4, ArrayView4, ArrayViewD, Ix4, IxDyn};

use super::iteration;
use super::source::GRADIENT;
use super::{Answers, CowTensor, Inputs, Nan, Questions};
use crate::infer::{AnyInference, Finding, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::potential::AnyPotential;
use crate::question::{Entry, Named, QUESTIONS, Question, Upstream};
use crate::spec::{ModelSpec, SpecModel, Tensors};
use crate::{Error, Real, refuse_nan};

pub(super) const QUERIES: &str = "the queries, [B, H, N, D]";
pub(super) const KEYS: &str = "the keys, [B, Hk, M, D]";

/// Answers the questions, and gives the gradients of what has an upstream gradient.
pub(super) fn answer<T: Real>(
    spec: &ModelSpec,
    questions: Questions<'_>,
    mut inputs: Inputs<'_, T>,
) -> Result<Answers<T>, Error> {
    let upstream = UpstreamTensors::take(questions.named, &mut inputs)?;
    let unasked = Questions { named: &upstream.unasked, ..questions };
    let averages = questions.average_values() || unasked.average_values();
    let nodes = Nodes::take(spec, averages, &mut inputs)?;
    nodes.check(questions.settings.nan)?;
    let tensors = inputs.of_the_model(&spec.reads(), &[questions.named, unasked.named].concat())?;
    let model = nodes.model(spec, &tensors)?;
    let posterior = model.posterior(nodes.q.view(), nodes.k.view())?;

    let mut answers = Answers::default();
    let asked = questions.of(nodes.v(), &tensors)?;
    let is_transport = matches!(spec.inference, Some(AnyInference::Entropic(_)));
    if upstream.gradients.is_empty() && !is_transport {
        answers.extend(posterior.ask(asked)?);
        return Ok(answers);
    }
    let pass = posterior.pass((asked, Unanswered(unasked.of(nodes.v(), &tensors)?)))?;
    answers.extend(pass.answer()?.0);
    iteration::transport(&pass.finding().report, &mut answers);
    if upstream.gradients.is_empty() {
        return Ok(answers);
    }
    let gradients = (upstream.of(questions.named), upstream.of(unasked.named));
    answers.gradients(pass.backward(gradients)?);
    nodes.name_gradients(&mut answers);
    Ok(answers)
}

/// Answers the questions, with the finding of the pass.
pub(super) fn forward<T: Real>(
    spec: &ModelSpec,
    questions: Questions<'_>,
    mut inputs: Inputs<'_, T>,
) -> Result<(Answers<T>, Finding<T>), Error> {
    let nodes = Nodes::take(spec, questions.average_values(), &mut inputs)?;
    nodes.check(questions.settings.nan)?;
    let tensors = inputs.of_the_model(&spec.reads(), questions.named)?;
    let model = nodes.model(spec, &tensors)?;
    let posterior = model.posterior(nodes.q.view(), nodes.k.view())?;
    let pass = posterior.pass(questions.of(nodes.v(), &tensors)?)?;
    let mut answers = Answers::default();
    answers.extend(pass.answer()?);
    iteration::transport(&pass.finding().report, &mut answers);
    Ok((answers, pass.into_finding()))
}

/// The gradients of what has an upstream gradient, with the finding, which serves again.
pub(super) fn backward<T: Real>(
    spec: &ModelSpec,
    questions: Questions<'_>,
    mut inputs: Inputs<'_, T>,
    finding: Finding<T>,
) -> Result<(Answers<T>, Finding<T>), Error> {
    let upstream = UpstreamTensors::take(questions.named, &mut inputs)?;
    if let Some(unasked) = upstream.unasked.first() {
        return Err(Error::NotAnswerable {
            question: format!("{GRADIENT}{}", unasked.entry.name),
            why: "the pass that this is the backward of was not asked it".into(),
            instead: format!("Ask `{}` too.", unasked.entry.usage()),
        });
    }
    let nodes = Nodes::take(spec, questions.average_values(), &mut inputs)?;
    let tensors = inputs.of_the_model(&spec.reads(), questions.named)?;
    let model = nodes.model(spec, &tensors)?;
    let posterior = model.posterior(nodes.q.view(), nodes.k.view())?;
    let pass = posterior.complete(questions.of(nodes.v(), &tensors)?, finding)?;
    let mut answers = Answers::default();
    answers.gradients(pass.backward(upstream.of(questions.named))?);
    nodes.name_gradients(&mut answers);
    Ok((answers, pass.into_finding()))
}

/// Nodes that the edges are between, and the values that they carry.
struct Nodes<'s, T> {
    /// The queries, or the scores themselves.
    q: CowTensor<'s, T, Ix4>,
    k: CowTensor<'s, T, Ix4>,
    v: Option<CowTensor<'s, T, Ix4>>,
    /// Whether scores stand for queries, and keys hold nothing.
    scores: bool,
}

impl<'s, T: Real> Nodes<'s, T> {
    fn take(
        spec: &ModelSpec,
        averages_values: bool,
        inputs: &mut Inputs<'s, T>,
    ) -> Result<Self, Error> {
        let scores = matches!(spec.potential, AnyPotential::Scores(_));
        let (q, k) = match scores {
            true => {
                let scores = inputs.take::<Ix4>("scores", "the scores, [B, H, N, M]")?;
                let (b, h, _, m) = scores.dim();
                (scores, Array4::zeros((b, h, m, 0)).into())
            }
            false => (inputs.take::<Ix4>("q", QUERIES)?, inputs.take::<Ix4>("k", KEYS)?),
        };
        let v = match averages_values {
            true => {
                let why = "the values, [B, Hk, M, D_v], for the questions asked";
                Some(inputs.take::<Ix4>("v", why)?)
            }
            false => None,
        };
        Ok(Self { q, k, v, scores })
    }

    /// Refuses NaN where that is asked for.
    fn check(&self, nan: Nan) -> Result<(), Error> {
        if nan == Nan::Propagates {
            return Ok(());
        }
        let queries = if self.scores { "scores" } else { "q" };
        let all = [(queries, Some(&self.q)), ("k", Some(&self.k)), ("v", self.v.as_ref())];
        for (name, tensor) in all {
            if let Some(tensor) = tensor {
                refuse_nan(name, &tensor.view()).map_err(Error::of_a_check)?;
            }
        }
        Ok(())
    }

    fn model<'a>(
        &self,
        spec: &ModelSpec,
        tensors: &'a Tensors<'_, T>,
    ) -> Result<SpecModel<'a, T>, Error> {
        spec.build(self.q.dim().1, self.q.dim().3, tensors)
    }

    fn v(&self) -> Option<ArrayView4<'_, T>> {
        self.v.as_ref().map(|v| v.view())
    }

    /// Calls the gradients what the nodes were called.
    fn name_gradients(&self, answers: &mut Answers<T>) {
        if self.scores {
            answers.rename("grad.q", "grad.scores");
            answers.remove("grad.k");
        }
    }
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
