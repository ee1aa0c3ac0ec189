//! Verses as numbers of words, in one direction: which are learned from, and what is known of words.

use std::collections::BTreeMap;

use super::bible::Pair;
use super::markup::Word;
use crate::random::Random;

/// Which language is explained, word by word, by the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// log p(Spanish | English).
    ToSpanish,
    /// log p(English | Spanish).
    ToEnglish,
}

impl Direction {
    pub const ALL: [Self; 2] = [Self::ToSpanish, Self::ToEnglish];

    pub fn name(self) -> &'static str {
        match self {
            Self::ToSpanish => "Spanish given English",
            Self::ToEnglish => "English given Spanish",
        }
    }

    /// Words that explain, and words that are explained.
    pub fn of(self, pair: &Pair) -> (&[Word], &[Word]) {
        match self {
            Self::ToSpanish => (&pair.english, &pair.spanish),
            Self::ToEnglish => (&pair.spanish, &pair.english),
        }
    }
}

/// Verses by use, as places in the list of all.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    pub learned: Vec<usize>,
    pub held_out: Vec<usize>,
}

impl Split {
    /// Of `count` verses, by a seed: `held_out` and the one that is `shown`, and of the rest `learned` at most.
    pub fn draw(
        count: usize,
        (learned, held_out): (usize, usize),
        shown: usize,
        seed: u64,
    ) -> Self {
        let others: Vec<usize> = (0..count).filter(|&verse| verse != shown).collect();
        let drawn =
            Random::new(seed, 0).choose(others.len(), (learned + held_out).min(others.len()));
        let (first, rest) = drawn.split_at(held_out.min(drawn.len()));
        let part = |places: &[usize], more: Option<usize>| {
            let mut verses: Vec<usize> =
                places.iter().map(|&place| others[place]).chain(more).collect();
            verses.sort_unstable();
            verses
        };
        Self { learned: part(rest, None), held_out: part(first, Some(shown)) }
    }
}

/// Words of one language that are told apart, by number; 0 stands for all others.
pub struct Vocabulary {
    numbers: BTreeMap<String, u32>,
    /// Logarithm of how often a number stands for a word that is learned from.
    pub log_frequency: Vec<f64>,
}

impl Vocabulary {
    /// Words that stand at least `least` times in these verses.
    pub fn of<'w>(verses: impl Iterator<Item = &'w [Word]>, least: usize) -> Self {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for word in verses.flatten() {
            *counts.entry(word.small()).or_default() += 1;
        }
        let all: usize = counts.values().sum();
        let known: Vec<(String, usize)> =
            counts.into_iter().filter(|(_, count)| *count >= least).collect();
        let rest = all - known.iter().map(|(_, count)| count).sum::<usize>();
        // Where every word is known, others can still come: as if one had.
        let frequencies = [rest.max(1)].into_iter().chain(known.iter().map(|(_, count)| *count));
        let total = (all - rest + rest.max(1)) as f64;
        let log_frequency = frequencies.map(|count| (count as f64 / total).ln()).collect();
        let numbers = known.into_iter().map(|(word, _)| word).zip(1..).collect();
        Self { numbers, log_frequency }
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.log_frequency.len()
    }

    fn encode(&self, words: &[Word]) -> Vec<u32> {
        words.iter().map(|word| self.numbers.get(&word.small()).copied().unwrap_or(0)).collect()
    }
}

/// A verse as numbers of words.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentence {
    pub source: Vec<u32>,
    pub target: Vec<u32>,
}

/// Verses of one direction.
pub struct Corpus {
    pub source: Vocabulary,
    pub target: Vocabulary,
    pub learned: Vec<Sentence>,
    pub held_out: Vec<Sentence>,
}

impl Corpus {
    pub fn new(pairs: &[Pair], split: &Split, direction: Direction, known: usize) -> Self {
        let learned = || split.learned.iter().map(|&verse| direction.of(&pairs[verse]));
        let source = Vocabulary::of(learned().map(|(source, _)| source), known);
        let target = Vocabulary::of(learned().map(|(_, target)| target), known);
        let encode = |part: &[usize]| {
            let sentence = |&verse: &usize| {
                let own = direction.of(&pairs[verse]);
                Sentence { source: source.encode(own.0), target: target.encode(own.1) }
            };
            part.iter().map(sentence).collect()
        };
        Self { learned: encode(&split.learned), held_out: encode(&split.held_out), source, target }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Word> {
        let word = |form: &str| Word { form: form.into(), numbers: Vec::new() };
        text.split(' ').map(word).collect()
    }

    #[test]
    fn a_split_holds_every_verse_once_and_never_learns_what_is_shown() {
        let split = Split::draw(50, (100, 10), 7, 1);
        assert_eq!((split.learned.len(), split.held_out.len()), (39, 11));
        assert!(split.held_out.contains(&7));
        let mut all = [split.learned.clone(), split.held_out.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
        assert_eq!(split, Split::draw(50, (100, 10), 7, 1));
        assert_ne!(split, Split::draw(50, (100, 10), 7, 2));
        let fewer = Split::draw(50, (20, 10), 7, 1);
        assert_eq!((fewer.learned.len(), &fewer.held_out), (20, &split.held_out));
        assert!(fewer.learned.iter().all(|verse| split.learned.contains(verse)));
    }

    #[test]
    fn rare_words_are_one() {
        let verses = [words("La luz la noche"), words("luz")];
        let vocabulary = Vocabulary::of(verses.iter().map(Vec::as_slice), 2);
        assert_eq!(vocabulary.encode(&words("la LUZ noche sol")), [1, 2, 0, 0]);
        let frequencies: Vec<f64> = vocabulary.log_frequency.iter().map(|x| x.exp()).collect();
        for (found, expected) in frequencies.iter().zip([0.2, 0.4, 0.4]) {
            assert!((found - expected).abs() < 1e-15, "{found} {expected}");
        }
    }
}
