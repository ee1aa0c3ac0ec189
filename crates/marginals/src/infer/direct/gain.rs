//! Sums of scores that are compared.

use std::cmp::Ordering;

/// Number of edges into the root, fewest first, and a sum of scores, largest first.
///
/// Adding, subtracting and comparing are all that Edmonds' algorithm does, and both are exact here:
/// the number is one, in place of a large penalty that would swamp the scores, and the sum is kept
/// in two doubles, so that what is subtracted from a score does not decide between others. Ties of
/// scores are ties of sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Gain {
    root_edges: i32,
    high: f64,
    low: f64,
}

impl Gain {
    /// No edges.
    pub const ZERO: Self = Self { root_edges: 0, high: 0.0, low: 0.0 };

    /// One edge; `root_edges` is 1 where it goes into the root and that counts.
    pub fn of(score: f64, root_edges: i32) -> Self {
        Self { root_edges, high: score, low: 0.0 }
    }

    /// The sum of the scores.
    pub fn score(self) -> f64 {
        self.high + self.low
    }

    /// Edges into the root.
    pub fn root_edges(self) -> i32 {
        self.root_edges
    }

    pub fn plus(self, other: Self) -> Self {
        let (high, rest) = two_sum(self.high, other.high);
        let (low, last) = two_sum(self.low, other.low);
        let (high, rest) = fast_two_sum(high, rest + low);
        let (high, low) = fast_two_sum(high, rest + last);
        Self { root_edges: self.root_edges + other.root_edges, high, low }
    }

    pub fn minus(self, other: Self) -> Self {
        let Self { root_edges, high, low } = other;
        self.plus(Self { root_edges: -root_edges, high: -high, low: -low })
    }

    /// Greater is better.
    pub fn compare(self, other: Self) -> Ordering {
        let scores = self.high.total_cmp(&other.high).then(self.low.total_cmp(&other.low));
        // Zeros of either sign are one.
        let scores =
            if self.high == other.high && self.low == other.low { Ordering::Equal } else { scores };
        other.root_edges.cmp(&self.root_edges).then(scores)
    }

    pub fn is_above(self, other: Self) -> bool {
        self.compare(other) == Ordering::Greater
    }
}

/// a + b and its rounding error (Knuth).
pub(super) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let of_b = sum - a;
    (sum, (a - (sum - of_b)) + (b - of_b))
}

/// The same where |a| ≥ |b| (Dekker).
fn fast_two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    (sum, b - (sum - a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_and_edges_into_the_root_come_first() {
        let small = Gain::of(0.1, 0);
        let sum = Gain::of(1e16, 1).plus(small).plus(Gain::of(-1e16, -1));
        assert_eq!(sum, small);
        assert!(Gain::of(-1e9, 0).is_above(Gain::of(1e9, 1)));
        assert!(small.plus(Gain::of(1e16, 0)).is_above(Gain::of(1e16, 0)));
        assert_eq!(Gain::of(0.0, 0).compare(Gain::of(-0.0, 0)), Ordering::Equal);
        assert_eq!(small.minus(small), Gain::ZERO);
        assert_eq!(sum.score(), 0.1);
    }
}
