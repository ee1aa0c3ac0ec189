//! The Turkish treebanks: which sentences are learned from, and what the network reads of a word.

use std::collections::BTreeMap;
use std::io::Read;

use super::conllu::{Sentence, Word, parse};
use crate::{Outcome, data};

/// Sentences by use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Treebank {
    pub learned: Vec<Sentence>,
    /// For choosing settings by.
    pub development: Vec<Sentence>,
    pub held_out: Vec<Sentence>,
}

impl Treebank {
    /// The Turkish Web Treebank and its part from Wikipedia (Google Research, Apache 2.0).
    pub fn fetched() -> Outcome<Self> {
        let mut all = Self::default();
        for file in ["web.conllu", "wiki.conllu"] {
            let mut text = String::new();
            data::fetched("turkish-treebanks", file)?.read_to_string(&mut text)?;
            all.add(parse(&text).map_err(|error| format!("{file}: {error}"))?);
        }
        Ok(all)
    }

    /// Adds the sentences of one file, split as their package splits them: of every ten in a row the
    /// ninth is for development, the tenth is held out.
    pub fn add(&mut self, sentences: Vec<Sentence>) {
        for (number, sentence) in sentences.into_iter().enumerate() {
            let part = match number % 10 {
                0..8 => &mut self.learned,
                8 => &mut self.development,
                _ => &mut self.held_out,
            };
            part.push(sentence);
        }
    }
}

/// Things that are read of a word, each with an embedding, their sum being the word's: its form, its
/// shape, whether a space follows, its beginnings and its ends.
pub const SLOTS: usize = 3 + LONGEST_BEGINNING + LONGEST_END;

/// Characters, from one on.
const LONGEST_BEGINNING: usize = 4;
const LONGEST_END: usize = 5;

/// Unit of a slot in which a word has nothing.
pub const ABSENT: i64 = 0;

/// Unit of a slot in which a word has what was seen once or never.
pub const fn unknown(slot: usize) -> i64 {
    1 + slot as i64
}

/// Unit of the root in its first slot.
pub const ROOT: i64 = 1 + SLOTS as i64;

/// Units that words are read as, found in the sentences that are learned from.
pub struct Vocabulary {
    /// By slot.
    known: [BTreeMap<String, i64>; SLOTS],
    count: usize,
}

impl Vocabulary {
    /// The units that stand at least `least` times in these sentences.
    pub fn of(sentences: &[Sentence], least: usize) -> Self {
        let mut counts: [BTreeMap<String, usize>; SLOTS] = Default::default();
        for word in sentences.iter().flat_map(|sentence| &sentence.words) {
            for (counts, unit) in counts.iter_mut().zip(units(word)) {
                unit.into_iter().for_each(|unit| *counts.entry(unit).or_default() += 1);
            }
        }
        let mut next = ROOT;
        let known = counts.map(|counts| {
            let often = counts.into_iter().filter(|(_, count)| *count >= least);
            let number = |(unit, _)| {
                next += 1;
                (unit, next)
            };
            often.map(number).collect()
        });
        Self { known, count: next as usize + 1 }
    }

    /// Number of units, those that stand for nothing, for unknown ones and for the root with them.
    pub fn len(&self) -> usize {
        self.count
    }

    /// A sentence as the network reads it.
    pub fn encode(&self, sentence: &Sentence) -> Example {
        let mut root = [ABSENT; SLOTS];
        root[0] = ROOT;
        let encode = |word: &Word| {
            let mut slot = 0;
            units(word).map(|unit| {
                let known = &self.known[slot];
                slot += 1;
                unit.map_or(ABSENT, |unit| known.get(&unit).copied().unwrap_or(unknown(slot - 1)))
            })
        };
        Example {
            units: [root].into_iter().chain(sentence.words.iter().map(encode)).collect(),
            heads: sentence.heads(),
            joins_words: sentence.words.iter().map(|word| word.joins_words).collect(),
        }
    }
}

/// A sentence as the network reads it.
pub struct Example {
    /// Of every node: the root, and the words.
    pub units: Vec<[i64; SLOTS]>,
    /// Of every word, counted from 1; 0 is the root.
    pub heads: Vec<usize>,
    /// See [`Word::joins_words`].
    pub joins_words: Vec<bool>,
}

/// Content of each slot of a word.
fn units(word: &Word) -> [Option<String>; SLOTS] {
    let letters: Vec<char> = lower_case(&word.form);
    let part = |letters: &[char]| Some(letters.iter().collect::<String>());
    let mut units: [Option<String>; SLOTS] = Default::default();
    let (first, affixes) = units.split_at_mut(3);
    first.clone_from_slice(&[
        part(&letters),
        Some(shape(&word.form)),
        Some(if word.space_after { "apart" } else { "joined" }.to_owned()),
    ]);
    let (beginnings, ends) = affixes.split_at_mut(LONGEST_BEGINNING);
    for (place, length) in beginnings.iter_mut().zip(1..) {
        *place = letters.get(..length).and_then(part);
    }
    for (place, length) in ends.iter_mut().zip(1..) {
        *place = letters.len().checked_sub(length).and_then(|from| part(&letters[from..]));
    }
    units
}

