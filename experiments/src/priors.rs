//! What a language model over bytes makes of seven ways to say where a byte stands: trained on short
//! windows, measured on long ones.

mod config;
mod measure;
mod report;

use std::path::Path;

use marginals_burn::train::{Corpus, TrainConfig, Training};
use serde::{Deserialize, Serialize};

use self::config::{Config, Position};
use self::measure::Measured;
use crate::finished::{forget, run_missing};
use crate::{Outcome, read_config, write};

/// One training run and what was measured of its model.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Run {
    name: String,
    seed: u64,
    weights: usize,
    /// Bits per byte of the last 100 steps.
    trained: f64,
    seconds: f64,
    measured: Measured,
}

/// `over` laid over `table`, table by table.
fn lay(table: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(toml::Value::Table(own)), toml::Value::Table(over)) => lay(own, over),
            _ => drop(table.insert(key.clone(), value.clone())),
        }
    }
}

impl Config {
    fn training(&self, position: &Position, seed: u64) -> Outcome<TrainConfig> {
        let mut run = self.run.clone();
        let over = [("model".to_owned(), toml::Value::Table(position.model.clone()))];
        lay(&mut run, &over.into_iter().collect());
        run.insert("seed".into(), toml::Value::Integer(seed as i64));
        let config = TrainConfig::from_toml(&toml::to_string(&run)?);
        Ok(config.map_err(|error| format!("{}: {error}", position.name))?)
    }
}

fn train(config: &Config, position: &Position, seed: u64, text: &[u8]) -> Outcome<Run> {
    let settings = config.training(position, seed)?;
    let corpus = Corpus::split(text.to_vec(), settings.held_out, settings.batches.context)?;
    let mut training = Training::new(settings, corpus)?;
    while !training.is_done() {
        training.step()?;
    }
    let losses = training.losses();
    let last = &losses[losses.len().saturating_sub(100)..];
    let trained = last.iter().sum::<f64>() / last.len() as f64;
    let seconds = training.spent().as_secs_f64();
    let measured = measure::measure(config, &training)?;
    let weights = burn::module::Module::num_params(&training.model());
    Ok(Run { name: position.name.clone(), seed, weights, trained, seconds, measured })
}

pub fn run(path: &Path) -> Outcome<()> {
    let config: Config = read_config(path)?;
    let first = config.positions.first().ok_or("no positions to compare")?;
    let seed = *config.seeds.first().ok_or("no seeds")?;
    let beside = path.parent().unwrap_or(Path::new("."));
    let mut text = Vec::new();
    for file in config.training(first, seed)?.text {
        let file = beside.join(file);
        text.extend(std::fs::read(&file).map_err(|error| {
            format!("{}: {error}; `cargo xtask fetch shakespeare` brings it", file.display())
        })?);
    }
    // Seed by seed, so that a stop leaves whole comparisons.
    let jobs =
        config.seeds.iter().flat_map(|&seed| config.positions.iter().map(move |p| (p, seed)));
    let is_of = |run: &Run, (position, seed): &(&Position, u64)| {
        run.name == position.name && run.seed == *seed
    };
    let work = |&(position, seed): &(&Position, u64)| -> Result<Run, String> {
        let run = train(&config, position, seed, &text).map_err(|e| e.to_string())?;
        println!("{}", report::line(&run));
        Ok(run)
    };
    let runs = run_missing(path, &config, config.threads, jobs, is_of, work)?;
    let results = report::Results::new(config, runs);
    print!("{}", results.table());
    write(path, "picture.svg", &results.picture())?;
    write(path, "results.json", &(serde_json::to_string_pretty(&results)? + "\n"))?;
    forget(path)
}
