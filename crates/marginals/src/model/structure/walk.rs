use ndarray::{Array2, ArrayView4, Axis};

use super::{Factorisation, Structure};
use crate::infer::walk::WalkPosterior;
use crate::model::{Model, head_index};
use crate::potential::Potential;
use crate::prior::Prior;
use crate::{Element, Error, Parameter, Shape, Value};

/// Paths of at most H picks: multihop attention.
///
/// Every node first draws a number of hops h ≤ H from P(h), then walks: h times it picks a key as a
/// one-step model says and goes to stand there. With P the one-step posterior of self-attention,
///
/// ```text
/// p(h, x_1 … x_h | x_0) = P(h) Π_t P[x_t, x_t+1],        E[v] = Σ_h P(h) P^h V.
/// ```
///
/// The picks of one path depend on each other, so the structure is **coupled**: it wraps a factored
/// one-step model instead of being one, and [`WalkPosterior`] answers its own questions. Sources:
/// Singh & Buckley, arXiv 2304.04556 (multihop attention; Algorithm 2 of the NeurIPS 2023 version)
/// for two hops; Wang et al., arXiv 2009.14332 (attention diffusion), for weights over many.
///
/// The weights over h = 0 … H are non-negative and normalised here; h = 0 stays where it started and
/// reads its own value.
///
/// ```
/// use marginals::{Model, potential::Dot, prior::Causal};
/// use marginals::structure::{EachQueryPicksOne, Walk};
/// # use ndarray::Array4;
/// # let (q, k, v) = (Array4::<f32>::ones((1, 2, 5, 4)), Array4::<f32>::ones((1, 2, 5, 4)), Array4::<f32>::ones((1, 2, 5, 3)));
/// let model = Model::new(EachQueryPicksOne, Causal, Dot::scaled(4));
/// let walk = Walk::new(&[1.0, 2.0, 1.0])?; // no hop, one hop, two hops
/// let posterior = walk.posterior(&model, q.view(), k.view())?; // nothing computed yet
/// let out = posterior.mean(v.view())?; // two streaming passes
/// # assert_eq!(out.shape(), &[1, 2, 5, 3]);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    /// P(h): one row per head, or one for all.
    probabilities: Array2<f64>,
    given: Given,
}

/// What P(h) was made from, and is differentiated in.
#[derive(Clone, Debug, PartialEq)]
enum Given {
    /// Weights with these sums.
    Weights(Vec<f64>),
    /// Logarithms of weights.
    LogWeights,
}

impl Walk {
    /// Weights over 0, 1, …, H hops, the same for every head.
    ///
    /// P(h) = weights\[h\] / Σ weights. Refuses weights that are negative, not finite or all 0, and
    /// fewer than two of them: a walk without a hop is no walk.
    pub fn new(weights: &[f64]) -> Result<Self, Error> {
        Self::per_head(Array2::from_shape_fn((1, weights.len()), |(_, h)| weights[h]))
    }

    /// Weights over the number of hops by head, [H, hops + 1].
    pub fn per_head(weights: Array2<f64>) -> Result<Self, Error> {
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

    /// Log-weights over 0, 1, …, H hops, the same for every head: P(h) = softmax(log-weights).
    ///
    /// The form to learn them in. −∞ is a number of hops that is impossible, and stays so.
    pub fn from_log_weights(log_weights: &[f64]) -> Result<Self, Error> {
        let rows = Array2::from_shape_fn((1, log_weights.len()), |(_, h)| log_weights[h]);
        Self::from_log_weights_per_head(rows)
    }

    /// Log-weights over the number of hops by head, [H, hops + 1].
    pub fn from_log_weights_per_head(log_weights: Array2<f64>) -> Result<Self, Error> {
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

    /// As likely to take any number of hops up to `hops`; there may be 2²⁰ of them.
    pub fn uniform(hops: usize) -> Result<Self, Error> {
        check_hops(hops)?;
        Self::new(&vec![1.0; hops + 1])
    }

    /// Always takes `hops` hops: E\[v\] = P^hops V.
    pub fn exactly(hops: usize) -> Result<Self, Error> {
        check_hops(hops)?;
        let mut weights = vec![0.0; hops + 1];
        weights[hops] = 1.0;
        Self::new(&weights)
    }

    /// The name used in model files.
    pub fn name(&self) -> &'static str {
        "walk"
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

    /// The posterior over the walks from every node under the one-step `model`, for `q`
    /// [B, H, N, D] and `k` [B, Hk, N, D]. Checks sizes and parameters; computes nothing until a
    /// question is asked.
    ///
    /// Needs one edge per query ([`EachQueryPicksOne`](super::EachQueryPicksOne) or
    /// [`EachQueryPicksAtMostOne`](super::EachQueryPicksAtMostOne)), queries and keys that are the
    /// same nodes (N keys, query offset 0), and [`Value::Gather`].
    pub fn posterior<'a, S, P, U, E>(
        &'a self,
        model: &'a Model<S, P, U>,
        q: ArrayView4<'a, E>,
        k: ArrayView4<'a, E>,
    ) -> Result<WalkPosterior<'a, E::Real>, Error>
    where
        S: Structure,
        E: Element,
        P: Prior<E::Real>,
        U: Potential<E::Real>,
    {
        let refused = |why: String, instead: &str| Error::NotAnswerable {
            question: "walk".into(),
            why,
            instead: instead.into(),
        };
        if !matches!(model.structure.factorisation(), Factorisation::PerQuery { .. }) {
            return Err(refused(
                format!("`{}` does not give a query one edge to follow", model.structure.name()),
                "Walk with `each-query-picks-one` or `each-query-picks-at-most-one`.",
            ));
        }
        if model.value != Value::Gather {
            return Err(refused(
                "a walk carries values from node to node as they are, and the model averages them"
                    .into(),
                "Leave the model's value at `gather`.",
            ));
        }
        if model.query_offset != model.key_offset {
            let expected = "0: a walk goes on from the key it picked, so query i must be key i";
            return Err(Error::value("query-offset", expected, model.query_offset));
        }
        if k.dim().2 != q.dim().2 {
            return Err(Error::shape(
                "k",
                format!("[B, Hk, {}, D], one key per query", q.dim().2),
                k.shape(),
                "A walk goes on from the key it picked, so queries and keys are the same nodes.",
            ));
        }
        let one_step = model.posterior(q, k)?;
        self.check(one_step.shape())?;
        Ok(WalkPosterior::new(self, one_step))
    }

    fn check(&self, shape: &Shape) -> Result<(), Error> {
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
    pub(crate) fn entropy_of_hops(&self, head: usize) -> f64 {
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

/// Hops at most. Each is a pass over the keys, so that more would not end.
const MOST_HOPS: usize = 1 << 20;

fn check_hops(hops: usize) -> Result<(), Error> {
    match hops {
        0..=MOST_HOPS => Ok(()),
        _ => {
            let expected = format!("at most {MOST_HOPS}: each hop is a pass over the keys");
            Err(Error::value("walk.hops", expected, hops))
        }
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
