//! Loss of a language model on a text, and what a change of one head does to it.
//!
//! A head is changed by answering for it: its layer's attention is asked as usual, and one head's answer is
//! replaced by another (its likeliest key, draws, nothing …). Everything below the layer is shared, everything
//! above it is computed again; nothing is approximated.

use burn::tensor::Tensor;
use marginals::potential::Dot;
use marginals::prior::{AnyPrior, Bias, KeyBias, Window};
use marginals::question::{ColumnMass, LogPartition, Map, Mean, Samples};
use marginals::structure::EachQueryPicksOne;
use marginals::{Error, Model};
use ndarray::{Array3, Array4, ArrayView4, Axis, Dimension, s};
use rayon::prelude::*;

use super::Transformer;
use super::attend::{Attend, Layer, PosteriorMean};
use super::tokens::Tokens;
use crate::error::ModelError;
use crate::tensors::into_values;

/// Change of one head's answers, on all queries at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the likeliest key is read.
    LikeliestKey,
    /// The mean over keys drawn from the posterior.
    Samples {
        /// How many are drawn for each query.
        count: usize,
        /// Seed of the draws.
        seed: u64,
    },
    /// The output is 0 (zero ablation).
    Zero,
    /// The output is its own mean over the queries of the text (mean ablation).
    MeanOutput,
    /// The posterior without the key that has the most mass, renormalised. A query that may pick no other
    /// key keeps it.
    WithoutSink,
    /// The posterior over keys fewer positions away than this, renormalised.
    Window(usize),
}

/// Predictions of a language model on a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// −log P(next token | text so far) in nats, of every token but the last.
    pub losses: Vec<f64>,
    /// The likeliest next tokens after every token, best first: id and log-probability in nats.
    pub likeliest: Vec<Vec<(u32, f64)>>,
}

/// Effects of changes of heads on the loss of a language model, on one text.
#[derive(Debug)]
pub struct Effects<'model> {
    transformer: &'model Transformer,
    /// Token after each.
    next: Vec<u32>,
    /// Hidden state before each layer.
    before: Vec<Tensor<2>>,
    /// Hidden state after the last layer.
    last: Tensor<2>,
    losses: Vec<f64>,
}

impl<'model> Effects<'model> {
    /// Runs the model as it is; `None` where it is no language model, or a text has no second token.
    ///
    /// # Errors
    /// [`ModelError`], when the text does not fit the model.
    pub fn new(
        transformer: &'model Transformer,
        tokens: &Tokens,
    ) -> Result<Option<Self>, ModelError> {
        let mut hidden = transformer.embed(tokens)?;
        let mut before = Vec::new();
        for index in 0..transformer.layers() {
            before.push(hidden.clone());
            hidden = transformer.layer(index, hidden, &mut PosteriorMean)?;
        }
        let next = tokens.ids[1..].to_vec();
        if next.is_empty() {
            return Ok(None);
        }
        let Some(losses) = losses(transformer, hidden.clone(), &next)? else { return Ok(None) };
        Ok(Some(Self { transformer, next, before, last: hidden, losses }))
    }

    /// Mean loss in nats per token, of the model as it is.
    pub fn loss(&self) -> f64 {
        mean(&self.losses)
    }

