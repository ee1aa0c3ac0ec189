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
//! weights are the prior over them, and what a component gathers is its share of the points, their
//! mean and their squared deviations from it. The log-partition of a point is its log-density, so
//! that the edges summed out leave F, constants included. EM never raises F.
//!
//! # Digits
//! Points are counted from among themselves and squares are taken about the component's own mean,
//! so that parameters have the same digits however far clusters lie from each other and from 0. A
//! mean is rounded to `T` relative to the spread of all points: where clusters that overlap lie
//! farther from others than `T` has digits for, take f64.
//!
//! As the variances go to 0 the responsibilities r become the nearest component, and EM becomes
//! [k-means](super::k_means).

mod expectation;
mod moments;
pub(super) mod origin;
mod parameters;
mod settings;
mod state;
mod step;

use ndarray::{Array3, Array4, ArrayView4, Axis, CowArray, Ix4, s};

use super::{Mechanism, k_means};
use crate::infer::collapsed::Latent;
use crate::question::{LogPartition, Question};
use crate::{Element, Error, Real};

use moments::Moments;
pub use parameters::Parameters;
pub use settings::{Fit, Settings};

/// Entry of the zoo.
pub const MECHANISM: Mechanism = Mechanism {
    name: "mixture",
    title: "Gaussian mixture by expectation-maximisation",
    structure: "each-key-picks-one (queries are components, keys are points)",
    prior: "bias (log π_k: the mixing weights)",
    potential: "gaussian-density (log N(x; μ_k, σ²_k), spherical or diagonal)",
    value: "average, of points and their squared deviations from that",
    inference: "one streaming pass per step",
    update: Some("exact (EM: F = −log-likelihood never rises)"),
    equations: &[
        "r_kj = π_k N(x_j; μ_k, σ²_k) / Σ_l π_l N(x_j; μ_l, σ²_l)",
        "μ_k ← Σ_j r_kj x_j / n_k,  σ²_k ← Σ_j r_kj (x_j − μ_k)² / n_k,  π_k ← n_k / N,  n_k = Σ_j r_kj",
        "σ²_k ≥ floor: `variance-floor`, at least (ε max_j |x_j − o|)², ε and o as the points are held",
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
# are not to be seeded; the answer `floored` [B, H, K] counts the variances on their floor
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

/// Points and components: a [`Latent`] model whose problems are every (batch, head). z holds K·D
/// means, K·V variances (V = 1 or D) and K weights per problem, as [`pack`](Self::pack) lays them
/// out and [`unpack`](Self::unpack) reads them: means are counted from an origin among the points,
/// which derivatives take as constant. Heads that share points are starts side by side.
///
/// Inputs by name: `points` [B, Hk, N, D] and, where they are given and not learned, `variances`
/// [B, H, K, V] and `weights` [B, H, K]. F is the negative log-likelihood of all points of a problem, in
/// nats. Weights count relative to their sum.
///
/// Variances are bounded below ([`with_variance_floor`](Self::with_variance_floor)), or a component
/// on a single point would have an infinite likelihood; [`floored`](Self::floored) says which stand
/// there, and z outside the bounds has F = +∞. A component that has no points left
/// (n_k underflows) keeps its mean and variance and has weight 0 from then on; where it stays is up
/// to the start, so that an implicit gradient does not exist for a loss that looks at it.
///
/// Cost: O(N K D) per step, the scores made twice. Memory beside the points: O(K) for some
/// thousands of them at a time, and a copy of them where the origin is not 0.
pub struct Mixture<'a, T: Real> {
    /// [B, Hk, N, D], counted from `origin`.
    points: CowArray<'a, T, Ix4>,
    components: usize,
    heads: usize,
    covariance: Covariance,
    given_variances: Option<Array4<T>>,
    given_weights: Option<Array3<T>>,
    regularisation: T,
    /// [B, Hk, V]: the given floor, or the square of what rounds the points.
    floor: Array3<T>,
    /// [B, Hk, D].
    origin: Array3<T>,
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
        let origin = origin::of(&points);
        let points = origin::counted(points, &origin);
        let largest = points.map_axis(Axis(2), |x| x.fold(T::zero(), |a, x| a.max(x.abs())));
        // The square of less would have no digits, nor would 1/σ² be finite.
        let least = T::min_positive_value() / T::epsilon();
        let each = largest.mapv(|x| (T::epsilon() * x).powi(2).max(least));
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
            origin,
        })
    }

    /// The same with `heads` sets of components, an equal group of them for each head of points.
    pub fn with_heads(self, heads: usize) -> Result<Self, Error> {
        k_means::check(&self.points.view(), self.components, heads)?;
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
    /// that F still never rises. Without it, and in any case, the floor is the square of what rounds
    /// the points, (ε max_j |x_j − o|)², ε the distance from 1 to the next number of `T`: by
    /// coordinate, or its mean over them where components are spherical. o is 0, or a point in their
    /// midst where all points of a coordinate have one sign and lie within a factor of 2 of each
    /// other.
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
        model.posterior(state.queries.view(), self.points.view())?.ask(questions)
    }

    /// log p(x_j) of every point, [B, H, N].
    pub fn log_likelihood(&self, z: &[T]) -> Result<Array3<T>, Error> {
        self.ask(z, LogPartition)
    }

    /// Number of variances of every component [B, H, K], of V, that `z` has on their floor: bounded
    /// there by [`with_variance_floor`](Self::with_variance_floor) or by the rounding of the points,
    /// and not what the points ask for. 0 where the variances are given.
    pub fn floored(&self, z: &[T]) -> Result<Array3<usize>, Error> {
        let variances = self.unpack(z)?.variances;
        let mut floored = Array3::zeros((variances.dim().0, self.heads, self.components));
        if self.given_variances.is_some() {
            return Ok(floored);
        }
        for ((b, h, k, v), &variance) in variances.indexed_iter() {
            let (_, key_head) = self.place(b * self.heads + h);
            floored[[b, h, k]] += usize::from(variance <= self.floor[[b, key_head, v]]);
        }
        Ok(floored)
    }

    /// The start that the nearest of some centres [B, H, K, D] give: means, variances and shares
    /// of the points nearest to each.
    pub fn start(&self, centres: ArrayView4<'_, T>) -> Result<Vec<T>, Error> {
        self.check_means(&centres)?;
        let (batch, _, _, width) = self.points.dim();
        let nearest = k_means::KMeans::new(self.points.view(), self.components)?;
        let counted: Vec<T> = self.counted(&centres).into_iter().collect();
        let labels = nearest.with_heads(self.heads)?.assign(&counted)?;
        let mut gathered = Moments::none(self.problems() * self.components, width);
        for ((b, h, j), &label) in labels.indexed_iter() {
            if let Ok(label) = usize::try_from(label) {
                let problem = b * self.heads + h;
                let point = self.points.slice(s![b, self.place(problem).1, j, ..]);
                gathered.push(problem * self.components + label, point);
            }
        }
        // Centres without points have the variance of all of them.
        let mut of_all = Moments::none(self.problems(), width);
        for index in 0..self.problems() * self.components {
            of_all.merge_component(index / self.components, gathered.component(index));
        }
        let shape = (batch, self.heads, self.components, self.variances());
        let variances = Array4::from_shape_fn(shape, |(b, h, _, v)| {
            let problem = b * self.heads + h;
            self.variance(of_all.component(problem), (b, self.place(problem).1, v)).0
        });
        let weights = Array3::ones((batch, self.heads, self.components));
        let means = centres.into_owned();
        let z = self.pack(&Parameters { means, variances, weights })?;
        Ok(self.moved(&z, &gathered))
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