/// Small letters, of which Turkish has two for i.
fn lower_case(form: &str) -> Vec<char> {
    let small = |letter: char| -> Vec<char> {
        match letter {
            'I' => vec!['ı'],
            'İ' => vec!['i'],
            _ => letter.to_lowercase().collect(),
        }
    };
    form.chars().flat_map(small).collect()
}

/// Kinds of characters in order, each run of a kind as one: `Xx` of a name, `d` of a number.
fn shape(form: &str) -> String {
    let kind = |letter: char| match letter {
        _ if letter.is_uppercase() => 'X',
        _ if letter.is_alphabetic() => 'x',
        _ if letter.is_numeric() => 'd',
        _ => letter,
    };
    let mut shape: Vec<char> = form.chars().map(kind).collect();
    shape.dedup();
    shape.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::metrics::is_projective;
    use super::*;

    fn word(form: &str) -> Word {
        Word { form: form.into(), head: 0, space_after: true, joins_words: true }
    }

    fn sentence(id: usize) -> Sentence {
        Sentence { id: id.to_string(), words: vec![word("a")] }
    }

    /// Counted apart from this code, in the files of the package.
    #[test]
    fn the_treebank_is_the_published_one() {
        if data::fetched("turkish-treebanks", "web.conllu").is_err() {
            let name = "turkish-treebanks";
            eprintln!("SKIPPED: models/{name} is missing; run `cargo xtask fetch {name}`");
            return;
        }
        let treebank = Treebank::fetched().unwrap();
        let parts = [&treebank.learned, &treebank.development, &treebank.held_out];
        let words = parts.map(|part| part.iter().map(|s| s.words.len()).sum::<usize>());
        let crossing =
            |part: &Vec<Sentence>| part.iter().filter(|s| !is_projective(&s.heads())).count();
        assert_eq!(parts.map(Vec::len), [3881, 485, 485]);
        assert_eq!(words, [64707, 8638, 8025]);
        assert_eq!(parts.map(crossing), [251, 36, 28]);
        let all = || parts.into_iter().flatten().flat_map(|s| &s.words);
        assert_eq!(all().filter(|word| word.joins_words).count(), 57415);
    }

    /// Every file on its own, whatever stands in the one before it.
    #[test]
    fn a_split_depends_on_places_in_a_file_alone() {
        let mut treebank = Treebank::default();
        treebank.add((0..23).map(sentence).collect());
        treebank.add((100..120).map(sentence).collect());
        let ids = |part: &[Sentence]| part.iter().map(|s| s.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&treebank.development), ["8", "18", "108", "118"]);
        assert_eq!(ids(&treebank.held_out), ["9", "19", "109", "119"]);
        assert_eq!(treebank.learned.len(), 43 - 8);
        let mut again = Treebank::default();
        again.add((0..23).map(sentence).collect());
        again.add((100..120).map(sentence).collect());
        assert_eq!(treebank, again);
    }

    #[test]
    fn a_word_is_read_by_form_shape_space_beginnings_and_ends() {
        let found = units(&word("Işık'ta"));
        let found: Vec<&str> = found.iter().map(|unit| unit.as_deref().unwrap()).collect();
        let expected = ["ışık'ta", "Xx'x", "apart", "ı", "ış", "ışı", "ışık"];
        assert_eq!(found[..7], expected);
        assert_eq!(found[7..], ["a", "ta", "'ta", "k'ta", "ık'ta"]);
        let short = units(&word("İ2"));
        assert_eq!(short[0].as_deref(), Some("i2"));
        assert_eq!(short[1].as_deref(), Some("Xd"));
        assert_eq!(short[4].as_deref(), Some("i2"));
        assert_eq!((&short[5], &short[9]), (&None, &None));
    }

    #[test]
    fn units_seen_once_are_unknown_and_slots_do_not_share_them() {
        let of = |forms: &[&str]| Sentence {
            id: String::new(),
            words: forms.iter().map(|form| word(form)).collect(),
        };
        let learned = [of(&["ev", "ev", "evde"])];
        let vocabulary = Vocabulary::of(&learned, 2);
        let example = vocabulary.encode(&of(&["ev", "evde", "su"]));
        assert_eq!(example.units[0][0], ROOT);
        assert_eq!(example.units[0][1..], [ABSENT; SLOTS - 1]);
        let [ev, evde, su] = [1, 2, 3].map(|node| example.units[node]);
        assert!(ev[0] > ROOT && evde[0] == unknown(0) && su[0] == unknown(0));
        // `ev` as a form, as a beginning and as an end.
        assert!(ev[0] != ev[4] && ev[4] != ev[8] && ev[4] == evde[4] && evde[8] == unknown(8));
        assert_eq!(ev[5], ABSENT);
        assert_eq!(su[3], unknown(3));
        let largest = example.units.iter().flatten().copied().max().unwrap();
        assert!((largest as usize) < vocabulary.len());
        // Shape, space, beginnings e and ev, the end v and ev, the form: 7 known.
        assert_eq!(vocabulary.len(), 2 + SLOTS + 7);
    }
}
