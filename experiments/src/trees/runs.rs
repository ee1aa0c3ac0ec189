//! One run: a parser of one structure and seed, learned and measured.

use std::num::NonZeroUsize;

use burn::module::Module;
use serde::{Deserialize, Serialize};

use super::conllu::Sentence;
use super::measure::{Measured, Reader, Shown};
use super::structure::Structure;
use super::training::{Settings, learn};
use super::treebank::{Example, Treebank, Vocabulary};
use crate::Outcome;

/// Settings of the experiment.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub seeds: Vec<u64>,
    pub structures: Vec<Structure>,
    /// Runs at a time, each on one thread.
    pub threads: NonZeroUsize,
    /// Times that a unit must be seen to be known.
    pub known: usize,
    /// Bins of probabilities.
    pub bins: usize,
    /// The held-out sentence that is drawn, by its `sent_id`.
    pub shown: String,
    pub training: Settings,
}

/// One parser and what was measured of it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Run {
    pub structure: Structure,
    pub seed: u64,
    pub weights: usize,
    /// Sentences that were learned from.
    pub sentences: usize,
    pub steps: usize,
    pub seconds: f64,
    /// Nats per word, of each epoch.
    pub losses: Vec<f64>,
    /// On the development sentences, under the structure it was learned with.
    pub development: Measured,
    /// On the held-out sentences, under every structure.
    pub held_out: Vec<Measured>,
    pub shown: Shown,
}

impl Run {
    /// Measures of the held-out sentences under a structure.
    pub fn under(&self, structure: Structure) -> &Measured {
        let found = self.held_out.iter().find(|found| found.structure == structure);
        found.expect("every run is measured under every structure")
    }
}

/// Sentences as the network reads them.
pub struct Prepared {
    pub units: usize,
    pub learned: Vec<Example>,
    pub development: Vec<Example>,
    pub held_out: Vec<Example>,
    /// Place of the sentence that is drawn.
    pub shown: usize,
}

impl Prepared {
    pub fn new(config: &Config, treebank: &Treebank) -> Outcome<Self> {
        let vocabulary = Vocabulary::of(&treebank.learned, config.known);
        let encode = |part: &[Sentence]| part.iter().map(|s| vocabulary.encode(s)).collect();
        let shown = treebank.held_out.iter().position(|s| s.id == config.shown);
        Ok(Self {
            units: vocabulary.len(),
            learned: encode(&treebank.learned),
            development: encode(&treebank.development),
            held_out: encode(&treebank.held_out),
            shown: shown.ok_or_else(|| {
                format!("`shown`: no held-out sentence is called {}", config.shown)
            })?,
        })
    }
}

/// Learns a parser, and measures it on all sentences that it has not learned from.
pub fn learn_and_measure(
    config: &Config,
    data: &Prepared,
    structure: Structure,
    seed: u64,
) -> Outcome<Run> {
    let learned = learn(structure, &config.training, (&data.learned, data.units), seed)?;
    let reader = Reader { parser: &learned.parser, bins: config.bins };
    let under = |&structure: &Structure| reader.measure(structure, &data.held_out);
    Ok(Run {
        structure,
        seed,
        weights: learned.parser.num_params(),
        sentences: learned.sentences,
        steps: learned.steps,
        seconds: learned.seconds,
        losses: learned.losses,
        development: reader.measure(structure, &data.development)?,
        held_out: Structure::ALL.iter().map(under).collect::<Outcome<_>>()?,
        shown: reader.show(structure, &data.held_out[data.shown])?,
    })
}
