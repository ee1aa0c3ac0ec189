//! Gaussian mixtures by expectation-maximisation.
//!
//! Every point picks one of K components, whose means, variances and weights are unknown:
//!
//! ```text
//! p(x_j) = Σ_k π_k N(x_j; μ_k, diag σ²_k),        F(z) = −Σ_j log p(x_j),      z = (μ, σ², π)
//! r_kj = π_k N(x_j; μ_k, σ²_k) / p(x_j),           n_k = Σ_j r_kj
//! μ_k ← Σ_j r_kj x_j / n_k,   σ²_k ← Σ_j r_kj (x_j − μ_k)² / n_k,   π_k ← n_k / N
//! ```
//!
//! (Dempster, Laird & Rubin 1977; Bishop, "Pattern recognition and machine learning", §9.2.2.) As
//! a graph: keys are points and pick one query each, the queries are components, the mixing
//! weights are the prior over them, and what a component gathers is the average of its points, of
//! their squares and its share of them. The log-partition of a point is its log-density, so that
//! the edges summed out leave F, constants included. EM never raises F.
//!
//! As the variances go to 0 the responsibilities r become the nearest component, and EM becomes
//! [k-means](super::k_means).

mod parameters;
mod settings;
mod step;

use ndarray::{Array3, Array4, ArrayView4, Axis, concatenate, s};

use super::{Mechanism, k_means};
use crate::question::{LogPartition, Question};
use crate::{Element, Error, Real};

pub use parameters::Parameters;
pub use settings::{Fit, Settings};

/// What it is made of.
pub const MECHANISM: Mechanism = Mechanism {
    name: "mixture",
    title: "Gaussian mixture by expectation-maximisation",
    structure: "each-key-picks-one (queries are components, keys are points)",
    prior: "bias (log π_k: the mixing weights)",
    potential: "gaussian-density (log N(x; μ_k, σ²_k), spherical or diagonal)",
    value: "average, of points and their squares",
    inference: "one streaming pass per step",
    update: Some("exact (EM: F = −log-likelihood never rises)"),
    equations: &[
        "r_kj = π_k N(x_j; μ_k, σ²_k) / Σ_l π_l N(x_j; μ_l, σ²_l)",
        "μ_k ← Σ_j r_kj x_j / n_k,  σ²_k ← Σ_j r_kj (x_j − μ_k)² / n_k,  π_k ← n_k / N,  n_k = Σ_j r_kj",
        "F = −Σ_j log Σ_k π_k N(x_j; μ_k, σ²_k)",
    ],
    sources: &[
        "Dempster, Laird & Rubin, Maximum likelihood from incomplete data via the EM algorithm, JRSS B 39(1), 1977",
        "Bishop, Pattern recognition and machine learning, 2006, §9.2.2",
        "Singh & Buckley, arXiv 2304.04556, §4",
    ],
    path: "marginals::zoo::mixture",
    model: "\
# the input holds points [B, Hk, N, D], and means [B, H, K, D] to start from where the components
# are not to be seeded
mechanism = { mixture = { components = 2, covariance = \"diagonal\" } }
",
};

/// The shape of every component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Covariance {
    /// One variance for all coordinates.
    Spherical,
    /// One for each.
    #[default]
    Diagonal,
}

/// Points and components: a [`Latent`](crate::infer::collapsed::Latent) model whose problems are every (batch, head). z holds K·D
/// means, K·V variances (V = 1 or D) and K weights per problem; see [`Parameters`]. Heads that
/// share points are starts side by side.
///
/// Inputs by name: `points` [B, Hk, N, D] and, where they are given and not learned, `variances`
/// [B, H, K, V] and `weights` [B, H, K]. F is the negative log-likelihood of all points of a problem, in
/// nats. Weights count relative to their sum.
///
/// Variances are bounded below ([`with_variance_floor`](Self::with_variance_floor)), or a component
/// on a single point would have an infinite likelihood; z outside the bounds has F = +∞. A component that has no points left
/// (n_k underflows) keeps its mean and variance and has weight 0 from then on; where it stays is up
/// to the start, so that an implicit gradient does not exist for a loss that looks at it.
///
/// Cost: one pass per step; 2D + 1 numbers are kept per point.
pub struct Mixture<'a, T: Real> {
    points: ArrayView4<'a, T>,
    components: usize,
    heads: usize,
    covariance: Covariance,
    given_variances: Option<Array4<T>>,
    given_weights: Option<Array3<T>>,
    regularisation: T,
    /// [B, Hk, V]: the given floor, or what differences of squares cannot tell from 0.
    floor: Array3<T>,
    /// [B, Hk, D]: the mean of the points, about which squares are taken.
    centre: Array3<T>,
    /// [B, Hk, N, 2D + 1]: x − c, its square, and 1.
    gathered: Array4<T>,
}

impl<'a, T: Real + Element<Real = T>> Mixture<'a, T> {
    /// K components for `points` [B, Hk, N, D], once for every head of points. 1 ≤ K ≤ N.
    pub fn new(
        points: ArrayView4<'a, T>,
        components: usize,
        covariance: Covariance,
    ) -> Result<Self, Error> {
        let heads = points.dim().1;
        k_means::check(&points, components, heads)?;
        // Squares are taken about the mean of the points, so that a common offset costs no digits.
        let centre = points
            .map_axis(Axis(2), |x| T::of(x.iter().map(|x| x.f64()).sum::<f64>() / x.len() as f64));
        let away = &points - &centre.view().insert_axis(Axis(2));
        let squares = away.mapv(|x| x * x);
        let ones = Array4::ones((points.dim().0, heads, points.dim().2, 1));
        let gathered = concatenate![Axis(3), away, squares, ones];
        let largest = squares.map_axis(Axis(2), |x| x.iter().copied().fold(T::zero(), T::max));
        let rounding = T::of(8.0) * T::epsilon();
        let least = T::min_positive_value().sqrt();
        let each = largest.mapv(|x| (rounding * x).max(least));
        let floor = match covariance {
            Covariance::Diagonal => each,
            Covariance::Spherical => {
                let width = T::of(each.dim().2 as f64);
                each.sum_axis(Axis(2)).mapv(|sum| sum / width).insert_axis(Axis(2))
            }
        };
        Ok(Self {
            points,
            components,
            heads,
            covariance,
            given_variances: None,
            given_weights: None,
            regularisation: T::zero(),
            floor,
            centre,
            gathered,
        })
    }

