//! The comparison as tables, pictures and data.

use std::fmt::Write;

use serde::Serialize;

use super::arcs;
use super::conllu::Sentence;
use super::measure::Measured;
use super::metrics::{Counts, Reliability, is_projective};
use super::runs::{Config, Run};
use super::structure::Structure;
use super::treebank::Treebank;
use crate::picture::{Axis, Chart, Line, Points, Style, draw, span};
use crate::{Outcome, Spread};

/// A point of a chart, where there is something to take the mean of.
type Means = Option<(f64, f64)>;

/// Contents of one part of the treebank.
#[derive(Serialize)]
struct Part {
    sentences: usize,
    words: usize,
    /// Sentences whose edges cross.
    crossing: usize,
    /// Sentences longer than those that are learned from.
    longer: usize,
}

/// Parsers learned under one structure and read under one, over seeds.
#[derive(Serialize)]
struct Entry {
    learned: Structure,
    read: Structure,
    attachment: Spread,
    /// Gain over heads picked on their own, seed by seed.
    gain: Option<Spread>,
    attachment_between_words: Spread,
    /// In sentences whose edges cross.
    attachment_crossing: Spread,
    exact_match: Spread,
    root_accuracy: Spread,
    /// Share of the sentences whose heads are a tree with one root.
    trees: Spread,
    /// −log p(tree) per word, of sentences without crossing edges.
    nats: Spread,
    /// Expected calibration errors, of all edges and of the predicted ones.
    error_of_edges: Spread,
    error_of_predicted: Spread,
}

/// Everything that was found.
#[derive(Serialize)]
pub struct Results {
    config: Config,
    learned: Part,
    development: Part,
    held_out: Part,
    entries: Vec<Entry>,
    runs: Vec<Run>,
}

/// One finished run.
pub fn line(run: &Run) -> String {
    let of = |under: Structure| run.held_out.iter().find(|found| found.structure == under);
    let under = Structure::ALL.map(|structure| {
        let attachment = of(structure).map_or(f64::NAN, |found| found.counts.attachment());
        format!("{} {:.4}", structure.name(), attachment)
    });
    format!(
        "{} (seed {}): {:.0} s, {} steps, learned to {:.3} nats a word; development {:.4}; held out {}",
        run.structure.name(),
        run.seed,
        run.seconds,
        run.steps,
        run.losses.last().copied().unwrap_or(f64::NAN),
        run.development.counts.attachment(),
        under.join(", ")
    )
}

impl Results {
    pub fn new(config: Config, treebank: &Treebank, mut runs: Vec<Run>) -> Self {
        let place = |run: &Run| config.structures.iter().position(|&s| s == run.structure);
        runs.sort_by_key(|run| (place(run), run.seed));
        let part = |sentences: &[Sentence]| Part {
            sentences: sentences.len(),
            words: sentences.iter().map(|s| s.words.len()).sum(),
            crossing: sentences.iter().filter(|s| !is_projective(&s.heads())).count(),
            longer: sentences.iter().filter(|s| s.words.len() > config.training.longest).count(),
        };
        let pairs = config.structures.iter().flat_map(|&l| Structure::ALL.map(|read| (l, read)));
        let entries = pairs.map(|(learned, read)| Entry::of(learned, read, &runs)).collect();
        Self {
            learned: part(&treebank.learned),
            development: part(&treebank.development),
            held_out: part(&treebank.held_out),
            config,
            entries,
            runs,
        }
    }

