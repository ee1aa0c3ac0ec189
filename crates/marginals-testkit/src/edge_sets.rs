//! Posteriors over edge sets that are listed one by one.
//!
//! A set is its edges and what else it is scored by; every answer is a sum over the list.

use ndarray::{Array1, Array2};

/// A possible edge set.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeSet {
    /// Its edges, by query and key, in order.
    pub edges: Vec<(usize, usize)>,
    /// Score beside those of its edges.
    pub own: f64,
}

/// Every assignment of a key or of none to each of `queries` queries, as sets of edges.
pub fn assignments(queries: usize, keys: usize) -> Vec<Vec<Option<usize>>> {
    let mut all = vec![Vec::new()];
    for _ in 0..queries {
        all = all
            .into_iter()
            .flat_map(|begun: Vec<Option<usize>>| {
                (0..=keys).map(move |key| {
                    let mut longer = begun.clone();
                    longer.push((key < keys).then_some(key));
                    longer
                })
            })
            .collect();
    }
    all
}

/// The edges of an assignment.
pub fn edges(keys: &[Option<usize>]) -> Vec<(usize, usize)> {
    keys.iter().enumerate().filter_map(|(i, key)| key.map(|j| (i, j))).collect()
}

/// Log-weights of sets, normalised.
#[derive(Clone, Debug)]
pub struct Posterior<'s> {
    sets: &'s [EdgeSet],
    /// Σ θ and the own score, of every set; −∞ is impossible.
    pub scores: Vec<f64>,
    /// log Z; −∞ where nothing is possible.
    pub log_partition: f64,
    /// p of every set.
    pub probabilities: Vec<f64>,
    sizes: (usize, usize),
}

impl<'s> Posterior<'s> {
    /// p(φ) ∝ exp(Σ_ij φ_ij θ_ij + own).
    pub fn new(sets: &'s [EdgeSet], scores: &Array2<f64>) -> Self {
        let score = |set: &EdgeSet| {
            set.own + set.edges.iter().map(|&edge| scores[[edge.0, edge.1]]).sum::<f64>()
        };
        let all: Vec<f64> = sets.iter().map(score).collect();
        let max = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_partition = match max {
            f64::NEG_INFINITY => max,
            _ => max + all.iter().map(|x| (x - max).exp()).sum::<f64>().ln(),
        };
        let probability = |&x: &f64| match log_partition {
            f64::NEG_INFINITY => 0.0,
            z => (x - z).exp(),
        };
        let probabilities = all.iter().map(probability).collect();
        Self { sets, scores: all, log_partition, probabilities, sizes: scores.dim() }
    }

    /// E\[f\] of a function of the set, over the sets that are possible.
    pub fn expect(&self, f: impl Fn(&EdgeSet) -> f64) -> f64 {
        let all = self.sets.iter().zip(&self.probabilities).filter(|(_, p)| **p > 0.0);
        all.map(|(set, p)| p * f(set)).sum()
    }

    /// P(φ_ij = 1).
    pub fn marginals(&self) -> Array2<f64> {
        let mut all = Array2::zeros(self.sizes);
        for (set, p) in self.sets.iter().zip(&self.probabilities) {
            set.edges.iter().for_each(|&(i, j)| all[[i, j]] += p);
        }
        all
    }

    /// P(φ_ij = 1 and φ_e = 1).
    pub fn joint(&self, edge: (usize, usize)) -> Array2<f64> {
        let mut all = Array2::zeros(self.sizes);
        for (set, p) in self.sets.iter().zip(&self.probabilities) {
            if set.edges.contains(&edge) {
                set.edges.iter().for_each(|&(i, j)| all[[i, j]] += p);
            }
        }
        all
    }

    /// −E\[log p\]; 0 where nothing is possible.
    pub fn entropy(&self) -> f64 {
        let each = self.probabilities.iter().zip(&self.scores).filter(|(p, _)| **p > 0.0);
        each.map(|(p, score)| p * (self.log_partition - score)).sum()
    }

    /// Largest score of the sets that have each edge.
    pub fn max_marginals(&self) -> Array2<f64> {
        let mut all = Array2::from_elem(self.sizes, f64::NEG_INFINITY);
        for (set, &score) in self.sets.iter().zip(&self.scores) {
            for &(i, j) in &set.edges {
                all[[i, j]] = all[[i, j]].max(score);
            }
        }
        all
    }

    /// Log of the number of possible sets.
    pub fn log_count(&self) -> f64 {
        (self.scores.iter().filter(|x| **x > f64::NEG_INFINITY).count() as f64).ln()
    }

    /// The possible sets, best first; those of equal score in the order of the first edge in which they
    /// differ.
    pub fn ranked(&self) -> Vec<(f64, &'s EdgeSet)> {
        let possible = self.scores.iter().zip(self.sets).filter(|(x, _)| **x > f64::NEG_INFINITY);
        let mut all: Vec<(f64, &EdgeSet)> = possible.map(|(&x, set)| (x, set)).collect();
        all.sort_by(|a, b| {
            b.0.total_cmp(&a.0).then_with(|| {
                // A set that goes on where the other has ended has the edge in which they differ.
                let differ = a.1.edges.iter().zip(&b.1.edges).find(|(x, y)| x != y);
                match differ {
                    Some((x, y)) => x.cmp(y),
                    None => b.1.edges.len().cmp(&a.1.edges.len()),
                }
            })
        });
        all
    }

    /// Mean of the sums that queries gather of the values, E\[Σ_j φ_ij v_j\], and their variance.
    pub fn gathered(&self, values: &Array2<f64>) -> (Array2<f64>, Array2<f64>) {
        let (queries, width) = (self.sizes.0, values.ncols());
        let of_set = |set: &EdgeSet| {
            let mut sums = Array2::<f64>::zeros((queries, width));
            for &(i, j) in &set.edges {
                let mut row = sums.row_mut(i);
                row += &values.row(j);
            }
            sums
        };
        let mut mean = Array2::zeros((queries, width));
        let each = || self.sets.iter().zip(&self.probabilities).filter(|(_, p)| **p > 0.0);
        each().for_each(|(set, &p)| mean.scaled_add(p, &of_set(set)));
        let mut variance = Array2::zeros((queries, width));
        for (set, &p) in each() {
            let apart = of_set(set) - &mean;
            variance.scaled_add(p, &(&apart * &apart));
        }
        (mean, variance)
    }

    /// E\[Σ_j φ_ij f_ij\] of every query.
    pub fn expect_of_edges(&self, f: &Array2<f64>) -> Array1<f64> {
        let p = self.marginals();
        let counts = |(p, f): (&f64, &f64)| if *p == 0.0 { 0.0 } else { p * f };
        (p.outer_iter().zip(f.outer_iter()))
            .map(|(p, f)| p.iter().zip(f).map(counts).sum())
            .collect()
    }
}
