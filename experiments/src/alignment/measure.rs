//! Learned models on verses that they have not seen.

use std::collections::BTreeSet;
use std::f64::consts::LN_2;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::anchors::{Found, Link};
use super::corpus::{Direction, Sentence};
use super::learning::Model;
use super::posterior::{Alignment, align, batches};
use super::structure::Batch;
use crate::Outcome;

/// Known links between the words of held-out verses, by verse.
pub struct Anchors {
    pub names: Vec<Vec<Link>>,
    pub numbers: Vec<Vec<Link>>,
}

/// Anchors that links have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct AnchorsFound {
    /// Names spelt alike.
    pub names: Found,
    /// Strong's numbers.
    pub numbers: Found,
}

impl AnchorsFound {
    pub fn of(anchors: &Anchors, links: &[BTreeSet<Link>]) -> Self {
        let mut found = Self::default();
        for (verse, links) in links.iter().enumerate() {
            found.names.add(&anchors.names[verse], links);
            found.numbers.add(&anchors.numbers[verse], links);
        }
        found
    }
}

/// Measures of one direction.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Measured {
    /// Bits per target word.
    pub bits: f64,
    /// Bits per target word where a verse is explained by others of the same length, in the mean.
    pub wrong: f64,
    /// Share of the verses whose translation explains them better than any of those.
    pub ranked: f64,
    /// Entropy of the alignment in bits per target word.
    pub entropy: f64,
    /// Share of the target words that the most probable alignment gives to the null word.
    pub nulls: f64,
    pub anchors: AnchorsFound,
}

/// Alignments of verses.
pub fn alignments(model: &Model, verses: &[Sentence]) -> Outcome<Vec<Alignment>> {
    let sizes: Vec<_> =
        verses.iter().map(|verse| (verse.target.len(), verse.source.len())).collect();
    let mut all: Vec<Option<Alignment>> = verses.iter().map(|_| None).collect();
    for batch in batches(&sizes, &model.structure) {
        let potentials =
            |&verse: &usize| model.potentials(&verses[verse].source, &verses[verse].target);
        let potentials: Vec<Array2<f64>> = batch.iter().map(potentials).collect();
        let found =
            align(&model.structure, &Batch { words: sizes[batch[0]].1, verses: &potentials })?;
        batch.iter().zip(found).for_each(|(&verse, own)| all[verse] = Some(own));
    }
    Ok(all.into_iter().map(|own| own.expect("every verse is in a batch")).collect())
}

/// Links of every verse, by English and Spanish word.
pub fn links(direction: Direction, alignments: &[Alignment]) -> Vec<BTreeSet<Link>> {
    let of_verse = |alignment: &Alignment| {
        let picks = alignment.best.iter().enumerate();
        let links = picks.filter_map(|(target, source)| Some((target, (*source)?)));
        let by_language = |(target, source): (usize, usize)| match direction {
            Direction::ToSpanish => (source, target),
            Direction::ToEnglish => (target, source),
        };
        links.map(by_language).collect()
    };
    alignments.iter().map(of_verse).collect()
}

/// Measures of a model, from the alignments that it found.
pub fn measure(
    model: &Model,
    verses: &[Sentence],
    alignments: &[Alignment],
    candidates: usize,
    anchors: AnchorsFound,
) -> Outcome<Measured> {
    let words: usize = verses.iter().map(|verse| verse.target.len()).sum();
    let per_word = |of: &dyn Fn(&Alignment) -> f64| {
        alignments.iter().map(of).sum::<f64>() / words.max(1) as f64
    };
    let (ranked, wrong) = rank(model, verses, candidates)?;
    Ok(Measured {
        bits: per_word(&|own| -own.log_evidence) / LN_2,
        wrong: wrong / (words.max(1) as f64 * LN_2),
        ranked,
        entropy: per_word(&|own| own.entropy) / LN_2,
        nulls: per_word(&|own| own.best.iter().filter(|pick| pick.is_none()).count() as f64),
        anchors,
    })
}

/// Verses whose own translation is compared with others at a time.
const AT_A_TIME: usize = 64;

/// Share of the verses that their own translation explains better than `candidates` − 1 others of the nearest
/// number of words do; and −log-evidence under the others, the mean for each verse, summed over verses.
fn rank(model: &Model, verses: &[Sentence], candidates: usize) -> Outcome<(f64, f64)> {
    let (mut right, mut wrong) = (0usize, 0.0);
    let all: Vec<usize> = (0..verses.len()).collect();
    for some in all.chunks(AT_A_TIME) {
        let others: Vec<Vec<usize>> = some
            .iter()
            .map(|&verse| nearest(verses, verse, candidates.saturating_sub(1)))
            .collect();
        let mut asked: Vec<(&[u32], &[u32])> = Vec::new();
        for (&verse, others) in some.iter().zip(&others) {
            let sources = [verse].into_iter().chain(others.iter().copied());
            asked.extend(sources.map(|other| (&*verses[other].source, &*verses[verse].target)));
        }
        let mut found = model.log_evidence(&asked)?.into_iter();
        for others in &others {
            let own = found.next().expect("a number for each");
            let rest: Vec<f64> = found.by_ref().take(others.len()).collect();
            right += usize::from(rest.iter().all(|&other| own > other));
            wrong -= rest.iter().sum::<f64>() / rest.len().max(1) as f64;
        }
    }
    Ok((right as f64 / verses.len().max(1) as f64, wrong))
}

/// The verses with the nearest number of source words; of equally near ones those that come next.
fn nearest(verses: &[Sentence], own: usize, count: usize) -> Vec<usize> {
    let length = verses[own].source.len();
    let mut others: Vec<usize> = (0..verses.len()).filter(|&other| other != own).collect();
    let behind = |other: usize| (other + verses.len() - own) % verses.len();
    others.sort_by_key(|&other| (verses[other].source.len().abs_diff(length), behind(other)));
    others.truncate(count);
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_by_length_are_found_going_on_from_a_verse() {
        let of = |length: usize| Sentence { source: vec![0; length], target: vec![0] };
        let verses: Vec<Sentence> = [3, 5, 4, 9, 4, 3].into_iter().map(of).collect();
        assert_eq!(nearest(&verses, 2, 3), [4, 5, 0]);
        assert_eq!(nearest(&verses, 0, 9), [5, 2, 4, 1, 3]);
    }

    #[test]
    fn links_are_by_english_and_spanish_word() {
        let alignment = Alignment {
            log_evidence: 0.0,
            entropy: 0.0,
            best: vec![Some(2), None, Some(0)],
            marginals: Array2::zeros((3, 4)),
        };
        let of = |direction| links(direction, std::slice::from_ref(&alignment)).remove(0);
        assert_eq!(of(Direction::ToSpanish), BTreeSet::from([(2, 0), (0, 2)]));
        assert_eq!(of(Direction::ToEnglish), BTreeSet::from([(0, 2), (2, 0)]));
    }
}