    /// Entries of parsers that are read under the structure they were learned with.
    fn own(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.learned == entry.read)
    }

    /// In Markdown: what there is to learn from, parsers under their own structure, and under the others'.
    pub fn tables(&self) -> String {
        let mut text = "| | sentences | words | with crossing edges | longer |\n".to_owned();
        text.push_str("|---|--:|--:|--:|--:|\n");
        for (name, part) in [
            ("learned from", &self.learned),
            ("development", &self.development),
            ("held out", &self.held_out),
        ] {
            let Part { sentences, words, crossing, longer } = part;
            let _ = writeln!(text, "| {name} | {sentences} | {words} | {crossing} | {longer} |");
        }
        text.push_str(
            "\n| structure | attachment | gain | between words | exact match | root | trees \
             | nats per word | calibration error of predicted edges | of all edges |\n\
             |---|---|---|---|---|---|---|---|---|---|\n",
        );
        let percent = |spread: Spread| {
            format!("{:.2} ± {:.2}", 100.0 * spread.mean, 100.0 * spread.deviation)
        };
        for entry in self.own() {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {:.4} ± {:.4} | {} | {} |",
                entry.learned.name(),
                percent(entry.attachment),
                entry.gain.map_or_else(String::new, percent),
                percent(entry.attachment_between_words),
                percent(entry.exact_match),
                percent(entry.root_accuracy),
                percent(entry.trees),
                entry.nats.mean,
                entry.nats.deviation,
                percent(entry.error_of_predicted),
                percent(entry.error_of_edges),
            );
        }
        let names = Structure::ALL.map(|structure| format!("read as {}", structure.name()));
        let _ = writeln!(text, "\n| learned as | {} |\n|---|---|---|---|", names.join(" | "));
        for row in self.entries.chunks(Structure::ALL.len()) {
            let cells: Vec<String> = row
                .iter()
                .map(|entry| {
                    let (all, crossing) = (entry.attachment, entry.attachment_crossing);
                    format!("{} (crossing: {})", percent(all), percent(crossing))
                })
                .collect();
            let _ = writeln!(text, "| {} | {} |", row[0].learned.name(), cells.join(" | "));
        }
        text
    }

    /// Attachment scores by length, and how often edges of a probability are true.
    pub fn picture(&self) -> String {
        let own: Vec<&Entry> = self.own().collect();
        let lines = |points: &dyn Fn(Structure) -> Points| -> Vec<Line> {
            let line = |(colour, entry): (usize, &&Entry)| Line {
                name: entry.learned.name().to_owned(),
                points: points(entry.learned),
                colour,
                style: Style::Solid,
            };
            own.iter().enumerate().map(line).collect()
        };
        let by_length = lines(&|structure| {
            self.over_runs(structure, &|found| {
                let of = |counts: &Counts| {
                    let words = counts.words as f64 / counts.sentences.max(1) as f64;
                    (counts.sentences > 0).then(|| (words, counts.attachment()))
                };
                found.by_length.iter().map(of).collect()
            })
        });
        let reliability = |bins: &dyn Fn(&Measured) -> &Reliability| {
            let mut lines = lines(&|structure| {
                self.over_runs(structure, &|found| {
                    bins(found).bins.iter().map(|bin| bin.means()).collect()
                })
            });
            lines.push(Line {
                name: String::new(),
                points: vec![(0.0, 0.0, 0.0), (1.0, 1.0, 0.0)],
                colour: 6,
                style: Style::Dashed,
            });
            lines
        };
        let unit = |name: &str| Axis {
            name: name.into(),
            logarithmic: false,
            from: 0.0,
            to: 1.0,
            ticks: vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
        };
        let (from, to, ticks) = span(&by_length, false);
        let longest = by_length.iter().flat_map(|line| &line.points).map(|point| point.0);
        let longest = longest.fold(10.0f64, f64::max);
        let charts = [
            Chart {
                title: "Attachment score by length of the sentence".into(),
                x: Axis {
                    name: "words of a sentence".into(),
                    logarithmic: false,
                    from: 0.0,
                    to: longest,
                    ticks: (0..=(longest / 10.0) as usize).map(|n| 10.0 * n as f64).collect(),
                },
                y: Axis {
                    name: "share of right heads".into(),
                    logarithmic: false,
                    from,
                    to,
                    ticks,
                },
                lines: by_length,
            },
            Chart {
                title: "Reliability of predicted edges".into(),
                x: unit("marginal probability"),
                y: unit("share that is true"),
                lines: reliability(&|found| &found.predicted),
            },
            Chart {
                title: "Reliability of all edges".into(),
                x: unit("marginal probability"),
                y: unit("share that is true"),
                lines: reliability(&|found| &found.edges),
            },
        ];
        draw(&charts, charts.len(), &[])
    }

    /// Points of a structure's line: means over its runs, with their deviations as bars.
    fn over_runs(&self, structure: Structure, points: &dyn Fn(&Measured) -> Vec<Means>) -> Points {
        let runs = self.runs.iter().filter(|run| run.structure == structure);
        let all: Vec<_> = runs.map(|run| points(run.under(structure))).collect();
        let places = 0..all.first().map_or(0, Vec::len);
        let point = |place: usize| {
            let found: Vec<(f64, f64)> = all.iter().filter_map(|own| own[place]).collect();
            let of = |value: &dyn Fn(&(f64, f64)) -> f64| {
                Spread::of(&found.iter().map(value).collect::<Vec<_>>())
            };
            let (x, y) = (of(&|point| point.0), of(&|point| point.1));
            (!found.is_empty()).then_some((x.mean, y.mean, y.deviation))
        };
        places.filter_map(point).collect()
    }

    /// The sentence that is shown, as the first parser of trees sees it; of the first of all, where none is
    /// of trees.
    pub fn tree(&self, sentence: &Sentence) -> Outcome<String> {
        let of_trees = |run: &&Run| run.structure == Structure::Arborescence;
        let run = self.runs.iter().find(of_trees).or(self.runs.first()).ok_or("no run")?;
        let title = format!("Edges under {}, with their probabilities", run.structure.name());
        Ok(arcs::draw(&title, sentence, &run.shown))
    }
}

impl Entry {
    fn of(learned: Structure, read: Structure, runs: &[Run]) -> Self {
        let own: Vec<&Run> = runs.iter().filter(|run| run.structure == learned).collect();
        let spread = |of: &dyn Fn(&Measured) -> f64| {
            Spread::of(&own.iter().map(|run| of(run.under(read))).collect::<Vec<_>>())
        };
        let attachment = |run: &Run, read| run.under(read).counts.attachment();
        let gain = |run: &&Run| {
            let alone = Structure::EachQueryPicksOne;
            let same =
                runs.iter().find(|other| other.structure == alone && other.seed == run.seed)?;
            Some(attachment(run, read) - attachment(same, alone))
        };
        let gains: Vec<f64> = own.iter().filter_map(gain).collect();
        Self {
            learned,
            read,
            attachment: spread(&|found| found.counts.attachment()),
            gain: (!gains.is_empty()).then(|| Spread::of(&gains)),
            attachment_between_words: spread(&|found| found.counts.attachment_between_words()),
            attachment_crossing: spread(&|found| found.crossing.attachment()),
            exact_match: spread(&|found| found.counts.exact_match()),
            root_accuracy: spread(&|found| found.counts.root_accuracy()),
            trees: spread(&|found| found.counts.tree_share()),
            nats: spread(&|found| found.nats),
            error_of_edges: spread(&|found| found.edges.expected_error()),
            error_of_predicted: spread(&|found| found.predicted.expected_error()),
        }
    }
}
