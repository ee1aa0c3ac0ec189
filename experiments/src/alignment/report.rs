//! The comparison as tables, pictures and data.

use std::fmt::Write;

use serde::Serialize;

use super::anchors::Found;
use super::bible::{Counts, Pair};
use super::corpus::Direction;
use super::grid::{self, Grid};
use super::measure::AnchorsFound;
use super::runs::{Config, OneWay, Prepared, Run};
use super::structure::Kind;
use crate::picture::{Axis, Chart, Line, Points, Style, draw, span};
use crate::{Outcome, Spread};

/// Precision and recall, over seeds.
#[derive(Clone, Copy, Serialize)]
struct Anchored {
    precision: Spread,
    recall: Spread,
}

/// One direction of a structure, over seeds.
#[derive(Serialize)]
struct Entry {
    structure: Kind,
    direction: &'static str,
    bits: Spread,
    /// Less than under the uniform structure, seed by seed.
    gain: Option<Spread>,
    wrong: Spread,
    ranked: Spread,
    entropy: Spread,
    nulls: Spread,
    names: Anchored,
    numbers: Anchored,
    tension: Option<Spread>,
}

/// Both directions of a structure, over seeds.
#[derive(Serialize)]
struct Both {
    structure: Kind,
    f1: Spread,
    /// Of the links of both directions.
    names: Anchored,
    numbers: Anchored,
}

/// Everything that was found.
#[derive(Serialize)]
pub struct Results {
    config: Config,
    verses: Counts,
    entries: Vec<Entry>,
    both: Vec<Both>,
    runs: Vec<Run>,
}

/// One finished run.
pub fn line(run: &Run) -> String {
    let way = |way: &OneWay| {
        let measured = &way.measured;
        format!("{:.3} bits, ranked {:.3}", measured.bits, measured.ranked)
    };
    format!(
        "{} (seed {}): {:.0} s; {}: {}; {}: {}; agreement {:.3}",
        run.structure.name(),
        run.seed,
        run.seconds,
        Direction::ALL[0].name(),
        way(&run.ways[0]),
        Direction::ALL[1].name(),
        way(&run.ways[1]),
        run.agreement.f1()
    )
}

fn percent(spread: Spread) -> String {
    format!("{:.1} ± {:.1}", 100.0 * spread.mean, 100.0 * spread.deviation)
}

fn number(spread: Spread) -> String {
    format!("{:.3} ± {:.3}", spread.mean, spread.deviation)
}

impl Results {
    pub fn new(config: Config, data: &Prepared, mut runs: Vec<Run>) -> Self {
        let place = |run: &Run| config.structures.iter().position(|&s| s == run.structure);
        runs.sort_by_key(|run| (place(run), run.seed));
        let pairs =
            config.structures.iter().flat_map(|&structure| [(structure, 0), (structure, 1)]);
        let entries = pairs.map(|(structure, way)| Entry::of(structure, way, &runs)).collect();
        let both = config.structures.iter().map(|&structure| Both::of(structure, &runs)).collect();
        Self { verses: data.counts, config, entries, both, runs }
    }

