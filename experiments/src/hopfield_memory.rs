//! A Hopfield memory of digits: what it retrieves from half an image, and from a noisy one.

use std::path::Path;

use marginals::infer::collapsed::{Exact, FixedPoint, Maximise};
use marginals::zoo::hopfield::{Hopfield, Settled};
use ndarray::{Array2, ArrayView1, Axis as Dimension, s};
use serde::{Deserialize, Serialize};

use crate::picture::{Axis, Chart, Line, Style, draw};
use crate::random::Random;
use crate::{Outcome, Spread, data, read_config, write};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Config {
    seeds: Vec<u64>,
    stored: Vec<usize>,
    beta: Vec<f64>,
    asked: usize,
    noise: f64,
    tolerance: f64,
    steps: usize,
}

/// How an image is spoilt.
#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Spoilt {
    /// The lower half is grey.
    HalfHidden,
    /// Normal noise on every pixel.
    Noisy,
}

/// One (N, β), over seeds.
#[derive(Serialize)]
struct Entry {
    stored: usize,
    beta: f64,
    spoilt: Spoilt,
    /// Share of states that settled on the image asked for, and on no other.
    retrieved: Spread,
    /// Share that settled on another image.
    mistaken: Spread,
    /// Share that settled between images.
    metastable: Spread,
    /// Share retrieved by the first step.
    in_one_step: Spread,
    /// Steps until a state stands still.
    steps: Spread,
    /// Share of all stored images that the theory's condition on Δ_i covers.
    certain: Spread,
    /// Largest distance from a certain image of the fixed point of a state started at it, over the
    /// radius 1/(βNM) within which the theory places it.
    largest_gap: f64,
}

#[derive(Serialize)]
struct Results {
    config: Config,
    entries: Vec<Entry>,
    /// Δ_i of the stored images: 1 minus the largest cosine to another.
    separation: Vec<Separation>,
}

#[derive(Serialize)]
struct Separation {
    stored: usize,
    least: Spread,
    median: Spread,
}

/// Each image less its own mean, at length 1.
fn normalised(images: &Array2<f32>) -> Array2<f32> {
    let mut images = images.clone();
    for mut row in images.rows_mut() {
        let mean = row.sum() / row.len() as f32;
        row -= mean;
        let length = row.dot(&row).sqrt();
        row /= length;
    }
    images
}

fn spoil(image: ArrayView1<'_, f32>, spoilt: Spoilt, noise: f64, random: &mut Random) -> Vec<f32> {
    let size = image.len();
    let deviation = noise / (size as f64).sqrt();
    let own = image.iter().enumerate();
    own.map(|(d, &x)| match spoilt {
        Spoilt::HalfHidden => {
            if d < size / 2 {
                x
            } else {
                0.0
            }
        }
        Spoilt::Noisy => x + (deviation * random.normal()) as f32,
    })
    .collect()
}

/// What one seed found for one N: shares per way of spoiling and β, and what the theory says per β.
struct Run {
    shares: [Vec<[f64; 5]>; 2],
    certain: Vec<f64>,
    largest_gap: Vec<f64>,
    least: f64,
    median: f64,
}

