//! One run: both directions of a structure, learned from the verses of a seed and measured on the others.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::anchors::{Link, names, numbers, small_words};
use super::bible::{Counts, Pair, Parallel};
use super::corpus::{Corpus, Direction, Split};
use super::learning::{self, Learned, Step, learn};
use super::measure::{Anchors, AnchorsFound, Measured, alignments, links, measure};
use super::structure::{Kind, Structure};
use crate::Outcome;

/// Settings of the experiment.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    pub seeds: Vec<u64>,
    pub structures: Vec<Kind>,
    /// Runs at a time, each on one thread.
    pub threads: NonZeroUsize,
    /// Words of the longest verses that are read.
    pub longest: usize,
    /// Verses that are learned from, if there are so many, and that are held out.
    pub learned: usize,
    pub held_out: usize,
    /// Times that a word must be seen to be told apart.
    pub known: usize,
    /// Translations that a held-out verse is compared with, its own among them.
    pub candidates: usize,
    /// The verse that is drawn, which no run learns from.
    pub shown: String,
    pub learning: learning::Settings,
}

impl Config {
    /// Refuses settings that there is nothing to do with.
    pub fn check(&self) -> Outcome<()> {
        let learning::Settings { null, prior, .. } = self.learning;
        let wrong = [
            (
                self.seeds.is_empty() || self.structures.is_empty(),
                "`seeds` and `structures`: name one at least",
            ),
            (self.learned == 0, "`learned`: there is a verse at least to learn from"),
            (self.longest == 0, "`longest`: a verse has a word at least"),
            (self.candidates < 2, "`candidates`: there are two at least to choose from"),
            (!(null > 0.0 && null < 1.0), "`null`: a probability between 0 and 1"),
            // Without a prior, words that were never seen together would be impossible.
            (!(prior > 0.0 && prior < f64::INFINITY), "`prior`: a number of counts above 0"),
        ];
        match wrong.iter().find(|(is_wrong, _)| *is_wrong) {
            Some((_, message)) => Err((*message).into()),
            None => Ok(()),
        }
    }
}

/// One direction of a run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct OneWay {
    /// Words that are told apart, of the language that explains and of the other.
    pub words: (usize, usize),
    pub first: Vec<Step>,
    pub steps: Vec<Step>,
    /// Held-out bits per target word in the end, by the pass that learning reports.
    pub held_out: f64,
    pub measured: Measured,
    /// Of the diagonal prior.
    pub tension: Option<f64>,
    /// Of chains: weights of jumps from −5 to 5, relative to their sum.
    pub jumps: Option<Vec<f64>>,
    pub shown: Shown,
}

/// The alignment of the verse that is drawn.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Shown {
    /// P(target word picks source word), by target word; the null word comes last.
    pub marginals: Vec<Vec<f64>>,
    pub best: Vec<Option<usize>>,
}

/// Links of both directions together.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Agreement {
    /// Links of either direction, and those of both.
    pub links: [usize; 2],
    pub shared: usize,
    /// Anchors among the links of both directions, and of any.
    pub intersection: AnchorsFound,
    pub union: AnchorsFound,
}

impl Agreement {
    fn of(links: &[Vec<BTreeSet<Link>>; 2], anchors: &Anchors) -> Self {
        let pairs = || links[0].iter().zip(&links[1]);
        let both: Vec<BTreeSet<Link>> = pairs().map(|(a, b)| a & b).collect();
        let any: Vec<BTreeSet<Link>> = pairs().map(|(a, b)| a | b).collect();
        let count = |all: &[BTreeSet<Link>]| all.iter().map(BTreeSet::len).sum();
        Self {
            links: [count(&links[0]), count(&links[1])],
            shared: count(&both),
            intersection: AnchorsFound::of(anchors, &both),
            union: AnchorsFound::of(anchors, &any),
        }
    }

    /// Twice the links of both directions over all links of either.
    pub fn f1(&self) -> f64 {
        2.0 * self.shared as f64 / self.links.iter().sum::<usize>().max(1) as f64
    }
}

/// Both directions of a structure and seed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Run {
    pub structure: Kind,
    pub seed: u64,
    /// Verses that were learned from, and held out.
    pub verses: (usize, usize),
    pub seconds: f64,
    /// Spanish given English, and English given Spanish.
    pub ways: [OneWay; 2],
    pub agreement: Agreement,
}

/// Verses in both languages, as all runs read them.
pub struct Prepared {
    pub pairs: Vec<Pair>,
    pub counts: Counts,
    small: BTreeSet<String>,
    /// Place of the verse that is drawn.
    pub shown: usize,
}

impl Prepared {
    pub fn new(config: &Config, parallel: Parallel) -> Outcome<Self> {
        let Parallel { pairs, counts } = parallel;
        let shown = pairs.iter().position(|pair| pair.reference.to_string() == config.shown);
        let shown =
            shown.ok_or_else(|| format!("`shown`: no verse that is read is {}", config.shown))?;
        if config.held_out + 1 >= pairs.len() {
            let all = pairs.len();
            return Err(format!(
                "`held-out`: {} of {all} verses leave none to learn from",
                config.held_out
            )
            .into());
        }
        Ok(Self { small: small_words(&pairs), pairs, counts, shown })
    }
}

/// Learns both directions of a structure, and measures them on the verses that a seed holds out.
pub fn learn_and_measure(config: &Config, data: &Prepared, kind: Kind, seed: u64) -> Outcome<Run> {
    let begin = Instant::now();
    let split = Split::draw(data.pairs.len(), (config.learned, config.held_out), data.shown, seed);
    let held_out = || split.held_out.iter().map(|&verse| &data.pairs[verse]);
    let anchors = Anchors {
        names: held_out().map(|pair| names(pair, &data.small)).collect(),
        numbers: held_out().map(numbers).collect(),
    };
    let way = |direction: Direction| -> Outcome<(OneWay, Vec<BTreeSet<Link>>)> {
        let corpus = Corpus::new(&data.pairs, &split, direction, config.known);
        let Learned { model, first, steps, held_out } =
            learn(kind, &corpus, config.longest, &config.learning)?;
        let found = alignments(&model, &corpus.held_out)?;
        let links = links(direction, &found);
        let own = AnchorsFound::of(&anchors, &links);
        let measured = measure(&model, &corpus.held_out, &found, config.candidates, own)?;
        let shown = split.held_out.iter().position(|&verse| verse == data.shown);
        let shown = &found[shown.expect("what is shown is held out")];
        let way = OneWay {
            words: (corpus.source.len(), corpus.target.len()),
            first,
            steps,
            held_out,
            measured,
            tension: match &model.structure {
                Structure::Diagonal(diagonal) => Some(diagonal.tension),
                _ => None,
            },
            jumps: match &model.structure {
                Structure::Chain(jumps, _) => Some(jumps.nearest(5)),
                _ => None,
            },
            shown: Shown {
                marginals: shown.marginals.outer_iter().map(|row| row.to_vec()).collect(),
                best: shown.best.clone(),
            },
        };
        Ok((way, links))
    };
    let [(to_spanish, first), (to_english, second)] =
        [way(Direction::ToSpanish)?, way(Direction::ToEnglish)?];
    Ok(Run {
        structure: kind,
        seed,
        verses: (split.learned.len(), split.held_out.len()),
        seconds: begin.elapsed().as_secs_f64(),
        ways: [to_spanish, to_english],
        agreement: Agreement::of(&[first, second], &anchors),
    })
}
