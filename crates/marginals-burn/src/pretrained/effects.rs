//! Loss of a language model on a text, and what a change of one head does to it.
//!
//! A head is changed by answering for it: its layer's attention is asked as usual, and one head's answer is
//! replaced by another (its likeliest key, draws, nothing …). Everything below the layer is shared, and so are
//! its queries, keys and values; everything above it is computed again, several changes at a time as so many
//! texts. Nothing is approximated.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Tensor;
use marginals::Error;
use marginals::prior::{AnyPrior, KeyBias, Window};
use marginals::question::{ColumnMass, LogPartition, Map, Mean, Samples, TopK, TopKAnswer};
use ndarray::{Array3, Array4, Axis, Dimension, concatenate, s};
use rayon::prelude::*;

use super::Transformer;
use super::attend::{Attend, Layer, PosteriorMean};
use super::tokens::Tokens;
use super::vocabulary::Vocabulary;
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
    vocabulary: Vocabulary,
    /// Token after each.
    next: Vec<u32>,
    /// Hidden state before each layer.
    before: Vec<Tensor<2>>,
    /// Hidden state after the last layer, as the head reads it.
    finished: Vec<f32>,
    losses: Vec<f64>,
}

/// Rows of hidden states that go through a layer in one piece: matrix products run at full speed, and what
/// lies between them stays in the processor's caches.
const ROWS: usize = 2048;

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
        let next = tokens.ids[1..].to_vec();
        let Some(vocabulary) = transformer.vocabulary().filter(|_| !next.is_empty()) else {
            return Ok(None);
        };
        let mut before = Vec::new();
        for index in 0..transformer.layers() {
            before.push(hidden.clone());
            hidden = transformer.layer(index, hidden, &mut PosteriorMean)?;
        }
        let finished = into_values(transformer.finish(hidden)?);
        let predicting = predicting(&finished, tokens.len());
        let losses = vocabulary.losses(predicting, next.iter().copied())?;
        Ok(Some(Self { transformer, vocabulary, next, before, finished, losses }))
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
        let TopKAnswer { index, probability } = self.vocabulary.ask(&self.finished, TopK(count))?;
        let rows = index.rows().into_iter().zip(probability.rows());
        let likeliest = rows.map(|(index, probability)| {
            // Of a small vocabulary there are fewer.
            let tokens = index.into_iter().zip(probability).filter(|(id, _)| **id >= 0);
            tokens.map(|(&id, &p)| (id as u32, f64::from(p).ln())).collect()
        });
        Ok(Predictions { losses: self.losses.clone(), likeliest: likeliest.collect() })
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
        let (_, heads, nodes, _) = usual.dim();
        let each: Vec<(usize, usize)> =
            (0..heads).flat_map(|head| (0..changes.len()).map(move |c| (head, c))).collect();
        let stopped = AtomicBool::new(false);
        let found: Result<Vec<Option<Vec<f64>>>, ModelError> = each
            .par_chunks((ROWS / nodes).max(1))
            .map(|together| {
                let with = |&(head, change): &(usize, usize)| {
                    let mut context = usual.clone();
                    let own = asked.changed[change].slice(s![.., head, .., ..]);
                    context.slice_mut(s![.., head, .., ..]).assign(&own);
                    context
                };
                // Once nobody wants to know, what has not begun is left out.
                if stopped.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let contexts: Vec<Array4<f32>> = together.iter().map(with).collect();
                let losses = self.losses_with(layer, &contexts)?;
                let goes_on = losses.iter().fold(true, |goes_on, _| done() && goes_on);
                if !goes_on {
                    stopped.store(true, Ordering::Relaxed);
                    return Ok(None);
                }
                Ok(Some(losses.into_iter().map(|loss| loss - self.loss()).collect()))
            })
            .collect();
        let found: Option<Vec<Vec<f64>>> = found?.into_iter().collect();
        Ok(found.map(|found| found.concat().chunks(changes.len()).map(<[f64]>::to_vec).collect()))
    }

    /// Mean losses where a layer's attention answers each of `contexts`.
    fn losses_with(&self, layer: usize, contexts: &[Array4<f32>]) -> Result<Vec<f64>, ModelError> {
        let (transformer, texts) = (self.transformer, contexts.len());
        let views: Vec<_> = contexts.iter().map(|context| context.view()).collect();
        let contexts = concatenate(Axis(0), &views).expect("contexts of one layer are alike");
        let before = self.before[layer].clone().repeat_dim(0, texts);
        let mut hidden = transformer.after_attention(layer, before, &contexts)?;
        for index in layer + 1..transformer.layers() {
            hidden = transformer.layer_of_texts(index, hidden, texts, &mut PosteriorMean)?;
        }
        let finished = into_values(transformer.finish(hidden)?);
        let nodes = contexts.dim().2;
        let of_texts = finished.chunks_exact(self.finished.len());
        let rows: Vec<&[f32]> = of_texts.map(|text| predicting(text, nodes)).collect();
        let next = self.next.iter().copied().cycle();
        let losses = self.vocabulary.losses(&rows.concat(), next)?;
        Ok(losses.chunks_exact(self.next.len()).map(mean).collect())
    }
}

/// Rows of a text's tokens that another follows, of those of all.
fn predicting(rows: &[f32], tokens: usize) -> &[f32] {
    &rows[..rows.len() / tokens * (tokens - 1)]
}

fn mean(losses: &[f64]) -> f64 {
    losses.iter().sum::<f64>() / losses.len() as f64
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
