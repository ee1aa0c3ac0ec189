//! A parser learned under one structure.

use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device};
use marginals_burn::train::Optimiser;
use serde::{Deserialize, Serialize};

use super::metrics::is_projective;
use super::parser::{Batch, Hiding, Parser, Place, Sizes, noise};
use super::structure::{Structure, loss};
use super::treebank::Example;
use crate::Outcome;
use crate::random::Random;

/// How parsers are learned.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Sentences of a step.
    pub batch: usize,
    /// Times that every sentence is seen.
    pub epochs: usize,
    /// Most words of a sentence that is learned from.
    pub longest: usize,
    pub model: Sizes,
    pub hiding: Hiding,
    pub optimiser: Optimiser,
}

/// A parser and how it was learned.
pub struct Learned {
    pub parser: Parser,
    /// Sentences that it saw.
    pub sentences: usize,
    pub steps: usize,
    /// Mean loss of each epoch, in nats per word.
    pub losses: Vec<f64>,
    pub seconds: f64,
}

/// Stream of random numbers of the order of an epoch.
const ORDER: u32 = 1 << 30;

/// Sentences that a structure learns from: those that are not too long and whose tree is one of its own.
pub fn usable(structure: Structure, longest: usize, all: &[Example]) -> Vec<&Example> {
    let fits = |example: &&Example| {
        example.heads.len() <= longest
            && (structure != Structure::ProjectiveArborescence || is_projective(&example.heads))
    };
    all.iter().filter(fits).collect()
}

/// Batches of an epoch: sentences of about one length beside each other, all in random order.
fn batches(examples: &[&Example], size: usize, random: &mut Random) -> Vec<Vec<usize>> {
    let mut order = random.choose(examples.len(), examples.len());
    // Stable: those of one length stay in random order.
    order.sort_by_key(|&example| examples[example].heads.len());
    let batches: Vec<&[usize]> = order.chunks(size).collect();
    let places = random.choose(batches.len(), batches.len());
    places.into_iter().map(|place| batches[place].to_vec()).collect()
}

/// Learns a parser by maximum likelihood.
pub fn learn(
    structure: Structure,
    settings: &Settings,
    (examples, units): (&[Example], usize),
    seed: u64,
) -> Outcome<Learned> {
    let start = Instant::now();
    let place = Place { device: Device::flex().autodiff(), format: DType::F32 };
    let examples = usable(structure, settings.longest, examples);
    if examples.is_empty() {
        return Err(format!("no sentence to learn {} from", structure.name()).into());
    }
    let mut parser = Parser::new(&settings.model, units, seed, &place);
    let mut optimiser = settings.optimiser.init();
    let steps = settings.epochs * examples.len().div_ceil(settings.batch);
    let (mut step, mut losses) = (0, Vec::new());
    for epoch in 0..settings.epochs {
        let mut sum = 0.0;
        let batches =
            batches(&examples, settings.batch, &mut Random::new(seed, ORDER + epoch as u32));
        for own in &batches {
            let own: Vec<&Example> = own.iter().map(|&example| examples[example]).collect();
            let mut random = noise(seed, step);
            let batch = Batch::of(&own, Some((settings.hiding, &mut random)), &place);
            let scores = parser.scores(&batch, Some((settings.hiding, &mut random)))?;
            let loss = loss(structure, scores, &batch.gold)?;
            let nats = f64::from(loss.clone().into_scalar::<f32>());
            if !nats.is_finite() {
                return Err(
                    format!("the loss of step {step} is {nats}: lower `optimiser.rate`").into()
                );
            }
            sum += nats;
            let gradients = GradientsParams::from_grads(loss.backward(), &parser);
            let rate = settings.optimiser.rate_at(step, steps);
            parser = optimiser.step(rate, parser, gradients);
            step += 1;
        }
        losses.push(sum / batches.len() as f64);
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Learned { parser: parser.valid(), sentences: examples.len(), steps, losses, seconds })
}
