//! Which tokens' posteriors `audit.json` holds, and which one the report opens on.
//!
//! All of them would be the N × N matrix. A reader wants words, spread over the text.

use marginals_burn::Tokens;

use super::measure::HeadMeasures;
use super::sparse::{Entry, SparsePosteriors, probability_of};

/// Keys per query and head in `audit.json`.
pub const TOP_KEYS: usize = 12;
/// Pairs of key and probability that it may hold: about two megabytes.
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
        // Vocabularies of bytes write spaces and other bytes that are no letters by these, or escaped.
        let is_letter = |c: &char| c.is_alphabetic() && !('\u{100}'..='\u{143}').contains(c);
        let letters = self.tokens.pieces[index].chars().filter(is_letter).count();
        let is_escaped = self.tokens.pieces[index].starts_with('\\');
        !is_escaped && self.tokens.spans[index].len() >= self.letters && letters >= self.letters
    }
}

/// Choice that the report shows before anybody has clicked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Showcase {
    pub query: usize,
    pub layer: usize,
    pub head: usize,
}

/// The query and head where the content speaks most clearly: the largest mass on three words that are not
/// near and not looked at by everybody, none of which has it all. Words are sought farther off first; only
/// the token that was asked for is a query, where one was.
pub fn showcase(
    tokens: &Tokens,
    layers: &[Vec<HeadMeasures>],
    posteriors: &SparsePosteriors,
    asked: Option<usize>,
) -> Showcase {
    let word = Word::of(tokens);
    let words: Vec<bool> = (0..tokens.len()).map(|index| word.is(index)).collect();
    let found =
        [8, 3, 1].into_iter().find_map(|far| clearest(&words, far, layers, posteriors, asked));
    let middle = || (tokens.len() / 2..tokens.len()).find(|&index| words[index]);
    found.unwrap_or_else(|| Showcase {
        query: asked.or_else(middle).unwrap_or(tokens.len().saturating_sub(1)),
        ..Showcase::default()
    })
}

fn clearest(
    words: &[bool],
    far: usize,
    layers: &[Vec<HeadMeasures>],
    posteriors: &SparsePosteriors,
    asked: Option<usize>,
) -> Option<Showcase> {
    const ALL: f64 = 0.6;
    let mut best = None;
    let mut most = 0.0;
    for (layer, heads) in posteriors.layers.iter().enumerate() {
        for (head, lists) in heads.iter().enumerate() {
            let measures = &layers[layer][head];
            let near = far > 1 && measures.neighbour_mass >= 0.5;
            if near || measures.heaviest_key_mass >= 0.5 {
                continue;
            }
            for (query, list) in lists.lists().enumerate() {
                if asked.map_or(!words[query], |asked| asked != query) {
                    continue;
                }
                let telling = |key: usize| {
                    words[key] && key.abs_diff(query) >= far && key != measures.heaviest_key
                };
                let probable = |entry: &Entry| probability_of(entry.1);
                if list.first().is_none_or(|first| probable(first) > ALL) {
                    continue;
                }
                let three = list.iter().take(3).filter(|entry| telling(entry.0 as usize));
                let mass: f64 = three.map(probable).sum();
                if mass > most {
                    most = mass;
                    best = Some(Showcase { query, layer, head });
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
        let tokens = tokens(&["a", "Ġ", "b", "c", "\\n", "!"]);
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
