//! Our own side.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use marginals::Model;
use marginals::potential::Dot;
use marginals::prior::{Alibi, Bias, Causal, Prior, Uniform, Window};
use marginals::question::{Entropy, Kl, LogEvidence, Map, Mean};
use marginals::structure::{EachQueryPicksOne, NearestAccepted, Structure};
use ndarray::{Array3, Array4, ArrayView4};
use rayon::ThreadPool;

use crate::inputs::Inputs;
use crate::side::{Answer, Answers, Side, flat, real};
use crate::slots;
use crate::structured;
use crate::work::Task;

/// Our engine at one task, on the threads of a pool.
pub struct Engine<'a> {
    pool: &'a ThreadPool,
    run: Box<dyn Fn() -> Result<Answers> + Sync + 'a>,
}

impl<'a> Engine<'a> {
    /// Builds the model; nothing is computed yet.
    pub fn new(task: Task, inputs: &'a Inputs, pool: &'a ThreadPool) -> Self {
        let run: Box<dyn Fn() -> Result<Answers> + Sync + 'a> = match task {
            Task::Mean => mean(softmax(Uniform, inputs), inputs),
            Task::MeanBackward => mean_backward(softmax(Uniform, inputs), inputs),
            Task::Questions => questions(inputs),
            Task::Causal => mean(softmax(Causal, inputs), inputs),
            Task::CausalBackward => mean_backward(softmax(Causal, inputs), inputs),
            Task::NearestAccepted => mean(model(NearestAccepted, Causal, inputs), inputs),
            Task::NearestAcceptedBackward => {
                mean_backward(model(NearestAccepted, Causal, inputs), inputs)
            }
            Task::Alibi => mean(softmax(alibi(inputs), inputs), inputs),
            Task::AlibiBackward => mean_backward(softmax(alibi(inputs), inputs), inputs),
            Task::BiasBackward => {
                mean_backward(softmax(Bias::new(inputs.bias.view()), inputs), inputs)
            }
            Task::Window(keys) => {
                mean(softmax(Window { left: keys - 1, right: 0 }, inputs), inputs)
            }
            Task::Structured(of) => structured::answers(of, false, inputs),
            Task::StructuredBackward(of) => structured::answers(of, true, inputs),
            Task::Transport(times) => structured::transport(times, inputs),
            Task::Slots(iterations) => slots::step(iterations, inputs),
        };
        Self { pool, run }
    }
}

impl Side for Engine<'_> {
    fn time(&mut self, repetitions: usize) -> Result<f64> {
        let start = Instant::now();
        for _ in 0..repetitions {
            self.pool.install(|| (self.run)())?;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    fn answers(&mut self) -> Result<BTreeMap<String, Answer>> {
        Ok(self.pool.install(|| (self.run)())?.into_iter().collect())
    }
}

fn model<S: Structure<f32>, P: Prior<f32>>(
    structure: S,
    prior: P,
    inputs: &Inputs,
) -> Model<S, P, Dot> {
    Model::new(structure, prior, Dot::scaled(inputs.q.dim().3))
}

fn softmax<P: Prior<f32>>(prior: P, inputs: &Inputs) -> Model<EachQueryPicksOne, P, Dot> {
    model(EachQueryPicksOne, prior, inputs)
}

fn alibi(inputs: &Inputs) -> Alibi {
    Alibi::new(&inputs.slopes.mapv(f64::from).to_vec())
}

fn mean<'a, S: Structure<f32> + 'a, P: Prior<f32> + 'a>(
    model: Model<S, P, Dot>,
    inputs: &'a Inputs,
) -> Box<dyn Fn() -> Result<Answers> + Sync + 'a> {
    Box::new(move || {
        let posterior = model.posterior(inputs.q.view(), inputs.k.view())?;
        let mean = posterior.ask(Mean(inputs.v.view()))?;
        Ok(vec![real("mean", mean)])
    })
}

fn mean_backward<'a, S: Structure<f32> + 'a, P: Prior<f32> + 'a>(
    model: Model<S, P, Dot>,
    inputs: &'a Inputs,
) -> Box<dyn Fn() -> Result<Answers> + Sync + 'a> {
    Box::new(move || {
        let posterior = model.posterior(inputs.q.view(), inputs.k.view())?;
        let pass = posterior.pass(Mean(inputs.v.view()))?;
        let mut gradients = pass.backward(inputs.upstream.view())?;
        let v = gradients.take_v();
        let mut answers = vec![
            real("mean", pass.into_answer()?),
            real("grad.q", gradients.q),
            real("grad.k", gradients.k),
        ];
        answers.extend(v.map(|gradient| real("grad.v", gradient)));
        for parameter in gradients.parameters {
            answers.push(real(&format!("grad.{}", parameter.name), parameter.gradient));
        }
        Ok(answers)
    })
}

fn questions(inputs: &Inputs) -> Box<dyn Fn() -> Result<Answers> + Sync + '_> {
    let model = softmax(Uniform, inputs);
    Box::new(move || {
        let posterior = model.posterior(inputs.q.view(), inputs.k.view())?;
        let (mean, entropy, kl, log_evidence, map) =
            posterior.ask((Mean(inputs.v.view()), Entropy, Kl, LogEvidence, Map))?;
        Ok(vec![
            real("mean", mean),
            real("entropy", entropy),
            real("kl", kl),
            real("log-evidence", log_evidence),
            ("map".to_owned(), Answer::Index(flat(map))),
        ])
    })
}

/// Mean and entropy of one model without anything else in memory.
pub fn mean_and_entropy(
    q: ArrayView4<'_, f32>,
    k: ArrayView4<'_, f32>,
    v: ArrayView4<'_, f32>,
) -> Result<(Array4<f32>, Array3<f32>)> {
    let model = Model::new(EachQueryPicksOne, Uniform, Dot::scaled(q.dim().3));
    Ok(model.posterior(q, k)?.ask((Mean(v), Entropy))?)
}