    /// The same with `heads` sets of components, an equal group of them for each head of points.
    pub fn with_heads(self, heads: usize) -> Result<Self, Error> {
        k_means::check(&self.points, self.components, heads)?;
        Ok(Self { heads, ..self })
    }

    /// Adds this to every variance after each step, as scikit-learn's `reg_covar` does. F may then
    /// rise: the step is not that of a maximum any more.
    pub fn with_regularisation(self, added: f64) -> Result<Self, Error> {
        if !(added.is_finite() && added >= 0.0) {
            return Err(Error::value("regularisation", "a finite number of at least 0", added));
        }
        Ok(Self { regularisation: T::of(added), ..self })
    }

    /// Keeps every variance at this or above. The step is that of the maximum under this bound, so
    /// that F still never rises. Without it, and in any case, the floor is what rounding leaves of
    /// a variance of 0: 8 ε max (x − c)², ε the rounding of `T`.
    pub fn with_variance_floor(mut self, floor: f64) -> Result<Self, Error> {
        if !(floor.is_finite() && floor >= 0.0) {
            return Err(Error::value("variance-floor", "a finite number of at least 0", floor));
        }
        self.floor.mapv_inplace(|least| least.max(T::of(floor)));
        Ok(self)
    }

    /// The same with the variances given, [B, H, K, V], and not learned: what z holds for them is
    /// not read, and becomes this. With equal variances and weights this is soft k-means.
    pub fn with_variances(self, variances: Array4<T>) -> Result<Self, Error> {
        self.check_variances(&variances)?;
        Ok(Self { given_variances: Some(variances), ..self })
    }

    /// The same with the weights given, [B, H, K], and not learned.
    pub fn with_weights(self, weights: Array3<T>) -> Result<Self, Error> {
        self.check_weights(&weights)?;
        Ok(Self { given_weights: Some(weights), ..self })
    }

    /// Asks anything of the posterior over which component each point belongs to:
    /// [`Marginals`](crate::question::Marginals) are the responsibilities [B, H, K, N],
    /// [`LogPartition`] the log-density of every point [B, H, N], [`Map`](crate::question::Map)
    /// its component, [`Kl`](crate::question::Kl) what it tells about the component in nats.
    pub fn ask<'v, Q: Question<'v, T>>(&self, z: &[T], questions: Q) -> Result<Q::Answer, Error> {
        let state = self.state(z)?;
        if let Some(problem) = state.infeasible.iter().position(|&out| out) {
            return Err(Error::value(
                "z",
                "variances at their floor or above, and weights ≥ 0 of which one is positive",
                format!("outside of that in problem {problem}"),
            ));
        }
        let model = state.model();
        model.posterior(state.queries.view(), self.points.reborrow())?.ask(questions)
    }

    /// log p(x_j) of every point, [B, H, N].
    pub fn log_likelihood(&self, z: &[T]) -> Result<Array3<T>, Error> {
        self.ask(z, LogPartition)
    }

    /// The start that the nearest of some centres [B, H, K, D] give: means, variances and shares
    /// of the points nearest to each.
    pub fn start(&self, centres: ArrayView4<'_, T>) -> Result<Vec<T>, Error> {
        let nearest = k_means::KMeans::new(self.points.reborrow(), self.components)?
            .with_heads(self.heads)?;
        let centres = centres.as_standard_layout();
        let flat = centres.as_slice().expect("standard layout");
        let labels = nearest.assign(flat)?;
        let (batch, key_heads, _, columns) = self.gathered.dim();
        let mut sums = Array4::zeros((batch, self.heads, self.components, columns));
        for ((b, h, j), &label) in labels.indexed_iter() {
            if let Ok(label) = usize::try_from(label) {
                let mut sum = sums.slice_mut(s![b, h, label, ..]);
                sum += &self.gathered.slice(s![b, h / (self.heads / key_heads), j, ..]);
            }
        }
        // Centres without points have the variance of all of them.
        let all = self.gathered.sum_axis(Axis(2));
        let shape = (batch, self.heads, self.components, self.variances());
        let variances = Array4::from_shape_fn(shape, |(b, h, _, v)| {
            let key_head = h / (self.heads / key_heads);
            self.variance(&all.slice(s![b, key_head, ..]), (b, key_head, v)).0
        });
        let weights = Array3::from_elem(
            (batch, self.heads, self.components),
            T::one() / T::of(self.components as f64),
        );
        let means = centres.into_owned();
        let z = self.pack(&Parameters { means, variances, weights })?;
        Ok(self.moved(&z, &sums))
    }

    /// Number V of variances per component: 1 or D.
    pub fn variances(&self) -> usize {
        match self.covariance {
            Covariance::Spherical => 1,
            Covariance::Diagonal => self.points.dim().3,
        }
    }

    /// Batch entry and head of points of a problem.
    fn place(&self, problem: usize) -> (usize, usize) {
        let group = self.heads / self.points.dim().1;
        (problem / self.heads, problem % self.heads / group)
    }
}
