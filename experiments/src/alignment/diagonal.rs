//! The prior of fast_align (Dyer, Chahuneau & Smith, NAACL 2013): words stand about as far along their verse as
//! those that explain them.

use std::collections::BTreeMap;

/// Prior of the words that a target word may pick.
///
/// ```text
/// p(null) = p₀,    p(j | i, n, m) = (1 − p₀) e^{λ h} / Σ_j' e^{λ h'},    h = −|i/n − j/m|
/// ```
///
/// for word i of n and word j of m, both counted from 1; λ is its **tension**.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Diagonal {
    pub null: f64,
    pub tension: f64,
}

/// Tension that is begun with, as in fast_align.
const BEGIN: f64 = 4.0;
/// Largest tension.
const MOST: f64 = 64.0;

/// Expected counts that a tension is learned from.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Expected sum of h.
    sum: f64,
    /// Expected number of picks that are no null word, by lengths (n, m) and place.
    picks: BTreeMap<(usize, usize), Vec<f64>>,
}

impl Statistics {
    /// Adds the posterior of a verse: marginals by row, the null word's last.
    pub fn add<'r>(&mut self, (n, m): (usize, usize), rows: impl Iterator<Item = &'r [f64]>) {
        let picks = self.picks.entry((n, m)).or_insert_with(|| vec![0.0; n]);
        for (i, (row, picks)) in rows.zip(picks).enumerate() {
            for (j, p) in row[..m].iter().enumerate() {
                *picks += p;
                self.sum += p * feature(i, j, (n, m));
            }
        }
    }
}

/// h of word i and word j, counted from 0.
fn feature(i: usize, j: usize, (n, m): (usize, usize)) -> f64 {
    -((i + 1) as f64 / n as f64 - (j + 1) as f64 / m as f64).abs()
}

impl Diagonal {
    pub fn new(null: f64) -> Self {
        Self { null, tension: BEGIN }
    }

    /// Log-weights of one word's picks, the null word's last: they are normalised.
    pub fn log_weights(&self, i: usize, (n, m): (usize, usize)) -> Vec<f64> {
        let scores: Vec<f64> = (0..m).map(|j| self.tension * feature(i, j, (n, m))).collect();
        let log_sum = scores.iter().map(|x| x.exp()).sum::<f64>().ln();
        let of_word = |x: &f64| x - log_sum + (-self.null).ln_1p();
        scores.iter().map(of_word).chain([self.null.ln()]).collect()
    }

    /// The tension that is most probable under expected picks. Its log-likelihood is concave: Newton's
    /// steps, halved into the interval that still holds the maximum.
    pub fn learn(&mut self, statistics: &Statistics) {
        let (mut least, mut most) = (0.0, MOST);
        for _ in 0..60 {
            let (slope, curvature) = derivatives(self.tension, statistics);
            if slope > 0.0 {
                least = self.tension;
            } else {
                most = self.tension;
            }
            let newton = self.tension - slope / curvature;
            let next = match newton > least && newton < most {
                true => newton,
                false => 0.5 * (least + most),
            };
            let step = (next - self.tension).abs();
            self.tension = next;
            if step < 1e-9 {
                break;
            }
        }
    }
}

/// First and second derivative of the log-likelihood in the tension.
fn derivatives(tension: f64, statistics: &Statistics) -> (f64, f64) {
    let (mut slope, mut curvature) = (statistics.sum, 0.0);
    for (&(n, m), picks) in &statistics.picks {
        for (i, picks) in picks.iter().enumerate() {
            let [mut sum, mut first, mut second] = [0.0; 3];
            for j in 0..m {
                let h = feature(i, j, (n, m));
                let weight = (tension * h).exp();
                sum += weight;
                first += weight * h;
                second += weight * h * h;
            }
            let mean = first / sum;
            slope -= picks * mean;
            curvature -= picks * (second / sum - mean * mean);
        }
    }
    (slope, curvature.min(-f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_normalised_and_largest_beside_the_diagonal() {
        let prior = Diagonal { null: 0.1, tension: 5.0 };
        let weights = prior.log_weights(1, (3, 6));
        assert!((weights.iter().map(|x| x.exp()).sum::<f64>() - 1.0).abs() < 1e-14);
        assert!((weights[6].exp() - 0.1).abs() < 1e-15);
        // Word 2 of 3 is as far along as word 4 of 6.
        let best = (0..6).max_by(|&a, &b| weights[a].total_cmp(&weights[b]));
        assert_eq!(best, Some(3));
    }

    /// Picks in the proportions of a tension are explained best by it.
    #[test]
    fn the_tension_that_picks_were_made_with_is_found() {
        for tension in [0.7, 6.3, 30.0] {
            let made = Diagonal { null: 0.2, tension };
            let mut statistics = Statistics::default();
            for (n, m) in [(3, 4), (7, 5)] {
                let rows: Vec<Vec<f64>> = (0..n)
                    .map(|i| made.log_weights(i, (n, m)).iter().map(|x| x.exp()).collect())
                    .collect();
                statistics.add((n, m), rows.iter().map(Vec::as_slice));
            }
            let mut found = Diagonal::new(0.2);
            found.learn(&statistics);
            assert!((found.tension - tension).abs() < 1e-6, "{} {tension}", found.tension);
        }
    }
}
