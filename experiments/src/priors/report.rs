//! The comparison as a table, a picture and data.

use std::fmt::Write;

use serde::Serialize;

use super::{Config, Run};
use crate::Spread;
use crate::picture::{Axis, Chart, Line, Points, Style, draw, span};

/// Bits per byte above those at the shortest length, from which on a model has fallen apart.
const FALLEN_APART: f64 = 0.05;

/// What one way to say positions comes to, over seeds.
#[derive(Serialize)]
struct Entry {
    name: String,
    weights: usize,
    trained: Spread,
    /// By length.
    bits: Vec<(usize, Spread)>,
    /// By bytes behind a query: entropy in nats, expected distance in bytes.
    reach: Vec<(usize, Spread, Spread)>,
}

/// Everything that was found.
#[derive(Serialize)]
pub struct Results {
    config: Config,
    entries: Vec<Entry>,
    runs: Vec<Run>,
}

/// One finished run.
pub fn line(run: &Run) -> String {
    let bits = run.measured.bits.iter().map(|(length, bits)| format!("{length}: {bits:.3}"));
    let bits: Vec<String> = bits.collect();
    format!(
        "{} (seed {}): {:.0} s, trained {:.3} bits, held out {}",
        run.name,
        run.seed,
        run.seconds,
        run.trained,
        bits.join(", ")
    )
}

impl Results {
    pub fn new(config: Config, mut runs: Vec<Run>) -> Self {
        let place = |run: &Run| config.positions.iter().position(|p| p.name == run.name);
        runs.sort_by_key(|run| (place(run), run.seed));
        let entries = config.positions.iter().map(|position| {
            let own: Vec<&Run> = runs.iter().filter(|run| run.name == position.name).collect();
            let spread = |of: &dyn Fn(&Run) -> f64| {
                Spread::of(&own.iter().map(|run| of(run)).collect::<Vec<_>>())
            };
            let (bits, reach) = (&own[0].measured.bits, &own[0].measured.reach);
            let bits = (0..bits.len()).map(|i| (bits[i].0, spread(&|run| run.measured.bits[i].1)));
            let reach = (0..reach.len()).map(|i| {
                let entropy = spread(&|run| run.measured.reach[i].entropy);
                (reach[i].from, entropy, spread(&|run| run.measured.reach[i].distance))
            });
            Entry {
                name: position.name.clone(),
                weights: own[0].weights,
                trained: spread(&|run| run.trained),
                bits: bits.collect(),
                reach: reach.collect(),
            }
        });
        let entries = entries.collect();
        Self { config, entries, runs }
    }

    /// Bits per byte by length, in Markdown.
    pub fn table(&self) -> String {
        let lengths = &self.config.lengths;
        let head: Vec<String> = lengths.iter().map(|length| format!("{length} bytes")).collect();
        let mut table = format!("| positions | {} |\n|---|", head.join(" | "));
        table.push_str(&"---|".repeat(lengths.len()));
        table.push('\n');
        for entry in &self.entries {
            let _ = write!(table, "| {} |", entry.name);
            for length in lengths {
                let found = entry.bits.iter().find(|(own, _)| own == length);
                let _ = match found {
                    Some((_, bits)) => write!(table, " {:.3} ± {:.3} |", bits.mean, bits.deviation),
                    None => write!(table, " – |"),
                };
            }
            table.push('\n');
        }
        table
    }

    pub fn picture(&self) -> String {
        let lines = |points: fn(&Entry) -> Points| -> Vec<Line> {
            let line = |(colour, entry): (usize, &Entry)| Line {
                name: entry.name.clone(),
                points: points(entry),
                colour,
                style: Style::Solid,
            };
            self.entries.iter().enumerate().map(line).collect()
        };
        let bits = lines(|entry| {
            entry.bits.iter().map(|(at, b)| (*at as f64, b.mean, b.deviation)).collect()
        });
        // What falls apart beyond the trained length hides the differences of the rest: of it only the
        // shortest length is kept.
        let near = lines(|entry| {
            let holds = |bits: &(usize, Spread)| bits.1.mean < entry.bits[0].1.mean + FALLEN_APART;
            let kept = if entry.bits.iter().all(holds) { entry.bits.len() } else { 1 };
            entry.bits[..kept].iter().map(|(at, b)| (*at as f64, b.mean, b.deviation)).collect()
        });
        let entropy = lines(|entry| {
            entry.reach.iter().map(|(at, e, _)| (*at as f64, e.mean, e.deviation)).collect()
        });
        let distance = lines(|entry| {
            entry.reach.iter().map(|(at, _, d)| (*at as f64, d.mean, d.deviation)).collect()
        });
        let behind = || {
            let longest = self.config.lengths.iter().copied().max().unwrap_or(1);
            let powers = (0..).map(|i| 1usize << i).take_while(|&at| at < longest);
            let ticks: Vec<f64> = powers.map(|at| at as f64).collect();
            Axis {
                name: "bytes behind the query".into(),
                logarithmic: true,
                from: 1.0,
                to: longest as f64 / 2.0,
                ticks: ticks.into_iter().step_by(2).collect(),
            }
        };
        let chart = |title: &str, x: Axis, y: &str, logarithmic: bool, lines: Vec<Line>| {
            let (from, to, ticks) = span(&lines, logarithmic);
            let y = Axis { name: y.into(), logarithmic, from, to, ticks };
            Chart { title: title.into(), x, y, lines }
        };
        let lengths = || Axis {
            name: "bytes of a window".into(),
            logarithmic: true,
            from: self.config.lengths.iter().copied().min().unwrap_or(1) as f64,
            to: self.config.lengths.iter().copied().max().unwrap_or(1) as f64,
            ticks: self.config.lengths.iter().map(|&length| length as f64).collect(),
        };
        let context = self.config.run.get("batches").and_then(|batches| batches.get("context"));
        let context = context.map_or(String::new(), |context| format!(", trained at {context}"));
        draw(
            &[
                chart(
                    &format!("Held-out text by length{context}"),
                    lengths(),
                    "bits per byte",
                    false,
                    bits,
                ),
                chart(
                    "The same, closer; circles go no further",
                    lengths(),
                    "bits per byte",
                    false,
                    near,
                ),
                chart("Entropy of attention", behind(), "nats", false, entropy),
                chart("Expected distance", behind(), "bytes", true, distance),
            ],
            2,
            &[],
        )
    }
}
