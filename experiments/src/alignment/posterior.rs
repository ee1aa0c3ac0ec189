//! Questions to the library about verses: all sums over alignments are its own.

use marginals::question::{Entropy, LogEvidence, LogPartition, Map};
use ndarray::{Array2, Array3, s};

use super::structure::{Batch, Structure, place};
use crate::Outcome;

/// Most edges in one posterior: enough for the eight verses that are summed side by side, little enough to
/// stay in the cache.
const EDGES: usize = 1 << 17;

/// Places of verses with equally many source words and similarly many target words, from the numbers of both
/// (target, source).
pub fn batches(sizes: &[(usize, usize)], structure: &Structure) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&verse| (sizes[verse].1, sizes[verse].0, verse));
    let mut all: Vec<Vec<usize>> = Vec::new();
    for verse in order {
        let (n, m) = sizes[verse];
        let has_room = |batch: &&mut Vec<usize>| {
            let same = sizes[batch[0]].1 == m;
            same && (batch.len() + 1) * n * structure.keys(m) <= EDGES
        };
        match all.last_mut().filter(has_room) {
            Some(batch) => batch.push(verse),
            None => all.push(vec![verse]),
        }
    }
    all
}

/// Posterior expectations of a batch of verses.
pub struct Expected {
    /// log p(target words | source words) of every verse, in nats.
    pub log_evidence: Vec<f64>,
    /// Marginals of every verse, [n, m + 1], the null word's last.
    pub marginals: Vec<Array2<f64>>,
    /// Of chains: expected jumps of all verses, from m + 1 places to m words.
    pub jumps: Option<Array2<f64>>,
}

/// The expectations of EM. Marginals are the gradient of log Z in the scores, and expected jumps that in the
/// transitions and starts.
pub fn expect(structure: &Structure, batch: &Batch<'_>) -> Outcome<Expected> {
    let words = batch.words;
    structure.posterior(batch, |posterior| {
        let pass = posterior.pass((LogPartition, LogEvidence))?;
        let (log_partition, log_evidence) = pass.answer()?;
        let ones = Array3::ones(log_partition.dim());
        let gradients = pass.backward((&ones, None))?;
        let of_verse = |(index, verse): (usize, &Array2<f64>)| {
            structure.by_word(gradients.q.slice(s![index, 0, ..verse.nrows(), ..]), words)
        };
        let jumps = match structure {
            Structure::Chain(..) => {
                let of = |name: &str| {
                    let found = gradients.parameter(name);
                    found.ok_or_else(|| format!("the chain has no gradient in its {name}"))
                };
                let (transitions, start) = (of("transitions")?, of("start")?);
                let mut jumps = Array2::zeros((words + 1, words));
                for from in 0..=2 * words {
                    for to in 0..words {
                        jumps[[place(from, words), to]] += transitions[[from, to]];
                    }
                }
                for to in 0..words {
                    jumps[[0, to]] += start[[to]];
                }
                Some(jumps)
            }
            _ => None,
        };
        Ok(Expected {
            log_evidence: by_verse(&log_evidence, batch),
            marginals: batch.verses.iter().enumerate().map(of_verse).collect(),
            jumps,
        })
    })
}

/// log p(target words | source words) of every verse, in nats.
pub fn log_evidence(structure: &Structure, batch: &Batch<'_>) -> Outcome<Vec<f64>> {
    structure.posterior(batch, |posterior| Ok(by_verse(&posterior.ask(LogEvidence)?, batch)))
}

/// Findings about the alignment of a verse.
pub struct Alignment {
    pub log_evidence: f64,
    /// −E[log p(alignment)], in nats.
    pub entropy: f64,
    /// Picks of the most probable alignment; none is the null word.
    pub best: Vec<Option<usize>>,
    /// Marginals, [n, m + 1], the null word's last.
    pub marginals: Array2<f64>,
}

/// Alignments of every verse of a batch.
pub fn align(structure: &Structure, batch: &Batch<'_>) -> Outcome<Vec<Alignment>> {
    let words = batch.words;
    structure.posterior(batch, |posterior| {
        let questions = (LogEvidence, Entropy, Map, marginals::question::Marginals);
        let (log_evidence, entropy, map, marginals) = posterior.ask(questions)?;
        let (log_evidence, entropy) = (by_verse(&log_evidence, batch), by_verse(&entropy, batch));
        let verse = |(index, verse): (usize, &Array2<f64>)| -> Outcome<Alignment> {
            let rows = marginals.slice(s![index, 0, ..verse.nrows(), ..]);
            let picks = map.slice(s![index, 0, ..verse.nrows()]);
            let pick = |&key: &i64| -> Outcome<Option<usize>> {
                let key = usize::try_from(key).map_err(|_| "a verse has no possible alignment")?;
                let word = structure.word(key, words);
                Ok((word < words).then_some(word))
            };
            Ok(Alignment {
                log_evidence: log_evidence[index],
                entropy: entropy[index],
                best: picks.iter().map(pick).collect::<Outcome<_>>()?,
                marginals: structure.by_word(rows, words),
            })
        };
        batch.verses.iter().enumerate().map(verse).collect()
    })
}

/// Numbers of verses, from those of factors: of every word, or of a verse at once.
fn by_verse(factors: &Array3<f64>, batch: &Batch<'_>) -> Vec<f64> {
    let of_words = factors.dim().2 > 1;
    let sum = |(index, verse): (usize, &Array2<f64>)| {
        let own = if of_words { verse.nrows() } else { 1 };
        factors.slice(s![index, 0, ..own]).sum()
    };
    batch.verses.iter().enumerate().map(sum).collect()
}
