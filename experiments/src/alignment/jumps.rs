//! Jumps from one picked word to the next (Vogel, Ney & Tillmann, COLING 1996).

use std::collections::BTreeMap;

use ndarray::Array2;

/// Probabilities of jumps along a verse of m words, from place p to place j:
///
/// ```text
/// p(j | p, m) = f(j − p) / Σ_l f(l − p),    l = 1 … m
/// ```
///
/// Place 0 is before the first word, where every alignment begins. Weights f > 0 know no scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Jumps {
    longest: usize,
    /// f of jumps from −(longest − 1) to longest.
    weights: Vec<f64>,
    /// Pseudo-counts of every jump, against the sum of all weights.
    strength: f64,
}

/// Expected jumps by length of the verse, [m + 1 places from, m places to].
pub type Statistics = BTreeMap<usize, Array2<f64>>;

/// Rounds of the maximisation in one step of EM, each of which makes expected jumps more probable.
const ROUNDS: usize = 10;

impl Jumps {
    /// Jumps within verses of up to `longest` words, all as likely.
    pub fn new(longest: usize, strength: f64) -> Self {
        Self { longest, weights: vec![1.0; 2 * longest], strength }
    }

    /// Place of the weight of a jump from place p to word j, counted from 0, which is place j + 1.
    fn place(&self, p: usize, j: usize) -> usize {
        j + self.longest - p
    }

    /// Weights of the jumps from −most to most, relative to the sum of these.
    pub fn nearest(&self, most: usize) -> Vec<f64> {
        let none = self.longest - 1;
        let own = none.saturating_sub(most)..self.weights.len().min(none + most + 1);
        let own = &self.weights[own];
        own.iter().map(|f| f / own.iter().sum::<f64>()).collect()
    }

    /// log p(j | p, m) of all words j.
    pub fn log_probabilities(&self, p: usize, m: usize) -> Vec<f64> {
        let own = &self.weights[self.place(p, 0)..self.place(p, m)];
        let log_sum = own.iter().sum::<f64>().ln();
        own.iter().map(|f| f.ln() - log_sum).collect()
    }

    /// Weights that make expected jumps more probable, by an algorithm of minorisation and maximisation
    /// (Hunter, Annals of Statistics 32, 2004): with n(p, m) the jumps from p, for every jump d
    ///
    /// ```text
    /// f(d) ← c(d) / Σ_{p, m from which d is possible} n(p, m) / Σ_l f(l − p)
    /// ```
    pub fn learn(&mut self, statistics: &Statistics) {
        let mut counts = vec![self.strength; self.weights.len()];
        for (&m, moves) in statistics {
            for (p, row) in moves.outer_iter().enumerate() {
                let own = &mut counts[self.place(p, 0)..self.place(p, m)];
                own.iter_mut().zip(row).for_each(|(sum, c)| *sum += c);
            }
        }
        for _ in 0..ROUNDS {
            let pseudo = self.strength * self.weights.len() as f64;
            let mut shares = vec![pseudo / self.weights.iter().sum::<f64>(); self.weights.len()];
            for (&m, moves) in statistics {
                for (p, row) in moves.outer_iter().enumerate() {
                    let own = self.place(p, 0)..self.place(p, m);
                    let share = row.sum() / self.weights[own.clone()].iter().sum::<f64>();
                    shares[own].iter_mut().for_each(|sum| *sum += share);
                }
            }
            for ((f, count), share) in self.weights.iter_mut().zip(&counts).zip(shares) {
                *f = count / share;
            }
            let sum: f64 = self.weights.iter().sum();
            self.weights.iter_mut().for_each(|f| *f /= sum);
        }
    }

    /// Logarithm of the prior density of the weights, but for a constant.
    pub fn log_prior(&self) -> f64 {
        let log_sum = self.weights.iter().sum::<f64>().ln();
        self.strength * self.weights.iter().map(|f| f.ln() - log_sum).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Log-likelihood of expected jumps, with the prior.
    fn objective(jumps: &Jumps, statistics: &Statistics) -> f64 {
        let mut sum = jumps.log_prior();
        for (&m, moves) in statistics {
            for (p, row) in moves.outer_iter().enumerate() {
                let log = jumps.log_probabilities(p, m);
                sum += row.iter().zip(log).map(|(c, x)| c * x).sum::<f64>();
            }
        }
        sum
    }

    #[test]
    fn places_are_counted_from_before_the_first_word() {
        let mut jumps = Jumps::new(3, 1.0);
        jumps.weights = vec![1.0, 2.0, 3.0, 10.0, 5.0, 6.0];
        // Jumps −2 … 3. From before the first word to the words: 1, 2, 3.
        assert_eq!(jumps.nearest(1), [2.0 / 15.0, 3.0 / 15.0, 10.0 / 15.0]);
        assert_eq!(jumps.nearest(9).len(), 6);
        let expected = [10.0 / 21.0, 5.0 / 21.0, 6.0 / 21.0];
        for (found, expected) in jumps.log_probabilities(0, 3).iter().zip(expected) {
            assert!((found.exp() - expected).abs() < 1e-15);
        }
        // From the second word: back, none, forward.
        let expected = [2.0 / 15.0, 3.0 / 15.0, 10.0 / 15.0];
        for (found, expected) in jumps.log_probabilities(2, 3).iter().zip(expected) {
            assert!((found.exp() - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn every_round_makes_expected_jumps_more_probable() {
        let moves = |m: usize| {
            Array2::from_shape_fn((m + 1, m), |(p, j)| ((7 * p + 3 * j + m) % 5) as f64 + 0.1)
        };
        let statistics: Statistics = [2, 3, 5].into_iter().map(|m| (m, moves(m))).collect();
        let mut jumps = Jumps::new(5, 0.5);
        let mut before = objective(&jumps, &statistics);
        for step in 0..200 {
            jumps.learn(&statistics);
            let found = objective(&jumps, &statistics);
            assert!(found >= before - 1e-9, "step {step}: {found} after {before}");
            before = found;
        }
        // At the maximum no small change helps.
        for place in 0..jumps.weights.len() {
            for factor in [0.98, 1.02] {
                let mut other = jumps.clone();
                other.weights[place] *= factor;
                assert!(objective(&other, &statistics) < before, "{place} {factor}");
            }
        }
    }
}
