//! Sparse posteriors: the keys that hold most of the mass of every query of every head.
//!
//! All of them would be the N × N matrix. A report shows where every token looks, and who looks at it, from
//! these lists alone.

use marginals::question::{TopK, TopKAnswer};
use ndarray::s;
use rayon::prelude::*;

/// Least probability that is kept.
pub const LEAST: f64 = 0.0005;
/// Root of the probability 1: probabilities are kept as the rounded root of themselves times this, which
/// makes an error of at most √p / 1000.
pub const LEVELS: u16 = 1000;

/// Entries that all lists may hold together, about, before a report's own choice of them.
const ENTRIES: usize = 3_000_000;
const FEWEST_KEYS: usize = 16;
const MOST_KEYS: usize = 128;

/// A key, and the probability of it as [`level_of`] writes it.
pub type Entry = (u32, u16);

/// Lists of one head, by query, likeliest key first.
#[derive(Clone, Debug, Default)]
pub struct HeadLists {
    entries: Vec<Entry>,
    /// Where the list of each query ends.
    ends: Vec<usize>,
}

impl HeadLists {
    /// Lists of all queries.
    pub fn lists(&self) -> impl Iterator<Item = &[Entry]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.entries[start..end])
    }

    /// Adds the list of the next query.
    pub fn push(&mut self, list: impl Iterator<Item = Entry>) {
        self.entries.extend(list);
        self.ends.push(self.entries.len());
    }
}

/// Lists of every head of a model.
#[derive(Clone, Debug)]
pub struct SparsePosteriors {
    /// Keys that each list may hold.
    keys: usize,
    /// Those of every layer, head by head.
    pub layers: Vec<Vec<HeadLists>>,
}

impl SparsePosteriors {
    /// No lists yet, for a model with so many heads in all and a text of so many tokens. Each list will
    /// hold at least `fewest` keys, where there are as many.
    pub fn new(heads: usize, tokens: usize, fewest: usize) -> Self {
        let share = ENTRIES / (heads * tokens).max(1);
        let keys = share.clamp(FEWEST_KEYS, MOST_KEYS).max(fewest).min(tokens.max(1));
        Self { keys, layers: Vec::new() }
    }

    /// Question that a layer is asked.
    pub fn question(&self) -> TopK {
        TopK(self.keys)
    }

    /// Keeps what the next layer answered.
    pub fn add(&mut self, answer: &TopKAnswer<f32>) {
        let (_, heads, queries, _) = answer.index.dim();
        let list = |head, query| {
            likeliest(answer, head, query)
                .take_while(|&(_, probability)| probability >= LEAST)
                .map(|(key, probability)| (key as u32, level_of(probability)))
        };
        let lists = (0..heads).into_par_iter().map(|head| {
            let mut lists = HeadLists::default();
            (0..queries).for_each(|query| lists.push(list(head, query)));
            lists
        });
        self.layers.push(lists.collect());
    }
}

/// Keys of one query with their probabilities, likeliest first.
pub fn likeliest(
    answer: &TopKAnswer<f32>,
    head: usize,
    query: usize,
) -> impl Iterator<Item = (usize, f64)> {
    let index = answer.index.slice(s![0, head, query, ..]);
    let probability = answer.probability.slice(s![0, head, query, ..]);
    let pairs = index.into_iter().zip(probability);
    pairs.filter_map(|(&key, &p)| Some((usize::try_from(key).ok()?, f64::from(p))))
}

/// A probability as it is kept.
fn level_of(probability: f64) -> u16 {
    (f64::from(LEVELS) * probability.clamp(0.0, 1.0).sqrt()).round() as u16
}

/// The probability that a level stands for.
pub fn probability_of(level: u16) -> f64 {
    (f64::from(level) / f64::from(LEVELS)).powi(2)
}

#[cfg(test)]
mod tests {
    use ndarray::Array4;

    use super::*;

    #[test]
    fn probabilities_keep_within_their_error() {
        for step in 0..=2000 {
            let probability = f64::from(step) / 2000.0;
            let error = (probability_of(level_of(probability)) - probability).abs();
            assert!(error <= probability.sqrt() / 1000.0 + 1e-6, "{probability}: {error}");
        }
        assert_eq!([level_of(f64::NAN), level_of(2.0)], [0, LEVELS]);
    }

    #[test]
    fn lists_hold_what_is_likely_enough() {
        let mut sparse = SparsePosteriors::new(2, 3, 2);
        assert_eq!(sparse.question(), TopK(3));
        let index = Array4::from_shape_fn((1, 2, 3, 3), |(_, _, query, place)| match place {
            0 => query as i64,
            1 => 0,
            _ => -1,
        });
        let probability = Array4::from_shape_fn((1, 2, 3, 3), |(_, head, _, place)| {
            [[0.9, 0.0004, 0.0], [0.5, 0.25, 0.0]][head][place]
        });
        sparse.add(&TopKAnswer { index, probability });
        let first: Vec<&[Entry]> = sparse.layers[0][0].lists().collect();
        assert_eq!(first, [[(0, 949)], [(1, 949)], [(2, 949)]]);
        let second: Vec<&[Entry]> = sparse.layers[0][1].lists().collect();
        assert_eq!(second[2], [(2, 707), (0, 500)]);
    }
}
