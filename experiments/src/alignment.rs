//! Words of parallel Bible verses aligned by EM, with every sum over alignments a posterior of the library: what
//! it is worth that picks depend on each other.

mod anchors;
mod bible;
mod corpus;
mod diagonal;
mod grid;
mod jumps;
mod learning;
mod markup;
mod measure;
mod posterior;
mod report;
mod runs;
mod structure;
mod sword;
mod table;

use std::error::Error;
use std::path::Path;
use std::sync::Mutex;

use marginals_burn::train::run_all;
use serde::{Deserialize, Serialize};

use self::bible::Parallel;
use self::report::{Results, line};
use self::runs::{Config, Prepared, Run, learn_and_measure};
use self::structure::Kind;
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
    let parallel = Parallel::fetched(config.longest)?;
    run_on(path, config, parallel)
}

/// All runs that are not finished yet, and the report of all.
fn run_on(path: &Path, config: Config, parallel: Parallel) -> Outcome<()> {
    config.check()?;
    let data = Prepared::new(&config, parallel)?;
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
    let missing = |&(structure, seed): &(Kind, u64)| {
        !runs.iter().any(|run| run.structure == structure && run.seed == seed)
    };
    let jobs: Vec<_> = jobs.filter(missing).collect();
    let finished = Mutex::new(Finished { config: config.clone(), runs });
    let work = |&(structure, seed): &(Kind, u64)| -> Result<(), Box<dyn Error + Send + Sync>> {
        let run = learn_and_measure(&config, &data, structure, seed).map_err(|e| e.to_string())?;
        println!("{}", line(&run));
        let mut finished = finished.lock().expect("no run panics with it");
        finished.runs.push(run);
        let json = serde_json::to_string(&*finished)?;
        Ok(write(path, PARTIAL, &json).map_err(|e| e.to_string())?)
    };
    run_all(&jobs, config.threads, work).map_err(|error| -> Box<dyn Error> { error })?;
    let Finished { runs, .. } = finished.into_inner().expect("no run panics with it");
    let results = Results::new(config, &data, runs);
    print!("{}", results.tables());
    write(path, "picture.svg", &results.picture())?;
    write(path, "verse.svg", &results.verse(&data.pairs[data.shown])?)?;
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
