//! Which tokens' posteriors are kept for the report.
//!
//! All of them would be the N × N matrix. A reader wants words, spread over the text, and as many
//! as a page can carry.

use marginals_burn::Tokens;

/// Keys kept per query and head.
pub const TOP_KEYS: usize = 12;
/// Pairs of key and probability a report may hold: about a megabyte.
const PAIRS: usize = 110_000;
const MOST_QUERIES: usize = 96;
const FEWEST_QUERIES: usize = 8;

/// The tokens that were chosen, and the one to show first.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    pub queries: Vec<usize>,
    pub first: usize,
}

/// How many queries a model with this many heads in all can show.
pub fn affordable(heads: usize) -> usize {
    (PAIRS / (TOP_KEYS * heads.max(1))).clamp(FEWEST_QUERIES, MOST_QUERIES)
}

/// At most `count` tokens, spread evenly over the text, words before punctuation; with the one
/// that was asked for, which is then shown first.
///
/// `tokens` must not be empty.
pub fn queries(tokens: &Tokens, asked: Option<usize>, count: usize) -> Choice {
    let is_word = |index: &usize| {
        let span = &tokens.spans[*index];
        let letters = tokens.pieces[*index].chars().filter(|c| c.is_alphabetic()).count();
        span.len() > 2 && letters > 2
    };
    let mut candidates: Vec<usize> = (0..tokens.len()).filter(is_word).collect();
    if candidates.len() < count.min(tokens.len()) {
        candidates = (0..tokens.len()).collect();
    }
    let count = count.min(candidates.len());
    let mut queries: Vec<usize> =
        (0..count).map(|place| candidates[place * candidates.len() / count]).collect();
    // Two thirds into the text there is much to look back on, and for an encoder still some ahead.
    let first = asked.unwrap_or(queries[(queries.len() - 1) * 2 / 3]);
    if let Err(place) = queries.binary_search(&first) {
        queries.insert(place, first);
    }
    Choice { queries, first }
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
        let tokens = tokens(&["word", ",", "other", ".", "third", "!"]);
        assert_eq!(queries(&tokens, None, 3).queries, [0, 2, 4]);
    }

    #[test]
    fn the_token_asked_for_is_there_and_first() {
        let tokens = tokens(&["word", ",", "other", ".", "third", "!"]);
        let choice = queries(&tokens, Some(3), 2);
        assert_eq!(choice, Choice { queries: vec![0, 2, 3], first: 3 });
    }

    #[test]
    fn a_text_of_one_token_has_one_query() {
        let choice = queries(&tokens(&["."]), None, 8);
        assert_eq!(choice, Choice { queries: vec![0], first: 0 });
    }
}
