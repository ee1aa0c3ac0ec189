//! Best edge sets: the recursion with max for addition and + for multiplication.
//!
//! The k best of a cell are found lazily from those of its parts (Huang & Chiang, *Better k-best Parsing*,
//! IWPT 2005, algorithm 2): the best derivation of every rule first, and behind each that is taken the two
//! that take the next best of one part.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::recursion::{NONE, Rule, Size, Unfold};
use crate::infer::coupled::{EdgeSet, Scores};

/// One of the best ways to make a cell.
#[derive(Clone, Copy, Debug)]
struct Derivation {
    score: f64,
    rule: Rule,
    /// Which of the best of each part.
    ranks: [u32; 2],
}

/// The best ways to make every cell, best first.
struct Best<'s> {
    scores: &'s Scores<'s>,
    cells: Vec<Vec<Derivation>>,
}

impl Best<'_> {
    /// A derivation by a rule from parts of these ranks, where there are such.
    fn derivation(&self, rule: Rule, ranks: [u32; 2]) -> Option<Derivation> {
        let mut score = 0.0;
        for (part, rank) in rule.parts.into_iter().zip(ranks) {
            if part == NONE {
                if rank > 0 {
                    return None;
                }
                continue;
            }
            score += self.cells[part as usize].get(rank as usize)?.score;
        }
        for own in rule.scores() {
            score += self.scores.values[own];
        }
        (score > f64::NEG_INFINITY).then_some(Derivation { score, rule, ranks })
    }

    /// The edges of a derivation, in order.
    fn edges(&self, derivation: &Derivation) -> Vec<usize> {
        let (mut edges, mut open) = (Vec::new(), vec![*derivation]);
        while let Some(Derivation { rule, ranks, .. }) = open.pop() {
            edges.extend(rule.scores().filter(|&score| score < self.scores.edges));
            for (part, rank) in rule.parts.into_iter().zip(ranks).filter(|(part, _)| *part != NONE)
            {
                open.push(self.cells[part as usize][rank as usize]);
            }
        }
        edges.sort_unstable();
        edges
    }

    /// Higher scores first; of equal ones the edge set whose edges come first.
    fn order(&self, a: &Derivation, b: &Derivation) -> Ordering {
        a.score.total_cmp(&b.score).then_with(|| earlier(&self.edges(a), &self.edges(b)))
    }

    /// The best derivations of a cell.
    fn best_of(&self, rules: &[Rule], count: usize) -> Vec<Derivation> {
        let first = rules.iter().filter_map(|&rule| self.derivation(rule, [0, 0]));
        if count == 1 {
            return first.max_by(|a, b| self.order(a, b)).into_iter().collect();
        }
        let waiting = |derivation| Waiting { best: self, derivation };
        let mut heap: BinaryHeap<_> = first.map(waiting).collect();
        let mut best = Vec::new();
        while let Some(Waiting { derivation, .. }) = heap.pop() {
            best.push(derivation);
            if best.len() == count {
                break;
            }
            let Derivation { rule, ranks: [a, b], .. } = derivation;
            heap.extend(self.derivation(rule, [a + 1, b]).map(waiting));
            // Each pair of ranks is reached by one way: the second part moves only at the first's best.
            if a == 0 {
                heap.extend(self.derivation(rule, [a, b + 1]).map(waiting));
            }
        }
        best
    }
}

/// Greater is the set that has the first edge in which the two differ.
fn earlier(a: &[usize], b: &[usize]) -> Ordering {
    let differ = a.iter().zip(b).find(|(a, b)| a != b);
    match differ {
        Some((a, b)) => b.cmp(a),
        None => a.len().cmp(&b.len()),
    }
}

struct Waiting<'b, 's> {
    best: &'b Best<'s>,
    derivation: Derivation,
}

impl PartialEq for Waiting<'_, '_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Waiting<'_, '_> {}
impl PartialOrd for Waiting<'_, '_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting<'_, '_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.best.order(&self.derivation, &other.derivation)
    }
}

/// The `count` best edge sets, best first.
pub(super) fn best(unfold: &dyn Unfold, scores: &Scores<'_>, count: usize) -> Vec<EdgeSet> {
    let recursion = unfold.unfold(Size::of(scores));
    let goal = recursion.goal(scores.queries, scores.keys);
    let mut all = Best { scores, cells: Vec::with_capacity(goal + 1) };
    let mut rules = Vec::new();
    for cell in 0..=goal {
        rules.clear();
        recursion.rules(cell, &mut rules);
        let best = all.best_of(&rules, count);
        all.cells.push(best);
    }
    let set = |own: &Derivation| EdgeSet { score: own.score, edges: all.edges(own) };
    all.cells[goal].iter().map(set).collect()
}

/// Highest score of the edge sets in which each score counts; −∞ where it counts in none.
pub(super) fn max_marginals(unfold: &dyn Unfold, scores: &Scores<'_>) -> Vec<f64> {
    let recursion = unfold.unfold(Size::of(scores));
    let goal = recursion.goal(scores.queries, scores.keys);
    let impossible = f64::NEG_INFINITY;
    let mut inside = vec![impossible; goal + 1];
    let mut rules = Vec::new();
    let part = |inside: &[f64], part: u32| match part {
        NONE => 0.0,
        part => inside[part as usize],
    };
    let own = |rule: &Rule| rule.scores().map(|own| scores.values[own]).sum::<f64>();
    for cell in 0..=goal {
        rules.clear();
        recursion.rules(cell, &mut rules);
        let of_rule =
            |rule: &Rule| part(&inside, rule.parts[0]) + part(&inside, rule.parts[1]) + own(rule);
        inside[cell] = rules.iter().map(of_rule).fold(impossible, f64::max);
    }
    let mut outside = vec![impossible; goal + 1];
    outside[goal] = 0.0;
    let mut highest = vec![impossible; scores.values.len()];
    for cell in (0..=goal).rev().filter(|&cell| inside[cell] > impossible) {
        let around = outside[cell];
        if around == impossible {
            continue;
        }
        rules.clear();
        recursion.rules(cell, &mut rules);
        for rule in &rules {
            let [a, b] = rule.parts;
            let (x, y) = (part(&inside, a), part(&inside, b));
            let own = around + own(rule);
            for (of, other) in [(a, y), (b, x)] {
                if of != NONE {
                    let into = &mut outside[of as usize];
                    *into = into.max(own + other);
                }
            }
            for score in rule.scores() {
                highest[score] = highest[score].max(own + x + y);
            }
        }
    }
    highest
}
