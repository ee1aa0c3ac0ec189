//! A learned parser on sentences that it has not seen.

use burn::tensor::{DType, Device};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::metrics::{Counts, Reliability, is_projective};
use super::parser::{Batch, Parser, Place};
use super::structure::{Structure, decode};
use super::treebank::Example;
use crate::Outcome;

/// Scores of a parser under one structure.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Measured {
    pub structure: Structure,
    /// Of the most probable edge sets.
    pub counts: Counts,
    /// Of those in sentences whose true edges cross.
    pub crossing: Counts,
    /// By number of words: up to the first of [`LENGTHS`], up to the next, and more than the last.
    pub by_length: Vec<Counts>,
    /// Mean of −log p(tree) in nats per word, over sentences whose true edges do not cross: they are
    /// possible under every structure.
    pub nats: f64,
    /// Probabilities of all edges: of every word to every other and to the root.
    pub edges: Reliability,
    /// Probabilities of the predicted edges.
    pub predicted: Reliability,
}

/// Most words of the sentences that are counted together.
const LENGTHS: [usize; 5] = [5, 10, 15, 20, 30];

/// One sentence as a parser sees it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Shown {
    pub heads: Vec<usize>,
    /// P(j is the head of i), by word and head, 0 being the root.
    pub marginals: Vec<Vec<f64>>,
}

/// A parser that reads sentences one by one.
pub struct Reader<'p> {
    pub parser: &'p Parser,
    pub bins: usize,
}

impl Reader<'_> {
    /// Scores of all edges, [nodes, nodes].
    fn scores(&self, example: &Example) -> Outcome<Array2<f64>> {
        let place = Place { device: Device::flex(), format: DType::F32 };
        let batch = Batch::of(&[example], None, &place);
        let scores = self.parser.scores(&batch, None)?.into_data().try_into_vec::<f32>();
        let scores = scores.map_err(|error| format!("{error:?}"))?.into_iter().map(f64::from);
        let nodes = example.units.len();
        Ok(Array2::from_shape_vec((nodes, nodes), scores.collect())?)
    }

    pub fn measure(&self, structure: Structure, examples: &[Example]) -> Outcome<Measured> {
        let mut found = Measured {
            structure,
            counts: Counts::default(),
            crossing: Counts::default(),
            by_length: vec![Counts::default(); LENGTHS.len() + 1],
            nats: 0.0,
            edges: Reliability::new(self.bins),
            predicted: Reliability::new(self.bins),
        };
        let mut words = 0;
        for example in examples {
            let gold = &example.heads;
            let decoded = decode(structure, &self.scores(example)?, gold)?;
            found.counts.add(&decoded.heads, gold, &example.joins_words);
            let length = LENGTHS.partition_point(|&most| most < gold.len());
            found.by_length[length].add(&decoded.heads, gold, &example.joins_words);
            if is_projective(gold) {
                found.nats -= decoded.log_probability;
                words += gold.len();
            } else {
                found.crossing.add(&decoded.heads, gold, &example.joins_words);
            }
            for (word, (&head, &predicted)) in (1..).zip(gold.iter().zip(&decoded.heads)) {
                for (other, &probability) in decoded.marginals.row(word).indexed_iter() {
                    if other != word {
                        found.edges.add(probability, other == head);
                    }
                }
                let probability = decoded.marginals[[word, predicted]];
                found.predicted.add(probability, predicted == head);
            }
        }
        found.nats /= words.max(1) as f64;
        Ok(found)
    }

    pub fn show(&self, structure: Structure, example: &Example) -> Outcome<Shown> {
        let decoded = decode(structure, &self.scores(example)?, &example.heads)?;
        let marginals = decoded.marginals.outer_iter().skip(1).map(|row| row.to_vec()).collect();
        Ok(Shown { heads: decoded.heads, marginals })
    }
}
