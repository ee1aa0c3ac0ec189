//! A dependency parser whose last layer is attention over the words of a sentence, each to its head:
//! what it is worth that the edges are a tree.

mod arcs;
mod conllu;
mod measure;
mod metrics;
mod parser;
mod report;
mod structure;
mod training;
mod treebank;

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;

use burn::module::Module;
use marginals_burn::train::run_all;
use serde::{Deserialize, Serialize};

use self::conllu::Sentence;
use self::measure::{Measured, Reader, Shown};
use self::report::{Results, line};
use self::structure::Structure;
use self::training::{Settings, learn};
use self::treebank::{Example, Treebank, Vocabulary};
use crate::{Outcome, read_config, write};

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Config {
    seeds: Vec<u64>,
    structures: Vec<Structure>,
    /// Runs at a time, each on one thread.
    threads: NonZeroUsize,
    /// Times that a unit must be seen to be known.
    known: usize,
    /// Bins of probabilities.
    bins: usize,
    /// The held-out sentence that is drawn, by its `sent_id`.
    shown: String,
    training: Settings,
}

/// One parser and what was measured of it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Run {
    structure: Structure,
    seed: u64,
    weights: usize,
    /// Sentences that were learned from.
    sentences: usize,
    steps: usize,
    seconds: f64,
    /// Nats per word, of each epoch.
    losses: Vec<f64>,
    /// On the development sentences, under the structure it was learned with.
    development: Measured,
    /// On the held-out sentences, under every structure.
    held_out: Vec<Measured>,
    shown: Shown,
}

impl Run {
    /// What was measured of the held-out sentences under a structure.
    fn under(&self, structure: Structure) -> &Measured {
        let found = self.held_out.iter().find(|found| found.structure == structure);
        found.expect("every run is measured under every structure")
    }
}

/// What is finished; written after every run, so that a stop loses no more than the runs under way.
#[derive(Deserialize, Serialize)]
struct Finished {
    config: Config,
    runs: Vec<Run>,
}

const PARTIAL: &str = "partial.json";

/// Sentences as the network reads them.
struct Prepared {
    units: usize,
    learned: Vec<Example>,
    development: Vec<Example>,
    held_out: Vec<Example>,
    /// Place of the sentence that is drawn.
    shown: usize,
}

impl Prepared {
    fn new(config: &Config, treebank: &Treebank) -> Outcome<Self> {
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

fn learn_and_measure(
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

pub fn run(path: &Path) -> Outcome<()> {
    let config: Config = read_config(path)?;
    run_on(path, config, &Treebank::fetched()?)
}

/// All runs that are not finished yet, and the report of all.
fn run_on(path: &Path, config: Config, treebank: &Treebank) -> Outcome<()> {
    if config.seeds.is_empty() || config.structures.is_empty() || config.bins == 0 {
        return Err("`seeds`, `structures` and `bins` must not be empty".into());
    }
    let data = Prepared::new(&config, treebank)?;
    let partial = path.parent().unwrap_or(Path::new(".")).join(PARTIAL);
    let before = std::fs::read(&partial).ok();
    let before: Option<Finished> = before.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let before = before.filter(|finished| finished.config == config);
    let runs = before.map_or_else(Vec::new, |finished| finished.runs);
    if !runs.is_empty() {
        println!("going on from {} finished runs in {}", runs.len(), partial.display());
    }
    // Seed by seed, so that a stop leaves whole comparisons.
    let jobs =
        config.seeds.iter().flat_map(|&seed| config.structures.iter().map(move |&s| (s, seed)));
    let missing = |&(structure, seed): &(Structure, u64)| {
        !runs.iter().any(|run| run.structure == structure && run.seed == seed)
    };
    let jobs: Vec<_> = jobs.filter(missing).collect();
    let finished = Mutex::new(Finished { config: config.clone(), runs });
    let work = |&(structure, seed): &(Structure, u64)| -> Result<(), Box<dyn Error + Send + Sync>> {
        let run = learn_and_measure(&config, &data, structure, seed).map_err(|e| e.to_string())?;
        println!("{}", line(&run));
        let mut finished = finished.lock().expect("no run panics with it");
        finished.runs.push(run);
        let json = serde_json::to_string(&*finished)?;
        Ok(write(path, PARTIAL, &json).map_err(|e| e.to_string())?)
    };
    run_all(&jobs, config.threads, work).map_err(|error| -> Box<dyn Error> { error })?;
    let Finished { runs, .. } = finished.into_inner().expect("no run panics with it");
    let shown = &treebank.held_out[data.shown];
    let results = Results::new(config, treebank, runs);
    print!("{}", results.tables());
    write(path, "picture.svg", &results.picture())?;
    write(path, "tree.svg", &results.tree(shown)?)?;
    write(path, "results.json", &(serde_json::to_string_pretty(&results)? + "\n"))?;
    match std::fs::remove_file(&partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", partial.display()).into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