    /// In Markdown: both directions, and what they agree on.
    pub fn tables(&self) -> String {
        let Counts { verses, doubtful_chapters, following_chapters, in_those, longer, kept } =
            self.verses;
        let chapters = format!("in {doubtful_chapters} + {following_chapters} doubtful chapters");
        let mut text = "| | verses |\n|---|--:|\n".to_owned();
        for (name, count) in [
            ("in both", verses),
            (chapters.as_str(), in_those),
            ("of more words", longer),
            ("left", kept),
        ] {
            let _ = writeln!(text, "| {name} | {count} |");
        }
        text.push('\n');
        text.push_str(
            "| direction | structure | bits per word | less than `uniform` | bits under others | \
             ranked first (%) | entropy | no word (%) |\n|---|---|---|---|---|---|---|---|\n",
        );
        let ways = Direction::ALL.map(Direction::name);
        for entry in ways.iter().flat_map(|way| self.entries.iter().filter(|e| e.direction == *way))
        {
            let _ = writeln!(
                text,
                "| {} | `{}` | {} | {} | {} | {} | {} | {} |",
                entry.direction,
                entry.structure.name(),
                number(entry.bits),
                entry.gain.map_or_else(String::new, number),
                number(entry.wrong),
                percent(entry.ranked),
                number(entry.entropy),
                percent(entry.nulls),
            );
        }
        text.push_str(
            "\n| structure | agreement (%) | links | names: precision | recall | numbers: precision | recall |\n\
             |---|---|---|---|---|---|---|\n",
        );
        for both in &self.both {
            let own = self.entries.iter().filter(|entry| entry.structure == both.structure);
            let rows = own.map(|entry| (entry.direction, entry.names, entry.numbers));
            for (links, names, numbers) in rows.chain([("both", both.names, both.numbers)]) {
                let _ = writeln!(
                    text,
                    "| `{}` | {} | {links} | {} | {} | {} | {} |",
                    both.structure.name(),
                    if links == "both" { percent(both.f1) } else { String::new() },
                    percent(names.precision),
                    percent(names.recall),
                    percent(numbers.precision),
                    percent(numbers.recall),
                );
            }
        }
        for entry in &self.entries {
            if let Some(tension) = entry.tension {
                let _ = writeln!(text, "\ntension, {}: {}", entry.direction, number(tension));
            }
        }
        text
    }

    /// Held-out bits by step of EM, and agreement against bits.
    pub fn picture(&self) -> String {
        let lines = |points: &dyn Fn(Kind) -> Points, style: Style| -> Vec<Line> {
            let line = |(colour, &structure): (usize, &Kind)| Line {
                name: structure.name().to_owned(),
                points: points(structure),
                colour,
                style,
            };
            self.config.structures.iter().enumerate().map(line).collect()
        };
        let axis = |name: &str, (from, to, ticks): (f64, f64, Vec<f64>)| Axis {
            name: name.into(),
            logarithmic: false,
            from,
            to,
            ticks,
        };
        let settings = &self.config.learning;
        let last = settings.first_steps + settings.steps;
        let steps = || {
            let ticks = (BEGIN..=last).map(|step| step as f64).collect();
            axis("steps of EM", (BEGIN as f64, last as f64, ticks))
        };
        let mut charts: Vec<Chart> = Direction::ALL
            .iter()
            .enumerate()
            .map(|(way, direction)| {
                let lines = lines(&|structure| self.course(structure, way), Style::Solid);
                let bits = axis("held-out bits per word", span(&lines, false));
                Chart { title: direction.name().into(), x: steps(), y: bits, lines }
            })
            .collect();
        let agreement = |structure: Kind| -> Points {
            let own = self.both.iter().filter(|both| both.structure == structure);
            let of = |both: &Both| (self.mean_bits(structure), both.f1.mean, both.f1.deviation);
            own.map(of).collect()
        };
        let marks = lines(&agreement, Style::Marks);
        let across = |(x, y, _): &(f64, f64, f64)| (*y, *x, 0.0);
        let turned: Vec<Line> = (marks.iter())
            .map(|line| Line {
                name: String::new(),
                points: line.points.iter().map(across).collect(),
                colour: 0,
                style: Style::Marks,
            })
            .collect();
        charts.push(Chart {
            title: "Agreement of the directions".into(),
            x: axis("held-out bits per word, mean of both", span(&turned, false)),
            y: axis("F1 of their links", span(&marks, false)),
            lines: marks,
        });
        draw(&charts, charts.len(), &[])
    }

    /// Held-out bits of one direction after so many steps, over seeds.
    fn course(&self, structure: Kind, way: usize) -> Points {
        let runs: Vec<&OneWay> = self
            .runs
            .iter()
            .filter(|run| run.structure == structure)
            .map(|run| &run.ways[way])
            .collect();
        let bits = |way: &OneWay| -> Vec<f64> {
            let steps = way.first.iter().chain(&way.steps).map(|step| step.held_out);
            steps.chain([way.held_out]).collect()
        };
        let all: Vec<Vec<f64>> = runs.into_iter().map(bits).collect();
        let places = 0..all.first().map_or(0, Vec::len);
        let point = |place: usize| {
            let found = Spread::of(&all.iter().map(|own| own[place]).collect::<Vec<_>>());
            (place as f64, found.mean, found.deviation)
        };
        places.skip(BEGIN).map(point).collect()
    }

