//! How good predicted heads and their probabilities are.

use serde::{Deserialize, Serialize};

/// Whether these heads of words 1, 2 … make a tree with one edge into its root, word 0.
pub fn is_tree(heads: &[usize]) -> bool {
    let words = heads.len();
    let reaches_root = |mut word: usize| {
        for _ in 0..=words {
            match word {
                0 => return true,
                _ if word > words => return false,
                _ => word = heads[word - 1],
            }
        }
        false
    };
    heads.iter().filter(|&&head| head == 0).count() == 1 && (1..=words).all(reaches_root)
}

/// Whether no two edges of a tree cross, the root standing before the first word.
pub fn is_projective(heads: &[usize]) -> bool {
    let spans = || heads.iter().zip(1..).map(|(&head, word)| (head.min(word), head.max(word)));
    let crosses = |(a, b): (usize, usize), (c, d): (usize, usize)| a < c && c < b && b < d;
    !spans().any(|one| spans().any(|other| crosses(one, other)))
}

/// Counts of what was predicted right; their sums over sentences are scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Counts {
    pub words: usize,
    pub right: usize,
    /// Words whose edges join words, and those of them whose head is right.
    pub joining: usize,
    pub right_joining: usize,
    pub sentences: usize,
    /// Sentences with every head right.
    pub exact: usize,
    /// Sentences in which the words that hang from the root are the right ones.
    pub roots: usize,
    /// Sentences whose heads are a tree with one root.
    pub trees: usize,
}

impl Counts {
    /// Adds a sentence: its heads as predicted and as they are, and which of
    /// its words' edges join words.
    pub fn add(&mut self, predicted: &[usize], gold: &[usize], joins_words: &[bool]) {
        let pairs = || predicted.iter().zip(gold);
        let right = |(predicted, gold): (&usize, &usize)| predicted == gold;
        self.words += gold.len();
        self.right += pairs().filter(|&pair| right(pair)).count();
        let joining = || pairs().zip(joins_words).filter(|(_, joins)| **joins);
        self.joining += joining().count();
        self.right_joining += joining().filter(|(pair, _)| right(*pair)).count();
        self.sentences += 1;
        self.exact += usize::from(pairs().all(right));
        let hangs = |(predicted, gold): (&usize, &usize)| (*predicted == 0) == (*gold == 0);
        self.roots += usize::from(pairs().all(hangs));
        self.trees += usize::from(is_tree(predicted));
    }

    /// Unlabelled attachment score: share of the words whose head is right, punctuation included.
    pub fn attachment(&self) -> f64 {
        share(self.right, self.words)
    }

    /// The score over words whose edges join words.
    pub fn attachment_between_words(&self) -> f64 {
        share(self.right_joining, self.joining)
    }

    /// Share of the sentences of which every head is right.
    pub fn exact_match(&self) -> f64 {
        share(self.exact, self.sentences)
    }

    /// Share of the sentences whose root has the right edges.
    pub fn root_accuracy(&self) -> f64 {
        share(self.roots, self.sentences)
    }

