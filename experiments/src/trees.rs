//! A dependency parser whose last layer is attention over the words of a sentence, each to its head:
//! what it is worth that the edges are a tree.

mod arcs;
mod conllu;
mod measure;
mod metrics;
mod parser;
mod report;
mod runs;
mod structure;
mod training;
mod treebank;

use std::error::Error;
use std::path::Path;
use std::sync::Mutex;

use marginals_burn::train::run_all;
use serde::{Deserialize, Serialize};

use self::report::{Results, line};
use self::runs::{Config, Prepared, Run, learn_and_measure};
use self::structure::Structure;
use self::treebank::Treebank;
use crate::{Outcome, read_config, write};

/// Finished runs; written after every run, so that a stop loses no more than the runs under way.
#[derive(Deserialize, Serialize)]
struct Finished {
    config: Config,
    runs: Vec<Run>,
}

const PARTIAL: &str = "partial.json";

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