    /// The predictions of the model as it is, with `count` likeliest tokens after each token.
    ///
    /// # Errors
    /// [`ModelError`], when the head fails.
    pub fn predictions(&self, count: usize) -> Result<Predictions, ModelError> {
        let logits = self.transformer.logits(self.last.clone())?.expect("it is a language model");
        let [rows, vocabulary] = logits.dims();
        let logits = into_values(logits);
        let log_partition = log_partitions(&logits, rows)?;
        let likeliest = logits
            .par_chunks_exact(vocabulary)
            .zip(&log_partition)
            .map(|(row, log_partition)| {
                let mut order: Vec<u32> = (0..row.len() as u32).collect();
                let better =
                    |a: &u32, b: &u32| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b));
                let count = count.min(order.len());
                if count < order.len() {
                    order.select_nth_unstable_by(count, better);
                    order.truncate(count);
                }
                order.sort_unstable_by(better);
                let of = |id: u32| (id, f64::from(row[id as usize]) - log_partition);
                order.into_iter().map(of).collect()
            })
            .collect();
        Ok(Predictions { losses: self.losses.clone(), likeliest })
    }

    /// Change of the mean loss, in nats per token, by head of a layer and change: `[head][change]`. `done` is
    /// told whenever another one is known; once it answers false, what is left is not computed and the answer
    /// is `None`.
    ///
    /// # Errors
    /// [`ModelError::Attention`] when a change cannot be made of this layer's model.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn of_layer(
        &self,
        layer: usize,
        changes: &[Change],
        done: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Vec<Vec<f64>>>, ModelError> {
        let mut asked = Asked { changes, mean: None, changed: Vec::new() };
        self.transformer.layer(layer, self.before[layer].clone(), &mut asked)?;
        let usual = asked.mean.expect("a layer asks for its attention");
        let heads = usual.dim().1;
        let each: Vec<(usize, usize)> =
            (0..heads).flat_map(|head| (0..changes.len()).map(move |c| (head, c))).collect();
        let found: Result<Vec<Option<f64>>, ModelError> = each
            .into_par_iter()
            .map(|(head, change)| {
                if !done() {
                    return Ok(None);
                }
                let mut context = usual.clone();
                let own = asked.changed[change].slice(s![0, head, .., ..]);
                context.slice_mut(s![0, head, .., ..]).assign(&own);
                self.loss_with(layer, &context).map(|loss| Some(loss - self.loss()))
            })
            .collect();
        let found: Option<Vec<f64>> = found?.into_iter().collect();
        Ok(found.map(|found| found.chunks(changes.len()).map(<[f64]>::to_vec).collect()))
    }

    /// Mean loss where a layer's attention answers `context`.
    fn loss_with(&self, layer: usize, context: &Array4<f32>) -> Result<f64, ModelError> {
        let transformer = self.transformer;
        let mut hidden =
            transformer.layer(layer, self.before[layer].clone(), &mut Given(context))?;
        for index in layer + 1..transformer.layers() {
            hidden = transformer.layer(index, hidden, &mut PosteriorMean)?;
        }
        let losses = losses(transformer, hidden, &self.next)?.expect("it is a language model");
        Ok(mean(&losses))
    }
}

/// −log P of each next token, `None` where the model is no language model.
fn losses(
    transformer: &Transformer,
    hidden: Tensor<2>,
    next: &[u32],
) -> Result<Option<Vec<f64>>, ModelError> {
    let hidden = hidden.narrow(0, 0, next.len());
    let Some(logits) = transformer.logits(hidden)? else { return Ok(None) };
    let vocabulary = logits.dims()[1];
    let logits = into_values(logits);
    let log_partition = log_partitions(&logits, next.len())?;
    let rows = logits.chunks_exact(vocabulary).zip(&log_partition).zip(next);
    Ok(Some(rows.map(|((row, log_z), &id)| log_z - f64::from(row[id as usize])).collect()))
}

/// log Σ exp of each row: the vocabulary as keys of which each row picks one, the scores its prior.
fn log_partitions(scores: &[f32], rows: usize) -> Result<Vec<f64>, ModelError> {
    let vocabulary = scores.len() / rows.max(1);
    let scores = ArrayView4::from_shape([1, 1, rows, vocabulary], scores).expect("whole rows");
    let model = Model::new(EachQueryPicksOne, Bias::new(scores), Dot::new(0.0));
    let (q, k) = (Array4::<f32>::zeros([1, 1, rows, 0]), Array4::zeros([1, 1, vocabulary, 0]));
    let posterior = model.posterior(q.view(), k.view())?;
    Ok(posterior.ask(LogPartition)?.iter().copied().map(f64::from).collect())
}

fn mean(losses: &[f64]) -> f64 {
    losses.iter().sum::<f64>() / losses.len() as f64
}

/// Answers with what has been found.
struct Given<'a>(&'a Array4<f32>);

impl Attend for Given<'_> {
    fn attend(&mut self, _layer: &Layer<'_>) -> Result<Array4<f32>, String> {
        Ok(self.0.clone())
    }
}

/// Asks a layer as usual, and then for each of some changes, of all heads.
struct Asked<'a> {
    changes: &'a [Change],
    mean: Option<Array4<f32>>,
    changed: Vec<Array4<f32>>,
}