    /// Share of the sentences whose heads are a tree with one root.
    pub fn tree_share(&self) -> f64 {
        share(self.trees, self.sentences)
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Probabilities of events in bins of equal width, and how many came true.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Reliability {
    pub bins: Vec<Bin>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Bin {
    pub count: usize,
    /// Sum of the probabilities.
    pub probability: f64,
    /// Events that came true.
    pub true_events: usize,
}

impl Bin {
    /// Mean probability, and the share that came true.
    pub fn means(&self) -> Option<(f64, f64)> {
        let count = self.count as f64;
        (self.count > 0).then(|| (self.probability / count, self.true_events as f64 / count))
    }
}

impl Reliability {
    pub fn new(bins: usize) -> Self {
        Self { bins: vec![Bin::default(); bins] }
    }

    /// Adds an event with its probability; a bin holds its lower end, the last one also 1.
    pub fn add(&mut self, probability: f64, is_true: bool) {
        let bins = self.bins.len();
        let place = ((probability * bins as f64) as usize).min(bins - 1);
        let bin = &mut self.bins[place];
        bin.count += 1;
        bin.probability += probability;
        bin.true_events += usize::from(is_true);
    }

    /// Expected calibration error (Naeini, Cooper & Hauskrecht 2015): the mean over events of how far the
    /// mean probability of a bin lies from the share that came true.
    pub fn expected_error(&self) -> f64 {
        let count: usize = self.bins.iter().map(|bin| bin.count).sum();
        let gap = |bin: &Bin| (bin.probability - bin.true_events as f64).abs();
        self.bins.iter().map(gap).sum::<f64>() / count.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_have_one_root_and_no_circle() {
        assert!(is_tree(&[2, 0, 2]) && is_tree(&[0]));
        // Two roots; none; a circle beside the root; a word that hangs from itself; no such word.
        for heads in [&[0, 0][..], &[2, 1], &[0, 3, 2], &[0, 2], &[0, 7], &[]] {
            assert!(!is_tree(heads), "{heads:?}");
        }
    }

    /// Counted for all trees of a few words: with one edge into the root, projective trees of n words are
    /// C(3n − 2, n − 1) / n (ternary trees, A006013), and trees n^(n−1).
    #[test]
    fn trees_and_projective_trees_are_as_many_as_they_should_be() {
        for (words, projective, all) in
            [(1, 1, 1), (2, 2, 2), (3, 7, 9), (4, 30, 64), (5, 143, 625)]
        {
            let (mut found, mut crossing_free) = (0, 0);
            for number in 0..(words + 1usize).pow(words as u32) {
                let head = |word: u32| number / (words + 1).pow(word) % (words + 1);
                let heads: Vec<usize> = (0..words as u32).map(head).collect();
                if is_tree(&heads) {
                    found += 1;
                    crossing_free += usize::from(is_projective(&heads));
                }
            }
            assert_eq!((crossing_free, found), (projective, all), "{words} words");
        }
    }

    #[test]
    fn counts_of_trees_by_hand() {
        let mut counts = Counts::default();
        // One head wrong, on a word that counts; then all right; then the root missed, no tree.
        counts.add(&[2, 0, 1, 2], &[2, 0, 2, 2], &[true, true, true, false]);
        counts.add(&[0, 1], &[0, 1], &[true, false]);
        counts.add(&[2, 1, 0], &[2, 0, 2], &[true; 3]);
        assert_eq!((counts.words, counts.right), (9, 3 + 2 + 1));
        assert_eq!((counts.joining, counts.right_joining), (7, 2 + 1 + 1));
        assert_eq!((counts.sentences, counts.exact, counts.roots, counts.trees), (3, 1, 2, 2));
        assert_eq!(counts.attachment(), 6.0 / 9.0);
        assert_eq!(counts.attachment_between_words(), 4.0 / 7.0);
        assert_eq!(counts.exact_match(), 1.0 / 3.0);
        assert_eq!((counts.root_accuracy(), counts.tree_share()), (2.0 / 3.0, 2.0 / 3.0));
    }

    #[test]
    fn probabilities_are_compared_with_what_came_true() {
        let mut reliability = Reliability::new(4);
        for (probability, is_true) in
            [(0.0, false), (0.1, true), (0.25, false), (0.75, true), (1.0, true), (0.95, false)]
        {
            reliability.add(probability, is_true);
        }
        let counts: Vec<usize> = reliability.bins.iter().map(|bin| bin.count).collect();
        assert_eq!(counts, [2, 1, 0, 3]);
        assert_eq!(reliability.bins[2].means(), None);
        let (mean, share) = reliability.bins[3].means().unwrap();
        assert!((mean - 0.9).abs() < 1e-15 && (share - 2.0 / 3.0).abs() < 1e-15);
        // (2 · |0.05 − 0.5| + |0.25 − 0| + 3 · |0.9 − 2/3|) / 6
        let expected = (0.9 + 0.25 + 0.7) / 6.0;
        assert!((reliability.expected_error() - expected).abs() < 1e-15);
    }
}
