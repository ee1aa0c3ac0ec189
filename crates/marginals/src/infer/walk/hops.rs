//! The distribution of the number of hops.

use ndarray::{Array2, Axis};

use crate::model::head_index;
use crate::{Error, Parameter, Shape};

/// P(h), the distribution of the number of hops.
#[derive(Clone, Debug, PartialEq)]
pub struct HopDistribution {
    /// P(h): one row per head, or one for all.
    probabilities: Array2<f64>,
    given: Given,
}

/// Numbers that P(h) was made from, and is differentiated in.
#[derive(Clone, Debug, PartialEq)]
enum Given {
    /// Weights with these sums.
    Weights(Vec<f64>),
    /// Logarithms of weights.
    LogWeights,
}

impl HopDistribution {
    /// P(h) in proportion to weights over the number of hops, by head: [1 or H, hops + 1].
    ///
    /// # Errors
    /// [`Error`], where the weights are no distribution.
    pub fn of_weights(weights: Array2<f64>) -> Result<Self, Error> {
        check_size("walk.weights", &weights)?;
        if let Some(x) = weights.iter().find(|x| !(x.is_finite() && **x >= 0.0)) {
            return Err(Error::value("walk.weights", "finite numbers of at least 0", x));
        }
        let mut probabilities = weights;
        let mut sums = Vec::with_capacity(probabilities.nrows());
        for mut row in probabilities.rows_mut() {
            // Scaled by the largest, so that no sum overflows.
            let largest = row.fold(0.0, |a: f64, &x| a.max(x));
            if largest == 0.0 {
                return Err(Error::value("walk.weights", "at least one weight above 0", "all 0"));
            }
            row.mapv_inplace(|x| x / largest);
            let sum = row.sum();
            row.mapv_inplace(|x| x / sum);
            sums.push(sum * largest);
        }
        Ok(Self { probabilities, given: Given::Weights(sums) })
    }

    /// P(h) in proportion to the exponentials of log-weights, likewise.
    ///
    /// # Errors
    /// As [`of_weights`](Self::of_weights).
    pub fn of_log_weights(log_weights: Array2<f64>) -> Result<Self, Error> {
        check_size("walk.log-weights", &log_weights)?;
        if let Some(x) = log_weights.iter().find(|x| x.is_nan() || **x == f64::INFINITY) {
            return Err(Error::value("walk.log-weights", "finite numbers, or -inf", x));
        }
        let mut probabilities = log_weights;
        for mut row in probabilities.rows_mut() {
            let largest = row.fold(f64::NEG_INFINITY, |a, &x| a.max(x));
            if largest == f64::NEG_INFINITY {
                let expected = "at least one log-weight above -inf";
                return Err(Error::value("walk.log-weights", expected, "all -inf"));
            }
            row.mapv_inplace(|x| (x - largest).exp());
            let sum = row.sum();
            row.mapv_inplace(|x| x / sum);
        }
        Ok(Self { probabilities, given: Given::LogWeights })
    }

    /// H, the most hops a path may have.
    pub fn hops(&self) -> usize {
        self.probabilities.ncols() - 1
    }

    /// P(h): one row per head, or one for all; [1 or H, hops + 1].
    pub fn probabilities(&self) -> &Array2<f64> {
        &self.probabilities
    }

    /// The weights as a learnable parameter, in the form they were given.
    pub fn parameter(&self) -> Parameter {
        let name = match self.given {
            Given::Weights(_) => "walk.weights",
            Given::LogWeights => "walk.log-weights",
        };
        match self.probabilities.dim() {
            (1, counts) => Parameter::new(name, &[counts]),
            (heads, counts) => Parameter::new(name, &[heads, counts]),
        }
    }

    pub(crate) fn check(&self, shape: &Shape) -> Result<(), Error> {
        let rows = self.probabilities.nrows();
        if rows == 1 || rows == shape.heads {
            return Ok(());
        }
        Err(Error::shape(
            self.parameter().name,
            format!("[{0}] or [{1}, {0}], one row per head", self.hops() + 1, shape.heads),
            self.probabilities.shape(),
            "Give one list of weights for all heads, or one for each.",
        ))
    }

    /// Row of P(h) that `head` has.
    pub(crate) fn row(&self, head: usize) -> usize {
        head_index(self.probabilities.nrows(), head)
    }

    /// P(h) of one head.
    pub(crate) fn probability(&self, head: usize, hops: usize) -> f64 {
        self.probabilities[[self.row(head), hops]]
    }

    /// P(more than `hops` hops) of one head: that of taking step `hops`, the first being 0.
    pub(crate) fn more_than(&self, head: usize, hops: usize) -> f64 {
        self.probabilities.row(self.row(head)).iter().skip(hops + 1).sum()
    }

    /// −Σ_h P(h) log P(h) of one head.
    pub(crate) fn entropy(&self, head: usize) -> f64 {
        let terms = self.probabilities.row(self.row(head));
        terms.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
    }

    /// The gradient in what was given, from the gradient in P(h).
    pub(crate) fn backward(&self, gradient: &Array2<f64>) -> Array2<f64> {
        let mut out = gradient.clone();
        for (r, mut row) in out.axis_iter_mut(Axis(0)).enumerate() {
            let p = self.probabilities.row(r);
            // Moving one weight moves all of P(h), whose sum stays.
            let centre = p.dot(&row);
            for (g, &p) in row.iter_mut().zip(p) {
                *g = match &self.given {
                    Given::Weights(sums) => (*g - centre) / sums[r],
                    Given::LogWeights => p * (*g - centre),
                };
            }
        }
        out
    }
}

/// Refuses fewer than two columns, and no rows.
fn check_size(name: &str, weights: &Array2<f64>) -> Result<(), Error> {
    match weights.dim() {
        (0, _) => Err(Error::shape(
            name,
            "[hops + 1] or [H, hops + 1]",
            weights.shape(),
            "Give one list of weights for all heads, or one for each.",
        )),
        (_, counts) if counts < 2 => {
            let expected = "at least 1: weights for 0, 1, …, hops, so two or more of them";
            Err(Error::value("walk.hops", expected, counts.saturating_sub(1)))
        }
        (_, counts) => check_hops(counts - 1),
    }
}

/// Hops at most. Each is a pass over the keys, so that more would not end.
const MOST_HOPS: usize = 1 << 20;

pub(crate) fn check_hops(hops: usize) -> Result<(), Error> {
    match hops {
        0..=MOST_HOPS => Ok(()),
        _ => {
            let expected = format!("at most {MOST_HOPS}: each hop is a pass over the keys");
            Err(Error::value("walk.hops", expected, hops))
        }
    }
}
