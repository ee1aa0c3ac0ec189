//! GAT and GATv2 on the karate club and on weather stations, beside PyTorch Geometric's layers from
//! the same weights.

mod karate;
mod network;
mod report;
mod task;
mod weather;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use marginals_burn::GraphAttentionKind;
use serde::{Deserialize, Serialize};

use crate::{Outcome, Spread, read_config, write};
use karate::Karate;
use task::{Run, Task, Training, train};
use weather::{Hiding, Weather};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Config {
    seeds: Vec<u64>,
    karate: Training,
    weather: Training,
    hiding: Hiding,
}

/// PyTorch Geometric's runs by task and kind, one per seed.
#[derive(Deserialize)]
struct Reference {
    versions: BTreeMap<String, String>,
    runs: BTreeMap<String, BTreeMap<String, Vec<Run>>>,
}

/// One task.
#[derive(Serialize)]
struct Entry {
    task: &'static str,
    /// What scores are.
    score: &'static str,
    scored: Vec<usize>,
    /// Scores without learning, by name.
    baselines: Vec<(&'static str, f64)>,
    variants: Vec<Variant>,
}

/// One layer, over seeds.
#[derive(Serialize)]
struct Variant {
    kind: GraphAttentionKind,
    /// Whether the graph's weights are the prior of attention.
    weighted: bool,
    ours: Vec<Spread>,
    /// By seed, after the last step.
    last: Vec<f64>,
    compared: Option<Compared>,
}

/// Against PyTorch Geometric.
#[derive(Serialize)]
struct Compared {
    theirs: Vec<Spread>,
    last: Vec<f64>,
    /// Largest difference of an output before the first step, over the largest output.
    largest_output_difference: f64,
    /// Ours less theirs of a seed, after the last step.
    difference: Spread,
}

#[derive(Serialize)]
struct Results {
    config: Config,
    versions: BTreeMap<String, String>,
    entries: Vec<Entry>,
}

/// The name of a kind in reference.json.
fn name(kind: GraphAttentionKind) -> &'static str {
    match kind {
        GraphAttentionKind::Gat => "gat",
        GraphAttentionKind::Gatv2 => "gatv2",
    }
}

/// Per scored step, over seeds.
fn spreads(runs: &[Run], steps: usize) -> Vec<Spread> {
    let of = |at: usize| Spread::of(&runs.iter().map(|run| run.scores[at]).collect::<Vec<_>>());
    (0..steps).map(of).collect()
}

fn last(runs: &[Run]) -> Vec<f64> {
    runs.iter().filter_map(|run| run.scores.last().copied()).collect()
}

fn compare(ours: &[Run], theirs: &[Run], steps: usize) -> Outcome<Compared> {
    let fits = |(a, b): (&Run, &Run)| {
        b.scores.len() == steps && a.scores.len() == steps && a.start.len() == b.start.len()
    };
    if ours.len() != theirs.len() || !ours.iter().zip(theirs).all(fits) {
        return Err("reference.json was made with other settings; make it anew".into());
    }
    let pairs = || ours.iter().zip(theirs);
    let entries = pairs().flat_map(|(a, b)| a.start.iter().zip(&b.start));
    let gap = entries.fold(0.0f64, |most, (a, b)| most.max(f64::from((a - b).abs())));
    let outputs = theirs.iter().flat_map(|run| &run.start);
    let largest = outputs.fold(0.0f64, |most, x| most.max(f64::from(x.abs())));
    let differences: Vec<f64> = last(ours).iter().zip(last(theirs)).map(|(a, b)| a - b).collect();
    Ok(Compared {
        theirs: spreads(theirs, steps),
        last: last(theirs),
        largest_output_difference: gap / largest,
        difference: Spread::of(&differences),
    })
}

/// A layer for each seed, and what PyTorch Geometric made of the same.
fn variant(
    task: &dyn Task,
    (kind, weighted): (GraphAttentionKind, bool),
    training: &Training,
    seeds: &[u64],
    theirs: Option<&Vec<Run>>,
) -> Outcome<Variant> {
    let device = Device::flex().autodiff();
    let runs = seeds.iter().map(|&seed| train(task, kind, training, seed, &device));
    let runs = runs.collect::<Outcome<Vec<Run>>>()?;
    let steps = training.scored.len();
    let variant = Variant {
        kind,
        weighted,
        ours: spreads(&runs, steps),
        last: last(&runs),
        compared: theirs.map(|theirs| compare(&runs, theirs, steps)).transpose()?,
    };
    let end = variant.ours[steps - 1];
    let prior = if weighted { " with weighted edges" } else { "" };
    print!("  {}{prior}: {:.4} ± {:.4}", name(kind), end.mean, end.deviation);
    match &variant.compared {
        Some(compared) => println!(
            "; PyTorch Geometric {:.4} ± {:.4}; outputs at the start within {:.1e}; ours less theirs \
             {:+.1e} ± {:.1e}",
            compared.theirs[steps - 1].mean,
            compared.theirs[steps - 1].deviation,
            compared.largest_output_difference,
            compared.difference.mean,
            compared.difference.deviation
        ),
        None => println!(),
    }
    Ok(variant)
}

pub fn run(path: &Path) -> Outcome<()> {
    let config: Config = read_config(path)?;
    let device = Device::flex().autodiff();
    let beside = path.with_file_name("reference.json");
    let reference: Option<Reference> = match std::fs::read_to_string(&beside) {
        Ok(text) => Some(serde_json::from_str(&text)?),
        Err(error) => {
            println!("NOT COMPARED with PyTorch Geometric: {}: {error}", beside.display());
            None
        }
    };
    let recorded = |task: &str, kind| reference.as_ref()?.runs.get(task)?.get(name(kind));
    let both = [GraphAttentionKind::Gat, GraphAttentionKind::Gatv2];
    let mut entries = Vec::new();
    for (name, country) in [("United States", "us"), ("Australia", "australia")] {
        let unweighted = Weather::read(country, &config.hiding, false, &device)?;
        let weighted = Weather::read(country, &config.hiding, true, &device)?;
        let [of_day, of_neighbours] = unweighted.baselines();
        println!("{name}: mean of the day {of_day:.3} °C, of the neighbours {of_neighbours:.3} °C");
        let (training, seeds) = (&config.weather, &config.seeds);
        let mut variants = Vec::new();
        for kind in both {
            let theirs = recorded(country, kind);
            variants.push(variant(&unweighted, (kind, false), training, seeds, theirs)?);
        }
        // PyTorch Geometric's layers have no weights of edges.
        let layer = (GraphAttentionKind::Gatv2, true);
        variants.push(variant(&weighted, layer, training, seeds, None)?);
        entries.push(Entry {
            task: name,
            score: "root mean square error (°C)",
            scored: config.weather.scored.clone(),
            baselines: vec![("mean of the day", of_day), ("mean of the neighbours", of_neighbours)],
            variants,
        });
    }
    let club = Karate::read(path, &device)?;
    println!("karate club:");
    let mut variants = Vec::new();
    for kind in both {
        let theirs = recorded("karate", kind);
        variants.push(variant(&club, (kind, false), &config.karate, &config.seeds, theirs)?);
    }
    entries.push(Entry {
        task: "Karate club",
        score: "share of members placed right",
        scored: config.karate.scored.clone(),
        baselines: Vec::new(),
        variants,
    });
    let versions = reference.map(|reference| reference.versions).unwrap_or_default();
    let results = Results { config, versions, entries };
    write(path, "picture.svg", &report::picture(&results))?;
    write(path, "results.json", &(serde_json::to_string_pretty(&results)? + "\n"))
}
