//! A modern Hopfield network, one state at a time (Ramsauer et al., arXiv 2008.02217, eqs. 1 to 3).

use ndarray::{Array1, Array2, ArrayView1};

/// Stored patterns, one per row, and how sharply they are told apart.
#[derive(Clone, Debug)]
pub struct Memory {
    /// x_i.
    pub patterns: Array2<f64>,
    /// β.
    pub beta: f64,
    /// log of the weight each pattern has beforehand; all 0 in the paper.
    pub log_weights: Vec<f64>,
}

impl Memory {
    /// Patterns that are all equally likely beforehand.
    pub fn new(patterns: Array2<f64>, beta: f64) -> Self {
        let log_weights = vec![0.0; patterns.nrows()];
        Self { patterns, beta, log_weights }
    }

    /// β x_iᵀz + log w_i.
    fn scores(&self, z: ArrayView1<'_, f64>) -> Array1<f64> {
        self.beta * self.patterns.dot(&z) + Array1::from(self.log_weights.clone())
    }

    /// softmax(β X z).
    pub fn softmax(&self, z: ArrayView1<'_, f64>) -> Array1<f64> {
        let scores = self.scores(z);
        let largest = scores.fold(f64::NEG_INFINITY, |a, &s| a.max(s));
        let weights = scores.mapv(|s| (s - largest).exp());
        let sum = weights.sum();
        weights / sum
    }

    /// Xᵀ softmax(β X z).
    pub fn step(&self, z: ArrayView1<'_, f64>) -> Array1<f64> {
        self.patterns.t().dot(&self.softmax(z))
    }

    /// −lse(β, Xz) + ½ zᵀz + β⁻¹ log N + ½ M², N being the sum of the weights.
    pub fn energy(&self, z: ArrayView1<'_, f64>) -> f64 {
        let log_sum = |list: &Array1<f64>| {
            let largest = list.fold(f64::NEG_INFINITY, |a, &s| a.max(s));
            largest + list.mapv(|s| (s - largest).exp()).sum().ln()
        };
        let lse = log_sum(&self.scores(z)) / self.beta;
        let log_n = log_sum(&Array1::from(self.log_weights.clone()));
        let largest = self.patterns.rows().into_iter().map(|x| x.dot(&x).sqrt());
        let m = largest.fold(0.0, f64::max);
        -lse + 0.5 * z.dot(&z) + log_n / self.beta + 0.5 * m * m
    }

    /// min over j ≠ i of x_iᵀx_i − x_iᵀx_j, for every i.
    pub fn separations(&self) -> Vec<f64> {
        let products = self.patterns.dot(&self.patterns.t());
        let of = |i: usize| {
            let others = (0..self.patterns.nrows()).filter(|&j| j != i);
            others.map(|j| products[[i, i]] - products[[i, j]]).fold(f64::INFINITY, f64::min)
        };
        (0..self.patterns.nrows()).map(of).collect()
    }
}
