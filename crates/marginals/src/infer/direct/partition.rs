//! Best solutions in order, by partition.
//!
//! The solutions other than a best one fall into classes: those that differ from it first in choice 0,
//! in choice 1, and so on (Lawler, "A procedure for computing the K best solutions to discrete
//! optimization problems", Management Science 18, 1972; for assignments Murty, "An algorithm for ranking
//! all the assignments in order of increasing cost", Operations Research 16, 1968). The best of each
//! class is found by the algorithm that finds the best of all, with choices forced and left out, and the
//! best of all classes comes next. k solutions of n choices cost k n runs of that algorithm.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Solutions, each made of the same choices, the best of which can be found.
pub(super) trait Space: Clone {
    /// A solution.
    type Solution;

    /// The choices, in order.
    fn choices(&self) -> Vec<usize>;

    /// The solution that comes first, if there is one.
    fn first(&self) -> Option<Self::Solution>;

    /// Less is the one that comes first.
    fn compare(a: &Self::Solution, b: &Self::Solution) -> Ordering;

    /// Decision of a solution in one choice.
    fn decision(solution: &Self::Solution, choice: usize) -> usize;

    /// Leaves the solutions with this decision alone.
    fn force(&mut self, choice: usize, decision: usize);

    /// Leaves those without it.
    fn leave_out(&mut self, choice: usize, decision: usize);
}

/// The solutions of a class, by the one that comes first.
struct Class<S: Space> {
    first: S::Solution,
    /// Choices, in order, that are decided as in that one.
    fixed: usize,
    /// Decisions that the next choice does not take.
    without: Vec<usize>,
}

impl<S: Space> PartialEq for Class<S> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl<S: Space> Eq for Class<S> {}
impl<S: Space> PartialOrd for Class<S> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<S: Space> Ord for Class<S> {
    fn cmp(&self, other: &Self) -> Ordering {
        S::compare(&self.first, &other.first).reverse()
    }
}

/// The first `count` solutions, in order; fewer where there are fewer.
pub(super) fn first<S: Space>(space: &S, count: usize) -> Vec<S::Solution> {
    let mut found = Vec::new();
    let choices = space.choices();
    let mut classes = BinaryHeap::new();
    if count > 0
        && let Some(first) = space.first()
    {
        classes.push(Class::<S> { first, fixed: 0, without: Vec::new() });
    }
    while let Some(Class { first, fixed, mut without }) = classes.pop() {
        if found.len() + 1 == count {
            found.push(first);
            break;
        }
        let mut rest = space.clone();
        for &choice in &choices[..fixed] {
            rest.force(choice, S::decision(&first, choice));
        }
        for (place, &choice) in choices.iter().enumerate().skip(fixed) {
            let decision = S::decision(&first, choice);
            without.push(decision);
            let mut class = rest.clone();
            without.iter().for_each(|&decision| class.leave_out(choice, decision));
            if let Some(other) = class.first() {
                classes.push(Class { first: other, fixed: place, without: without.clone() });
            }
            rest.force(choice, decision);
            without.clear();
        }
        found.push(first);
    }
    found
}