    fn mean_bits(&self, structure: Kind) -> f64 {
        let own = self.entries.iter().filter(|entry| entry.structure == structure);
        let bits: Vec<f64> = own.map(|entry| entry.bits.mean).collect();
        Spread::of(&bits).mean
    }

    /// The verse that is drawn, under the uniform structure and the chain, or those there are.
    pub fn verse(&self, pair: &Pair) -> Outcome<String> {
        let of = |structure| self.runs.iter().find(|run| run.structure == structure);
        let mut runs: Vec<&Run> = [Kind::Uniform, Kind::Chain].into_iter().filter_map(of).collect();
        if runs.is_empty() {
            runs.extend(self.runs.first());
        }
        let mut grids = Vec::new();
        for run in runs {
            let title = format!("{} under {}", pair.reference, run.structure.structure());
            grids.push(Grid { title, shown: &run.ways[0].shown });
        }
        if grids.is_empty() {
            return Err("no run".into());
        }
        let forms = |words: &'_ [super::markup::Word]| -> Vec<String> {
            words.iter().map(|word| word.form.clone()).collect()
        };
        let (english, spanish) = (forms(&pair.english), forms(&pair.spanish));
        let [english, spanish] =
            [&english, &spanish].map(|forms| forms.iter().map(String::as_str).collect::<Vec<_>>());
        Ok(grid::draw(&grids, &english, &spanish))
    }
}

/// Steps of EM that are not drawn: before the second, words are as good as not told apart.
const BEGIN: usize = 2;

impl Anchored {
    fn of(found: impl Iterator<Item = Found>) -> Self {
        let found: Vec<Found> = found.collect();
        let spread =
            |of: &dyn Fn(&Found) -> f64| Spread::of(&found.iter().map(of).collect::<Vec<_>>());
        Self { precision: spread(&Found::precision), recall: spread(&Found::recall) }
    }
}

impl Entry {
    fn of(structure: Kind, way: usize, runs: &[Run]) -> Self {
        let own = || runs.iter().filter(|run| run.structure == structure);
        let spread = |of: &dyn Fn(&OneWay) -> f64| {
            Spread::of(&own().map(|run| of(&run.ways[way])).collect::<Vec<_>>())
        };
        let gain = |run: &Run| {
            if structure == Kind::Uniform {
                return None;
            }
            let is_same = |other: &&Run| other.structure == Kind::Uniform && other.seed == run.seed;
            let same = runs.iter().find(is_same)?;
            Some(same.ways[way].measured.bits - run.ways[way].measured.bits)
        };
        let gains: Vec<f64> = own().filter_map(gain).collect();
        let tensions: Vec<f64> = own().filter_map(|run| run.ways[way].tension).collect();
        let anchored = |of: &dyn Fn(&AnchorsFound) -> Found| {
            Anchored::of(own().map(|run| of(&run.ways[way].measured.anchors)))
        };
        Self {
            structure,
            direction: Direction::ALL[way].name(),
            bits: spread(&|own| own.measured.bits),
            gain: (!gains.is_empty()).then(|| Spread::of(&gains)),
            wrong: spread(&|own| own.measured.wrong),
            ranked: spread(&|own| own.measured.ranked),
            entropy: spread(&|own| own.measured.entropy),
            nulls: spread(&|own| own.measured.nulls),
            names: anchored(&|found| found.names),
            numbers: anchored(&|found| found.numbers),
            tension: (!tensions.is_empty()).then(|| Spread::of(&tensions)),
        }
    }
}

impl Both {
    fn of(structure: Kind, runs: &[Run]) -> Self {
        let own = || runs.iter().filter(|run| run.structure == structure);
        let shared = || own().map(|run| run.agreement.intersection);
        Self {
            structure,
            f1: Spread::of(&own().map(|run| run.agreement.f1()).collect::<Vec<_>>()),
            names: Anchored::of(shared().map(|found| found.names)),
            numbers: Anchored::of(shared().map(|found| found.numbers)),
        }
    }
}
