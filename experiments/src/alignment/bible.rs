//! Two translations side by side: which verses of one are those of the other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde::{Deserialize, Serialize};

use super::markup::{Word, words};
use super::sword::{self, Reference, Verse};
use crate::{Outcome, data};

/// A verse in both languages.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    pub reference: Reference,
    pub english: Vec<Word>,
    pub spanish: Vec<Word>,
}

/// Verses in both languages, and what was left out.
#[derive(Clone, Debug, Default)]
pub struct Parallel {
    pub pairs: Vec<Pair>,
    pub counts: Counts,
}

/// Verses that were left out, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Counts {
    /// Verses with text in one language at least, in chapters that both have.
    pub verses: usize,
    /// Chapters in which a verse has no counterpart, or one of less than half its words.
    pub doubtful_chapters: usize,
    /// Those right after a chapter in which a verse has no counterpart.
    pub following_chapters: usize,
    /// Verses in all of them.
    pub in_those: usize,
    /// Verses of too many words.
    pub longer: usize,
    /// Verses that are left.
    pub kept: usize,
}

impl Parallel {
    /// The World English Bible and the Reina-Valera of 1909, from the Debian packages of their SWORD modules.
    pub fn fetched(longest: usize) -> Outcome<Self> {
        let module = |set: &'static str, name: &str| -> Outcome<Vec<Verse>> {
            let read = |file: &str| -> Outcome<Vec<u8>> {
                let mut bytes = Vec::new();
                data::fetched(set, &format!("sword/{file}"))?.read_to_end(&mut bytes)?;
                Ok(bytes)
            };
            let settings = String::from_utf8(read(&format!("mods.d/{name}.conf"))?)?;
            Ok(sword::verses(&settings, &read).map_err(|error| format!("{name}: {error}"))?)
        };
        let english = module("bible-english", "engWEB2015eb")?;
        let spanish = module("bible-spanish", "spaRV1909eb")?;
        Ok(Self::of(&english, &spanish, longest))
    }

    /// Verses of the same reference. A translation that counts verses otherwise has a verse without
    /// counterpart at the end of a chapter or of the one before, or one that holds several: such chapters
    /// are left out whole, and after one with a verse too few also the next, which begins with it.
    pub fn of(english: &[Verse], spanish: &[Verse], longest: usize) -> Self {
        let by_reference = |verses: &[Verse]| -> BTreeMap<Reference, Vec<Word>> {
            verses.iter().map(|verse| (verse.reference.clone(), words(&verse.markup))).collect()
        };
        let (first, second) = (by_reference(english), by_reference(spanish));
        let chapters_of = |all: &BTreeMap<Reference, Vec<Word>>| -> BTreeSet<String> {
            all.keys().map(|reference| reference.chapter.clone()).collect()
        };
        let shared: BTreeSet<String> = &chapters_of(&first) & &chapters_of(&second);
        let references = first.keys().chain(second.keys()).collect::<BTreeSet<_>>();
        let references: Vec<Reference> =
            references.into_iter().filter(|r| shared.contains(&r.chapter)).cloned().collect();
        let lengths = |reference: &Reference| {
            [&first, &second].map(|all| all.get(reference).map_or(0, Vec::len))
        };
        let (mut lacking, mut uneven) = (BTreeSet::new(), BTreeSet::new());
        let mut counts = Counts::default();
        for reference in &references {
            let [a, b] = lengths(reference);
            counts.verses += usize::from(a + b > 0);
            if a.min(b) == 0 {
                lacking.insert(&*reference.chapter);
            } else if a.max(b) > 2 * a.min(b) + SLACK {
                uneven.insert(&*reference.chapter);
            }
        }
        // In the order of the text, which is not that of the names.
        let mut order: Vec<&Reference> = spanish.iter().map(|verse| &verse.reference).collect();
        order.dedup_by(|next, own| next.chapter == own.chapter);
        let follows = |two: &[&Reference]| {
            let is = lacking.contains(&*two[0].chapter) && two[0].book() == two[1].book();
            is.then(|| two[1].chapter.clone())
        };
        let doubtful: BTreeSet<&str> = lacking.union(&uneven).copied().collect();
        let following: BTreeSet<String> = order.windows(2).filter_map(follows).collect();
        let following: BTreeSet<&str> = following.iter().map(String::as_str).collect();
        let following: BTreeSet<&str> = following.difference(&doubtful).copied().collect();
        counts.doubtful_chapters = doubtful.len();
        counts.following_chapters = following.len();
        let mut pairs = Vec::new();
        for reference in &references {
            let [a, b] = lengths(reference);
            let chapter = &*reference.chapter;
            if doubtful.contains(chapter) || following.contains(chapter) {
                counts.in_those += usize::from(a + b > 0);
            } else if a.max(b) > longest {
                counts.longer += 1;
            } else {
                let of = |all: &BTreeMap<Reference, Vec<Word>>| {
                    all.get(reference).cloned().unwrap_or_default()
                };
                let (english, spanish) = (of(&first), of(&second));
                pairs.push(Pair { reference: reference.clone(), english, spanish });
            }
        }
        counts.kept = pairs.len();
        Self { pairs, counts }
    }
}

