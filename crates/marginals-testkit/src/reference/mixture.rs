//! A Gaussian mixture, one density at a time (Bishop 2006, eqs. 9.14, 9.23 to 9.27).

use ndarray::{Array2, ArrayView1};

/// Components with diagonal covariances.
#[derive(Clone, Debug)]
pub struct Mixture {
    /// μ_k, one per row.
    pub means: Array2<f64>,
    /// σ²_k, one per row.
    pub variances: Array2<f64>,
    /// π_k.
    pub weights: Vec<f64>,
}

impl Mixture {
    /// log π_k + log N(x; μ_k, σ²_k) of every component.
    fn joint(&self, x: ArrayView1<'_, f64>) -> Vec<f64> {
        let of = |k: usize| {
            let mut sum = self.weights[k].ln();
            for d in 0..x.len() {
                let (mean, variance) = (self.means[[k, d]], self.variances[[k, d]]);
                sum -= 0.5 * (std::f64::consts::TAU * variance).ln();
                sum -= 0.5 * (x[d] - mean).powi(2) / variance;
            }
            sum
        };
        (0..self.weights.len()).map(of).collect()
    }

    /// log p(x).
    pub fn log_density(&self, x: ArrayView1<'_, f64>) -> f64 {
        let joint = self.joint(x);
        let largest = joint.iter().fold(f64::NEG_INFINITY, |a, &s| a.max(s));
        largest + joint.iter().map(|s| (s - largest).exp()).sum::<f64>().ln()
    }

    /// One iteration of EM; all variances of a component share their mean if `spherical`.
    pub fn step(&self, points: &Array2<f64>, spherical: bool) -> Self {
        let responsibilities: Vec<Vec<f64>> = points
            .rows()
            .into_iter()
            .map(|x| {
                let density = self.log_density(x);
                self.joint(x).iter().map(|s| (s - density).exp()).collect()
            })
            .collect();
        let mut next = self.clone();
        let width = points.ncols();
        for k in 0..self.weights.len() {
            let mass: f64 = responsibilities.iter().map(|r| r[k]).sum();
            let average = |f: &dyn Fn(usize) -> f64| {
                (0..points.nrows()).map(|j| responsibilities[j][k] * f(j)).sum::<f64>() / mass
            };
            for d in 0..width {
                let mean = average(&|j| points[[j, d]]);
                next.means[[k, d]] = mean;
                next.variances[[k, d]] = average(&|j| (points[[j, d]] - mean).powi(2));
            }
            if spherical {
                let mean = next.variances.row(k).sum() / width as f64;
                next.variances.row_mut(k).fill(mean);
            }
            next.weights[k] = mass / points.nrows() as f64;
        }
        next
    }
}