fn run_one(images: &Array2<f32>, config: &Config, stored: usize, seed: u64) -> Outcome<Run> {
    let mut random = Random::new(seed, stored as u32);
    let chosen = random.choose(images.nrows(), stored);
    let patterns = images.select(Dimension(0), &chosen);
    let width = patterns.ncols();
    let patterns = patterns.insert_axis(Dimension(0)).insert_axis(Dimension(0));
    let asked = random.choose(stored, config.asked.min(stored));
    let image = |i: usize| patterns.slice(s![0, 0, i, ..]);
    let unspoilt: Vec<f32> = asked.iter().flat_map(|&i| image(i).to_vec()).collect();
    let starts = [Spoilt::HalfHidden, Spoilt::Noisy].map(|spoilt| -> Vec<f32> {
        let spoil = |&i: &usize| spoil(image(i), spoilt, config.noise, &mut random);
        asked.iter().flat_map(spoil).collect()
    });

    // The patterns are compared once, and every β asks for its own separation of them.
    let heads = Hopfield::new(patterns.view(), &config.beta, (config.beta.len(), asked.len()))?;
    let separation = heads.separation()?;
    let sufficient = separation.is_sufficient();
    let mut gaps: Vec<f64> = separation.of_pattern.iter().map(|&gap| f64::from(gap)).collect();
    gaps.sort_by(f64::total_cmp);
    let mut run = Run {
        shares: [Vec::new(), Vec::new()],
        certain: Vec::new(),
        largest_gap: Vec::new(),
        least: gaps[0],
        median: gaps[gaps.len() / 2],
    };
    let engine = FixedPoint {
        tolerance: config.tolerance,
        max_steps: config.steps,
        ..FixedPoint::default()
    };
    for (h, &beta) in config.beta.iter().enumerate() {
        let network = Hopfield::new(patterns.view(), &[beta], (1, asked.len()))?;
        let certain = sufficient.slice(s![0, h, ..]);
        run.certain.push(certain.iter().filter(|&&yes| yes).count() as f64 / stored as f64);
        // What the theory promises: a state that starts at a certain image stays within the radius.
        let mut largest = 0.0f64;
        if asked.iter().any(|&i| certain[i]) {
            let held = engine.solve(&Exact(&network), &unspoilt)?;
            for (z, &i) in held.z.chunks(width).zip(&asked).filter(|(_, i)| certain[**i]) {
                let gap: f32 = z.iter().zip(image(i)).map(|(z, x)| (z - x).powi(2)).sum();
                largest = largest.max(f64::from(gap.sqrt() / separation.radius[[0, h]]));
            }
        }
        run.largest_gap.push(largest);
        for (shares, start) in run.shares.iter_mut().zip(&starts) {
            let first = network.retrieval(&network.maximise(start)?.next)?;
            let solution = engine.solve(&Exact(&network), start)?;
            let last = network.retrieval(&solution.z)?;
            let (at_first, at_last) = (first.settled(), last.settled());
            let mut counts = [0.0; 5];
            for (n, &i) in asked.iter().enumerate() {
                let at = [0, 0, n];
                let on_pattern = at_last[at] == Settled::Pattern;
                let right = last.pattern[at] == i as i64;
                let at_once = at_first[at] == Settled::Pattern && first.pattern[at] == i as i64;
                for (count, yes) in counts.iter_mut().zip([
                    on_pattern && right,
                    on_pattern && !right,
                    !on_pattern,
                    at_once,
                ]) {
                    *count += f64::from(u8::from(yes));
                }
                counts[4] += solution.steps[n] as f64;
            }
            shares.push(counts.map(|count| count / asked.len() as f64));
        }
    }
    Ok(run)
}

