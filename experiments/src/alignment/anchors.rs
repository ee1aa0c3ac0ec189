//! Pairs of words that are known to belong together, without anybody having aligned them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::bible::Pair;
use super::markup::Word;

/// A pair of words, by their places in the English and the Spanish verse.
pub type Link = (usize, usize);

/// Small-letter words of both languages: what a name never is.
pub fn small_words(pairs: &[Pair]) -> BTreeSet<String> {
    let words = pairs.iter().flat_map(|pair| pair.english.iter().chain(&pair.spanish));
    let is_small = |word: &&Word| word.form.chars().next().is_some_and(char::is_lowercase);
    words.filter(is_small).map(|word| word.plain().to_lowercase()).collect()
}

/// Letters of the shortest names that are trusted.
const SHORTEST: usize = 4;

/// Names that are spelt alike in both languages but for accents, stand once in either verse, and are never
/// written in small letters.
pub fn names(pair: &Pair, small: &BTreeSet<String>) -> Vec<Link> {
    let of = |words: &[Word]| -> Vec<String> { words.iter().map(Word::plain).collect() };
    let (english, spanish) = (of(&pair.english), of(&pair.spanish));
    let is_name = |form: &str| {
        form.chars().count() >= SHORTEST
            && form.chars().next().is_some_and(char::is_uppercase)
            && !small.contains(&form.to_lowercase())
    };
    let once = unique(spanish.iter().map(String::as_str).enumerate());
    let own = unique(english.iter().map(String::as_str).enumerate());
    let named = own.iter().filter(|(form, _)| is_name(form));
    named.filter_map(|(form, &place)| Some((place, *once.get(form)?))).collect()
}

/// Words with a Strong's number that no other word of either verse has, and no other number: both translate
/// the same word of the Hebrew or Greek.
pub fn numbers(pair: &Pair) -> Vec<Link> {
    let of = |words: &[Word]| -> BTreeMap<String, usize> {
        let each = words.iter().enumerate();
        let all =
            unique(each.flat_map(|(place, w)| w.numbers.iter().map(move |n| (place, n.as_str()))));
        let alone = all.into_iter().filter(|&(_, place)| words[place].numbers.len() == 1);
        alone.map(|(number, place)| (number.to_owned(), place)).collect()
    };
    let (english, spanish) = (of(&pair.english), of(&pair.spanish));
    english.iter().filter_map(|(n, &place)| Some((place, *spanish.get(n)?))).collect()
}

/// Entries that come once, with their places.
fn unique<'s>(all: impl Iterator<Item = (usize, &'s str)>) -> BTreeMap<&'s str, usize> {
    let mut found: BTreeMap<&str, Option<usize>> = BTreeMap::new();
    for (place, own) in all {
        found.entry(own).and_modify(|place| *place = None).or_insert(Some(place));
    }
    found.into_iter().filter_map(|(own, place)| Some((own, place?))).collect()
}

/// How many anchors an alignment has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Found {
    pub anchors: usize,
    /// Those whose words are linked to each other.
    pub linked: usize,
    /// Links of words of anchors, to each other and to others.
    pub links: usize,
}

impl Found {
    /// Adds a verse with its links, each once.
    pub fn add(&mut self, anchors: &[Link], links: &BTreeSet<Link>) {
        self.anchors += anchors.len();
        self.linked += anchors.iter().filter(|anchor| links.contains(anchor)).count();
        let [english, spanish]: [BTreeSet<usize>; 2] = [
            anchors.iter().map(|anchor| anchor.0).collect(),
            anchors.iter().map(|anchor| anchor.1).collect(),
        ];
        let touches = |link: &&Link| english.contains(&link.0) || spanish.contains(&link.1);
        self.links += links.iter().filter(touches).count();
    }

    /// Share of the links of anchors' words that are anchors.
    pub fn precision(&self) -> f64 {
        self.linked as f64 / self.links.max(1) as f64
    }

    /// Share of the anchors that are linked.
    pub fn recall(&self) -> f64 {
        self.linked as f64 / self.anchors.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::sword::Reference;
    use super::*;

    fn pair(english: &[(&str, &[&str])], spanish: &[(&str, &[&str])]) -> Pair {
        let words = |all: &[(&str, &[&str])]| {
            let word = |(form, numbers): &(&str, &[&str])| Word {
                form: (*form).to_owned(),
                numbers: numbers.iter().map(|n| (*n).to_owned()).collect(),
            };
            all.iter().map(word).collect()
        };
        let reference = Reference { chapter: "Gen.1".into(), verse: 1 };
        Pair { reference, english: words(english), spanish: words(spanish) }
    }

    #[test]
    fn names_are_capitals_spelt_alike_that_come_once() {
        let pair = pair(
            &[
                ("Once", &[]),
                ("David", &[]),
                ("Moab", &[]),
                ("Moab", &[]),
                ("Levi", &[]),
                ("Asa", &[]),
            ],
            &[
                ("Moab", &[]),
                ("Leví", &[]),
                ("once", &[]),
                ("David", &[]),
                ("Asa", &[]),
                ("Once", &[]),
            ],
        );
        let small = small_words(std::slice::from_ref(&pair));
        assert_eq!(small.iter().collect::<Vec<_>>(), ["once"]);
        assert_eq!(names(&pair, &small), [(1, 3), (4, 1)]);
    }

    #[test]
    fn numbers_are_those_of_one_word_on_either_side() {
        let pair = pair(
            &[
                ("in", &["H1"]),
                ("beginning", &["H2"]),
                ("God", &["H1"]),
                ("made", &["H3"]),
                ("sea", &["H5", "H6"]),
            ],
            &[
                ("principio", &["H2"]),
                ("Dios", &["H1"]),
                ("hizo", &["H3"]),
                ("y", &["H3"]),
                ("mar", &["H5"]),
            ],
        );
        // Two English words have H1 and two Spanish ones H3; the sea has two numbers.
        assert_eq!(numbers(&pair), [(1, 0)]);
    }

    #[test]
    fn precision_and_recall_count_links_of_anchors_alone() {
        let mut found = Found::default();
        let links = BTreeSet::from([(0, 0), (1, 2), (2, 1), (5, 5)]);
        found.add(&[(0, 0), (1, 1)], &links);
        // The links (1, 2) and (2, 1) touch the second anchor, which is not linked.
        assert_eq!(found, Found { anchors: 2, linked: 1, links: 3 });
        assert_eq!((found.recall(), found.precision()), (0.5, 1.0 / 3.0));
    }
}
