//! EM: tables and structures learned from verses, by nothing but posterior expectations.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::corpus::{Corpus, Sentence};
use super::diagonal::{self, Diagonal};
use super::jumps::{self, Jumps};
use super::posterior::{batches, expect, log_evidence};
use super::structure::{Batch, Kind, Structure};
use super::table::Table;
use crate::Outcome;

/// Settings of learning.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Steps of EM under the uniform structure, which every other begins with.
    pub first_steps: usize,
    /// Further steps under the structure itself.
    pub steps: usize,
    /// Probability of the null word, where the structure has one of its own.
    pub null: f64,
    /// Counts that a prior of the table is worth for every source word, and of jumps for every jump.
    pub prior: f64,
}

/// One step of EM, by what was found before it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Step {
    /// Log-evidence of the verses that are learned from with the log-prior of what is learned, which EM
    /// raises, in nats.
    pub objective: f64,
    /// Bits per target word of the verses that are learned from.
    pub learned: f64,
    /// Bits per target word of those that are not.
    pub held_out: f64,
}

/// Model of the words of one language given those of the other.
pub struct Model {
    pub table: Table,
    pub structure: Structure,
}

/// Model that was learned, and how it went: first under the uniform structure, then under its own.
pub struct Learned {
    pub model: Model,
    pub first: Vec<Step>,
    pub steps: Vec<Step>,
    /// Held-out bits per target word in the end.
    pub held_out: f64,
}

/// Learns a table and a structure.
pub fn learn(kind: Kind, corpus: &Corpus, longest: usize, settings: &Settings) -> Outcome<Learned> {
    let frequencies = &corpus.target.log_frequency;
    let table = Table::new(&corpus.learned, corpus.source.len(), frequencies, settings.prior);
    let mut model = Model { table, structure: Structure::Uniform };
    let places: Vec<Array2<u32>> = corpus.learned.iter().map(|own| model.places(own)).collect();
    let first = model.steps(settings.first_steps, corpus, &places)?;
    model.structure = match kind {
        Kind::Uniform => Structure::Uniform,
        Kind::Diagonal => Structure::Diagonal(Diagonal::new(settings.null)),
        Kind::Chain => Structure::Chain(Jumps::new(longest, settings.prior), settings.null),
        Kind::Monotone => Structure::Monotone,
    };
    let steps = model.steps(settings.steps, corpus, &places)?;
    let held_out = model.bits(&corpus.held_out)?;
    Ok(Learned { model, first, steps, held_out })
}

/// Counts that a step of EM maximises under.
struct Counts {
    pairs: Vec<f64>,
    diagonal: diagonal::Statistics,
    jumps: jumps::Statistics,
    /// Of all verses, in nats.
    log_evidence: f64,
}

impl Model {
    /// Places of a verse's pairs in the table, [n, m + 1], the null word's last.
    fn places(&self, verse: &Sentence) -> Array2<u32> {
        let m = verse.source.len();
        Array2::from_shape_fn((verse.target.len(), m + 1), |(i, j)| {
            let source = verse.source.get(j).copied().unwrap_or(self.table.null());
            let place = self.table.place(source, verse.target[i]);
            place.expect("the table has all pairs of verses that are learned from") as u32
        })
    }

    /// Log-potentials of target words beside source words, [n, m + 1], the null word's last.
    pub fn potentials(&self, source: &[u32], target: &[u32]) -> Array2<f64> {
        Array2::from_shape_fn((target.len(), source.len() + 1), |(i, j)| {
            let source = source.get(j).copied().unwrap_or(self.table.null());
            self.table.log_probability(source, target[i])
        })
    }

    fn steps(
        &mut self,
        count: usize,
        corpus: &Corpus,
        places: &[Array2<u32>],
    ) -> Outcome<Vec<Step>> {
        let words: usize = corpus.learned.iter().map(|verse| verse.target.len()).sum();
        let step = |_| {
            let held_out = self.bits(&corpus.held_out)?;
            let counts = self.expectation(places)?;
            let objective = counts.log_evidence + self.log_prior();
            self.maximisation(&counts);
            let learned = -counts.log_evidence / (words.max(1) as f64 * std::f64::consts::LN_2);
            Ok(Step { objective, learned, held_out })
        };
        (0..count).map(step).collect()
    }