pub fn run(path: &Path) -> Outcome<()> {
    let config: Config = read_config(path)?;
    let most = config.stored.iter().copied().max().ok_or("no number of stored images")?;
    // More than are stored, so that seeds choose among them.
    let images = normalised(&data::mnist((2 * most).clamp(20_000, 50_000))?);
    let (mut entries, mut separation) = (Vec::new(), Vec::new());
    for &stored in &config.stored {
        let mut runs = Vec::new();
        for &seed in &config.seeds {
            runs.push(run_one(&images, &config, stored, seed)?);
        }
        let over_seeds =
            |of: &dyn Fn(&Run) -> f64| Spread::of(&runs.iter().map(of).collect::<Vec<_>>());
        let median = over_seeds(&|run| run.median);
        separation.push(Separation { stored, least: over_seeds(&|run| run.least), median });
        for (which, spoilt) in [Spoilt::HalfHidden, Spoilt::Noisy].into_iter().enumerate() {
            for (h, &beta) in config.beta.iter().enumerate() {
                let share = |field: usize| over_seeds(&|run| run.shares[which][h][field]);
                entries.push(Entry {
                    stored,
                    beta,
                    spoilt,
                    retrieved: share(0),
                    mistaken: share(1),
                    metastable: share(2),
                    in_one_step: share(3),
                    steps: share(4),
                    certain: over_seeds(&|run| run.certain[h]),
                    largest_gap: runs.iter().fold(0.0, |a: f64, run| a.max(run.largest_gap[h])),
                });
            }
        }
        println!("N = {stored}: median Δ {:.3}", median.mean);
        for entry in entries.iter().filter(|e| e.stored == stored) {
            println!(
                "  {} β = {:>3}: retrieved {:.3} ± {:.3}, between {:.3}, mistaken {:.3}, steps {:.1}, certain {:.3}",
                match entry.spoilt {
                    Spoilt::HalfHidden => "half hidden",
                    Spoilt::Noisy => "noisy      ",
                },
                entry.beta,
                entry.retrieved.mean,
                entry.retrieved.deviation,
                entry.metastable.mean,
                entry.mistaken.mean,
                entry.steps.mean,
                entry.certain.mean
            );
        }
    }
    let results = Results { config, entries, separation };
    write(path, "picture.svg", &picture(&results))?;
    write(path, "results.json", &(serde_json::to_string_pretty(&results)? + "\n"))
}

fn picture(results: &Results) -> String {
    let config = &results.config;
    let beta_axis = || Axis {
        name: "inverse temperature β".into(),
        logarithmic: true,
        from: config.beta.iter().copied().fold(f64::INFINITY, f64::min),
        to: config.beta.iter().copied().fold(0.0, f64::max),
        ticks: config.beta.iter().copied().step_by(2).collect(),
    };
    let lines = |spoilt: Spoilt, style: Style, of: &dyn Fn(&Entry) -> Spread| -> Vec<Line> {
        let by_count = config.stored.iter().enumerate();
        by_count
            .map(|(colour, &stored)| Line {
                name: match style {
                    // One name for all of them in the legend.
                    Style::Dashed if colour == 0 => {
                        "dashed: stored for certain, by the theory".to_owned()
                    }
                    Style::Dashed => String::new(),
                    _ => format!("N = {stored}"),
                },
                points: results
                    .entries
                    .iter()
                    .filter(|e| e.spoilt == spoilt && e.stored == stored)
                    .map(|e| (e.beta, of(e).mean, of(e).deviation))
                    .collect(),
                colour,
                style,
            })
            .collect()
    };
    let share = || Axis {
        name: "share of images".into(),
        logarithmic: false,
        from: 0.0,
        to: 1.0,
        ticks: vec![0.0, 0.25, 0.5, 0.75, 1.0],
    };
    let slowest = results.entries.iter().map(|e| e.steps.mean).fold(1.0, f64::max);
    let steps = || Axis {
        name: "steps until it stands still".into(),
        logarithmic: true,
        from: 1.0,
        to: slowest * 1.2,
        ticks: [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]
            .into_iter()
            .filter(|&tick| tick <= slowest)
            .collect(),
    };
    let success = |spoilt, title: &str| {
        let mut all = lines(spoilt, Style::Solid, &|e| e.retrieved);
        all.extend(lines(spoilt, Style::Dashed, &|e| e.certain));
        Chart { title: title.into(), x: beta_axis(), y: share(), lines: all }
    };
    let time = |spoilt, title: &str| Chart {
        title: title.into(),
        x: beta_axis(),
        y: steps(),
        lines: lines(spoilt, Style::Solid, &|e| e.steps),
    };
    draw(
        &[
            success(Spoilt::HalfHidden, "Retrieved from the upper half"),
            success(Spoilt::Noisy, &format!("Retrieved from noise of length {}", config.noise)),
            time(Spoilt::HalfHidden, "Steps, from the upper half"),
            time(Spoilt::Noisy, "Steps, from noise"),
        ],
        2,
        &[],
    )
}
