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

use std::path::Path;

use self::bible::Parallel;
use self::report::{Results, line};
use self::runs::{Config, Prepared, Run, learn_and_measure};
use self::structure::Kind;
use crate::finished::{forget, run_missing};
use crate::{Outcome, read_config, write};

pub fn run(path: &Path) -> Outcome<()> {
    let config: Config = read_config(path)?;
    let parallel = Parallel::fetched(config.longest)?;
    run_on(path, config, parallel)
}

/// All runs that are not finished yet, and the report of all.
fn run_on(path: &Path, config: Config, parallel: Parallel) -> Outcome<()> {
    config.check()?;
    let data = Prepared::new(&config, parallel)?;
    // Seed by seed, so that a stop leaves whole comparisons.
    let jobs =
        config.seeds.iter().flat_map(|&seed| config.structures.iter().map(move |&s| (s, seed)));
    let is_of = |run: &Run, &(structure, seed): &(Kind, u64)| {
        run.structure == structure && run.seed == seed
    };
    let work = |&(structure, seed): &(Kind, u64)| -> Result<Run, String> {
        let run = learn_and_measure(&config, &data, structure, seed).map_err(|e| e.to_string())?;
        println!("{}", line(&run));
        Ok(run)
    };
    let runs = run_missing(path, &config, config.threads, jobs, is_of, work)?;
    let results = Results::new(config, &data, runs);
    print!("{}", results.tables());
    write(path, "picture.svg", &results.picture())?;
    write(path, "verse.svg", &results.verse(&data.pairs[data.shown])?)?;
    write(path, "results.json", &(serde_json::to_string_pretty(&results)? + "\n"))?;
    forget(path)
}

#[cfg(test)]
mod tests;