impl Attend for Asked<'_> {
    fn attend(&mut self, layer: &Layer<'_>) -> Result<Array4<f32>, String> {
        let told = |error: Error| error.to_string();
        let mean = layer.ask(Mean(layer.values)).map_err(told)?;
        self.changed = (self.changes.iter())
            .map(|change| change.answer(layer, &mean))
            .collect::<Result<_, Error>>()
            .map_err(told)?;
        self.mean = Some(mean.clone());
        Ok(mean)
    }
}

impl Change {
    /// Answers of all heads of a layer, so changed; `mean` is the usual one.
    fn answer(self, layer: &Layer<'_>, mean: &Array4<f32>) -> Result<Array4<f32>, Error> {
        Ok(match self {
            Self::LikeliestKey => read(layer, &[&layer.ask(Map)?]),
            Self::Samples { count, seed } => {
                let draws = layer.ask(Samples { count, seed })?;
                let choices = draws.choices().ok_or_else(|| Error::NotAnswerable {
                    question: "samples".to_owned(),
                    why: "this layer's queries pick sets of keys".to_owned(),
                    instead: "Change it in another way.".to_owned(),
                })?;
                let draws: Vec<Array3<i64>> =
                    choices.outer_iter().map(|draw| draw.to_owned()).collect();
                read(layer, &draws.iter().collect::<Vec<_>>())
            }
            Self::Zero => Array4::zeros(mean.dim()),
            Self::MeanOutput => {
                let over_queries = mean.mean_axis(Axis(2)).expect("a text has tokens");
                let rows = over_queries.insert_axis(Axis(2));
                rows.broadcast(mean.dim()).expect("one row for all").to_owned()
            }
            Self::WithoutSink => without_sink(layer, mean)?,
            Self::Window(keys) => {
                let behind = keys.saturating_sub(1);
                let mut model = layer.model.clone();
                model.prior.push(AnyPrior::Window(Window { left: behind, right: behind }));
                Layer { model: &model, ..layer.clone() }.ask(Mean(layer.values))?
            }
        })
    }
}

/// Values at the keys that were picked, averaged over the picks; a query that picks none reads 0.
fn read(layer: &Layer<'_>, picks: &[&Array3<i64>]) -> Array4<f32> {
    let (_, heads, queries, _) = layer.queries.dim();
    let (_, key_heads, _, width) = layer.values.dim();
    let share = 1.0 / picks.len() as f32;
    let mut answer = Array4::zeros([1, heads, queries, width]);
    for head in 0..heads {
        let values = layer.values.slice(s![0, head * key_heads / heads, .., ..]);
        for query in 0..queries {
            let mut row = answer.slice_mut(s![0, head, query, ..]);
            for pick in picks {
                if let Ok(key) = usize::try_from(pick[[0, head, query]]) {
                    row.scaled_add(share, &values.row(key));
                }
            }
        }
    }
    answer
}

/// The mean under the posterior without each head's heaviest key.
fn without_sink(layer: &Layer<'_>, mean: &Array4<f32>) -> Result<Array4<f32>, Error> {
    let mass = layer.ask(ColumnMass)?;
    let mut tensors = layer.tensors.clone();
    let mut model = layer.model.clone();
    let mut bias = match tensors.real.get("key-bias") {
        Some(own) => own.broadcast(mass.raw_dim().into_dyn()).map(|own| own.to_owned()),
        None => {
            model.prior.push(AnyPrior::KeyBias(KeyBias::default()));
            None
        }
    }
    .unwrap_or_else(|| Array3::zeros(mass.raw_dim()).into_dyn());
    for (head, row) in mass.index_axis(Axis(0), 0).outer_iter().enumerate() {
        let heavier = |best: usize, key: usize| if row[key] > row[best] { key } else { best };
        bias[[0, head, (0..row.len()).fold(0, heavier)]] = f32::NEG_INFINITY;
    }
    tensors.real.insert("key-bias".to_owned(), bias.into());
    let changed = Layer { model: &model, tensors: &tensors, ..layer.clone() };
    let (mut answer, log_partition) = changed.ask((Mean(layer.values), LogPartition))?;
    for ((_, head, query), &log_partition) in log_partition.indexed_iter() {
        if log_partition == f32::NEG_INFINITY {
            answer.slice_mut(s![0, head, query, ..]).assign(&mean.slice(s![0, head, query, ..]));
        }
    }
    Ok(answer)
}