/// Words that one verse may have more than twice those of the other.
const SLACK: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn verses(all: &[(&str, usize, &str)]) -> Vec<Verse> {
        let verse = |&(chapter, verse, text): &(&str, usize, &str)| Verse {
            reference: Reference { chapter: chapter.into(), verse },
            markup: text.into(),
        };
        all.iter().map(verse).collect()
    }

    #[test]
    fn chapters_that_count_otherwise_are_left_out() {
        let english = verses(&[
            ("Job.9", 1, "a b"),
            ("Job.10", 1, "a"),
            ("Job.10", 2, "moved"),
            ("Job.11", 1, "a"),
            ("Job.12", 1, "a"),
            ("Tob.1", 1, "a"),
            ("Ps.1", 1, "one two three four five six seven"),
            ("Ps.2", 1, "a b c d"),
            ("Ps.3", 1, "a b c d e"),
        ]);
        let spanish = verses(&[
            ("Job.9", 1, "c d"),
            ("Job.10", 1, "c"),
            ("Job.10", 2, ""),
            ("Job.11", 1, "moved"),
            ("Job.12", 1, "c"),
            ("Ps.1", 1, "uno"),
            ("Ps.2", 1, "c"),
            ("Ps.3", 1, "c d"),
        ]);
        let Parallel { pairs, counts } = Parallel::of(&english, &spanish, 4);
        let kept: Vec<String> = pairs.iter().map(|pair| pair.reference.to_string()).collect();
        assert_eq!(kept, ["Job.12.1", "Job.9.1", "Ps.2.1"]);
        let expected = Counts {
            verses: 8,
            doubtful_chapters: 2,
            following_chapters: 1,
            in_those: 4,
            longer: 1,
            kept: 3,
        };
        assert_eq!(counts, expected);
        assert_eq!(pairs[1].english.len(), 2);
    }

    /// Counted apart from this code; 31,102 is the number of verses of the King James versification.
    #[test]
    fn the_texts_are_the_published_ones() {
        if data::fetched("bible-english", "SOURCE").is_err()
            || data::fetched("bible-spanish", "SOURCE").is_err()
        {
            eprintln!("SKIPPED: run `cargo xtask fetch bible-english bible-spanish`");
            return;
        }
        let Parallel { pairs, counts } = Parallel::fetched(50).unwrap();
        let expected = Counts {
            verses: 31_102,
            doubtful_chapters: 36,
            following_chapters: 11,
            in_those: 1372,
            longer: 684,
            kept: 29_046,
        };
        assert_eq!(counts, expected);
        let light = pairs.iter().find(|pair| pair.reference.to_string() == "Gen.1.4").unwrap();
        let text = |words: &[Word]| {
            words.iter().map(|word| word.form.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            text(&light.english),
            "God saw the light and saw that it was good God divided the light from the darkness"
        );
        assert_eq!(
            text(&light.spanish),
            "Y vió Dios que la luz era buena y apartó Dios la luz de las tinieblas"
        );
    }
}