    /// Expected counts of all verses that are learned from, given by places of their pairs.
    fn expectation(&self, verses: &[Array2<u32>]) -> Outcome<Counts> {
        let mut counts = Counts {
            pairs: vec![0.0; self.table.len()],
            diagonal: diagonal::Statistics::default(),
            jumps: jumps::Statistics::default(),
            log_evidence: 0.0,
        };
        let sizes: Vec<(usize, usize)> =
            verses.iter().map(|v| (v.nrows(), v.ncols() - 1)).collect();
        for batch in batches(&sizes, &self.structure) {
            let words = sizes[batch[0]].1;
            let potentials =
                |&verse: &usize| verses[verse].mapv(|place| self.table.at(place as usize));
            let potentials: Vec<Array2<f64>> = batch.iter().map(potentials).collect();
            let found = expect(&self.structure, &Batch { words, verses: &potentials })?;
            counts.log_evidence += found.log_evidence.iter().sum::<f64>();
            for (&verse, marginals) in batch.iter().zip(&found.marginals) {
                for (&place, p) in verses[verse].iter().zip(marginals) {
                    counts.pairs[place as usize] += p;
                }
                if let Structure::Diagonal(_) = self.structure {
                    let rows = marginals.as_slice().unwrap_or_default().chunks_exact(words + 1);
                    counts.diagonal.add((marginals.nrows(), words), rows);
                }
            }
            if let Some(found) = found.jumps {
                let sum = counts.jumps.entry(words).or_insert_with(|| Array2::zeros(found.dim()));
                *sum += &found;
            }
        }
        Ok(counts)
    }

    fn maximisation(&mut self, counts: &Counts) {
        self.table.learn(&counts.pairs);
        match &mut self.structure {
            Structure::Diagonal(diagonal) => diagonal.learn(&counts.diagonal),
            Structure::Chain(jumps, _) => jumps.learn(&counts.jumps),
            Structure::Uniform | Structure::Monotone => {}
        }
    }

    /// Logarithm of the prior density of all that is learned, but for a constant.
    fn log_prior(&self) -> f64 {
        let of_structure = match &self.structure {
            Structure::Chain(jumps, _) => jumps.log_prior(),
            _ => 0.0,
        };
        self.table.log_prior() + of_structure
    }

    /// log p(target words | source words) of verses given by their words, in nats.
    pub fn log_evidence(&self, verses: &[(&[u32], &[u32])]) -> Outcome<Vec<f64>> {
        let mut all = vec![0.0; verses.len()];
        let sizes: Vec<_> =
            verses.iter().map(|(source, target)| (target.len(), source.len())).collect();
        for batch in batches(&sizes, &self.structure) {
            let potentials = |&verse: &usize| self.potentials(verses[verse].0, verses[verse].1);
            let potentials: Vec<Array2<f64>> = batch.iter().map(potentials).collect();
            let batch_of = Batch { words: sizes[batch[0]].1, verses: &potentials };
            let found = log_evidence(&self.structure, &batch_of)?;
            batch.iter().zip(found).for_each(|(&verse, own)| all[verse] = own);
        }
        Ok(all)
    }

    /// Bits per target word.
    fn bits(&self, verses: &[Sentence]) -> Outcome<f64> {
        let pairs: Vec<(&[u32], &[u32])> =
            verses.iter().map(|verse| (&*verse.source, &*verse.target)).collect();
        let words: usize = verses.iter().map(|verse| verse.target.len()).sum();
        let nats: f64 = self.log_evidence(&pairs)?.iter().sum();
        Ok(-nats / (words.max(1) as f64 * std::f64::consts::LN_2))
    }
}
