//! Which tokens' posteriors are kept for the report.
//!
//! All of them would be the N × N matrix. A reader wants words, spread over the text, and as many
//! as a page can carry.

use marginals_burn::Tokens;

use super::label::Label;
use super::measure::{HeadMeasures, QueryPosterior};

/// Keys kept per query and head.
pub const TOP_KEYS: usize = 12;
/// Pairs of key and probability a report may hold: about a megabyte.
const PAIRS: usize = 110_000;
const MOST_QUERIES: usize = 96;
const FEWEST_QUERIES: usize = 8;

/// How many queries a model with this many heads in all can show.
pub fn affordable(heads: usize) -> usize {
    (PAIRS / (TOP_KEYS * heads.max(1))).clamp(FEWEST_QUERIES, MOST_QUERIES)
}

/// At most `count` tokens, spread evenly over the text, words before punctuation; with the one
/// that was asked for. In ascending order.
///
/// `tokens` must not be empty.
pub fn queries(tokens: &Tokens, asked: Option<usize>, count: usize) -> Vec<usize> {
    let word = Word::of(tokens);
    let mut candidates: Vec<usize> = (0..tokens.len()).filter(|&index| word.is(index)).collect();
    if candidates.len() < count.min(tokens.len()) {
        candidates = (0..tokens.len()).collect();
    }
    let count = count.min(candidates.len());
    let mut queries: Vec<usize> =
        (0..count).map(|place| candidates[place * candidates.len() / count]).collect();
    if let Some(asked) = asked
        && let Err(place) = queries.binary_search(&asked)
    {
        queries.insert(place, asked);
    }
    queries
}

/// Word of the text: three letters or more, or any letter where tokens are single bytes.
struct Word<'a> {
    tokens: &'a Tokens,
    letters: usize,
}

impl<'a> Word<'a> {
    fn of(tokens: &'a Tokens) -> Self {
        let mut word = Self { tokens, letters: 3 };
        if !(0..tokens.len()).any(|index| word.is(index)) {
            word.letters = 1;
        }
        word
    }

    fn is(&self, index: usize) -> bool {
        let letters = self.tokens.pieces[index].chars().filter(|c| c.is_alphabetic()).count();
        self.tokens.spans[index].len() >= self.letters && letters >= self.letters
    }
}

/// Choice that the report shows before anybody has clicked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Showcase {
    pub query: usize,
    pub layer: usize,
    pub head: usize,
}

/// The query and head where the content speaks most clearly: the largest mass on three words that
/// are not near, none of which has it all. Only among the queries that were kept, or for the one
/// that was asked for.
pub fn showcase(
    tokens: &Tokens,
    layers: &[Vec<HeadMeasures>],
    posteriors: &[QueryPosterior],
    asked: Option<usize>,
) -> Showcase {
    const FAR: usize = 8;
    const ALL: f64 = 0.6;
    let word = Word::of(tokens);
    let mut best = Showcase { query: asked.unwrap_or(posteriors[0].query), ..Showcase::default() };
    let mut most = 0.0;
    for posterior in posteriors.iter().filter(|p| asked.is_none_or(|query| query == p.query)) {
        for (layer, heads) in posterior.heads.iter().enumerate() {
            for (head, keys) in heads.iter().enumerate() {
                let dull = layers[layer][head].label != Label::Content
                    || keys.first().is_none_or(|(_, probability)| *probability > ALL);
                let mass: f64 = keys
                    .iter()
                    .take(3)
                    .filter(|(key, _)| key.abs_diff(posterior.query) >= FAR && word.is(*key))
                    .map(|(_, probability)| probability)
                    .sum();
                if !dull && mass > most {
                    most = mass;
                    best = Showcase { query: posterior.query, layer, head };
                }
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(pieces: &[&str]) -> Tokens {
        let mut start = 0;
        let spans = pieces.iter().map(|piece| {
            start += piece.len();
            start - piece.len()..start
        });
        Tokens {
            ids: vec![0; pieces.len()],
            type_ids: vec![0; pieces.len()],
            spans: spans.collect(),
            pieces: pieces.iter().map(|&piece| piece.to_owned()).collect(),
            of: pieces.len(),
        }
    }

    #[test]
    fn words_come_before_punctuation() {
        let tokens = tokens(&["word", ",", "other", "third", ".", "!"]);
        assert_eq!(queries(&tokens, None, 3), [0, 2, 3]);
    }

    #[test]
    fn letters_are_words_where_nothing_longer_is() {
        let tokens = tokens(&["a", " ", "b", "c", ".", "!"]);
        assert_eq!(queries(&tokens, None, 3), [0, 2, 3]);
    }

    #[test]
    fn the_token_asked_for_is_there() {
        let tokens = tokens(&["word", ",", "other", ".", "third", "!"]);
        assert_eq!(queries(&tokens, Some(3), 2), [0, 2, 3]);
    }

    #[test]
    fn a_text_of_one_token_has_one_query() {
        assert_eq!(queries(&tokens(&["."]), None, 8), [0]);
    }
}
