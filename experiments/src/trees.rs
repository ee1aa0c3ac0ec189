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

use std::path::Path;

use self::report::{Results, line};
use self::runs::{Config, Prepared, Run, learn_and_measure};
use self::structure::Structure;
use self::treebank::Treebank;
use crate::finished::{forget, run_missing};
use crate::{Outcome, read_config, write};

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
    // Seed by seed, so that a stop leaves whole comparisons.
    let jobs =
        config.seeds.iter().flat_map(|&seed| config.structures.iter().map(move |&s| (s, seed)));
    let is_of = |run: &Run, &(structure, seed): &(Structure, u64)| {
        run.structure == structure && run.seed == seed
    };
    let work = |&(structure, seed): &(Structure, u64)| -> Result<Run, String> {
        let run = learn_and_measure(&config, &data, structure, seed).map_err(|e| e.to_string())?;
        println!("{}", line(&run));
        Ok(run)
    };
    let runs = run_missing(path, &config, config.threads, jobs, is_of, work)?;
    let shown = &treebank.held_out[data.shown];
    let results = Results::new(config, treebank, runs);
    print!("{}", results.tables());
    write(path, "picture.svg", &results.picture())?;
    write(path, "tree.svg", &results.tree(shown)?)?;
    write(path, "results.json", &(serde_json::to_string_pretty(&results)? + "\n"))?;
    forget(path)
}

#[cfg(test)]
mod tests;
