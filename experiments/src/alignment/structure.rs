//! Structures over the words of a verse: which alignments are possible, and what is known of them before the
//! words are seen.

use marginals::potential::Scores;
use marginals::prior::{Bias, Uniform};
use marginals::structure::{Chain, EachQueryPicksOne, MonotoneAlignment, Moves};
use marginals::{Model, Posterior};
use ndarray::{Array1, Array2, Array4, ArrayView2};
use serde::{Deserialize, Serialize};

use super::diagonal::Diagonal;
use super::jumps::Jumps;
use crate::Outcome;

/// How picks depend on each other, and what they depend on beside the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Every target word picks a source word on its own, all as likely: IBM model 1.
    Uniform,
    /// On its own, those about as far along the verse more likely: fast_align.
    Diagonal,
    /// A pick depends on the one before, by the jump between them: a hidden Markov model.
    Chain,
    /// Picks never go back.
    Monotone,
}

impl Kind {
    /// Name in settings and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Diagonal => "diagonal",
            Self::Chain => "chain",
            Self::Monotone => "monotone",
        }
    }

    /// Name of the library's structure.
    pub const fn structure(self) -> &'static str {
        match self {
            Self::Uniform | Self::Diagonal => "each-query-picks-one",
            Self::Chain => "chain",
            Self::Monotone => "monotone-alignment",
        }
    }
}

/// A structure with its numbers.
///
/// Target words are the queries. Keys are the m source words and null words, which stand for no word:
///
/// | structure | keys |
/// |---|---|
/// | uniform, diagonal | words, and one null word |
/// | chain | words, and m + 1 null words that remember the place of the word picked last (Och & Ney 2003) |
/// | monotone | words, with a null word before, between and after them |
#[derive(Clone, Debug, PartialEq)]
pub enum Structure {
    Uniform,
    Diagonal(Diagonal),
    /// Jumps, and the probability of a null word.
    Chain(Jumps, f64),
    Monotone,
}

/// Verses with equally many source words: log-potentials of each, [n, m + 1], the null word's last.
pub struct Batch<'l> {
    pub words: usize,
    pub verses: &'l [Array2<f64>],
}

impl Structure {
    /// How many keys there are beside `words` source words.
    pub fn keys(&self, words: usize) -> usize {
        match self {
            Self::Uniform | Self::Diagonal(_) => words + 1,
            Self::Chain(..) | Self::Monotone => 2 * words + 1,
        }
    }

    /// Source word of a key; `words` is the null word.
    pub fn word(&self, key: usize, words: usize) -> usize {
        match self {
            Self::Monotone if key % 2 == 1 => key / 2,
            Self::Monotone => words,
            _ => key.min(words),
        }
    }

    /// Numbers of a verse's keys, summed by word: [n, m + 1], the null word's last.
    pub fn by_word(&self, rows: ArrayView2<'_, f64>, words: usize) -> Array2<f64> {
        let mut sums = Array2::zeros((rows.nrows(), words + 1));
        for ((i, key), x) in rows.indexed_iter() {
            sums[[i, self.word(key, words)]] += x;
        }
        sums
    }

    /// The library's posterior of a batch, handed to a function that asks it.
    pub fn posterior<R>(
        &self,
        batch: &Batch<'_>,
        ask: impl FnOnce(&Posterior<'_, f64>) -> Outcome<R>,
    ) -> Outcome<R> {
        let (words, keys) = (batch.words, self.keys(batch.words));
        let lengths: Vec<usize> = batch.verses.iter().map(|verse| verse.nrows()).collect();
        let longest = lengths.iter().max().copied().unwrap_or(0);
        let shape = (batch.verses.len(), 1, longest, keys);
        // Words that are not there have scores of 0, and nobody reads what is found of them.
        let mut q = Array4::zeros(shape);
        for (verse, mut rows) in batch.verses.iter().zip(q.outer_iter_mut()) {
            for (row, mut scores) in verse.outer_iter().zip(rows.rows_mut()) {
                let word = |key: usize| row[self.word(key, words)];
                scores.iter_mut().enumerate().for_each(|(key, score)| *score = word(key));
            }
        }
        let k = Array4::zeros((batch.verses.len(), 1, keys, 0));
        match self {
            Self::Uniform => {
                let model = Model::new(EachQueryPicksOne, Uniform, Scores);
                ask(&model.posterior(q.view(), k.view())?)
            }
            Self::Diagonal(diagonal) => {
                let mut weights = Array4::zeros(shape);
                for (&n, mut rows) in lengths.iter().zip(weights.outer_iter_mut()) {
                    for (i, mut row) in rows.rows_mut().into_iter().take(n).enumerate() {
                        row.assign(&Array1::from(diagonal.log_weights(i, (n, words))));
                    }
                }
                let model = Model::new(EachQueryPicksOne, Bias::new(weights.view()), Scores);
                ask(&model.posterior(q.view(), k.view())?)
            }
            Self::Chain(jumps, null) => {
                let chain = Chain::new()
                    .with_transitions(transitions(jumps, *null, words).into_dyn())?
                    .with_start(Array1::from(row(jumps, *null, (0, words))).into_dyn())?
                    .with_lengths(&lengths);
                let model = Model::new(chain, Uniform, Scores);
                ask(&model.posterior(q.view(), k.view())?)
            }
            Self::Monotone => {
                let all = vec![keys; lengths.len()];
                let structure =
                    MonotoneAlignment::new(Moves::ForwardOrStay).with_lengths(&lengths, &all);
                let model = Model::new(structure, Uniform, Scores);
                ask(&model.posterior(q.view(), k.view())?)
            }
        }
    }
}

/// Place along a verse of `words` words that a key of a chain stands for: of a word its own, counted from 1;
/// of a null word that of the word picked last, 0 before any.
pub fn place(key: usize, words: usize) -> usize {
    if key < words { key + 1 } else { key - words }
}

/// log-probabilities of the next key from a place.
fn row(jumps: &Jumps, null: f64, (place, words): (usize, usize)) -> Vec<f64> {
    let mut row = vec![f64::NEG_INFINITY; 2 * words + 1];
    for (into, x) in row.iter_mut().zip(jumps.log_probabilities(place, words)) {
        *into = x + (-null).ln_1p();
    }
    row[words + place] = null.ln();
    row
}

/// log-probabilities of the next key (column) from every key (row).
fn transitions(jumps: &Jumps, null: f64, words: usize) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = (0..=words).map(|p| row(jumps, null, (p, words))).collect();
    let keys = 2 * words + 1;
    Array2::from_shape_fn((keys, keys), |(from, to)| rows[place(from, words)][to])
}
