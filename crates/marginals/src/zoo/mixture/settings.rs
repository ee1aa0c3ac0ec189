//! A mixture as data, and fitting one.

use ndarray::{Array2, Array3, ArrayView4, s};
use serde::{Deserialize, Serialize};

use super::{Covariance, Mixture, Parameters};
use crate::infer::collapsed::{Acceleration, Exact, FixedPoint, Reason};
use crate::zoo::k_means::{self, Seeding};
use crate::{Element, Error, Real, check_room};

/// Copies of the means and variances of every start that a fit holds at once.
const COPIES: usize = 8;

/// A Gaussian mixture as data.
///
/// ```toml
/// mixture = { components = 10, covariance = "diagonal", regularisation = 1e-6, restarts = 5 }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Number of components K.
    pub components: usize,
    /// Their shape.
    #[serde(default)]
    pub covariance: Covariance,
    /// Added to every variance; see [`Mixture::with_regularisation`].
    #[serde(default)]
    pub regularisation: f64,
    /// Least variance. 0 leaves the floor that there is in any case, the square of what rounds the
    /// points; see [`Mixture::with_variance_floor`].
    #[serde(default)]
    pub variance_floor: f64,
    /// How the components start.
    #[serde(default)]
    pub seeding: Seeding,
    /// The seed of that.
    #[serde(default)]
    pub seed: u64,
    /// Starts, of which the best is kept.
    #[serde(default = "one")]
    pub restarts: usize,
    /// Steps at most.
    #[serde(default = "many")]
    pub steps: usize,
    /// It stops where the log-likelihood per point gained at most this, in nats. 0 takes all the
    /// steps unless the parameters stand still, as an exact gradient asks for.
    #[serde(default = "little")]
    pub tolerance: f64,
    /// Steps that Anderson acceleration remembers; 0, the default, takes plain steps.
    #[serde(default)]
    pub memory: usize,
}

fn one() -> usize {
    1
}
fn many() -> usize {
    200
}
fn little() -> f64 {
    1e-6
}

/// A fitted mixture: for every batch entry and head of points, the best of the starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit<T> {
    /// Its parameters, [B, Hk, K, …].
    pub parameters: Parameters<T>,
    /// Number of variances of each component that stand on their floor, [B, Hk, K]; see
    /// [`Mixture::floored`].
    pub floored: Array3<usize>,
    /// Its log-likelihood per point, [B, Hk], in nats.
    pub log_likelihood: Array2<T>,
    /// Steps it took, [B, Hk].
    pub steps: Array2<usize>,
    /// Why it stopped, [B, Hk].
    pub reasons: Array2<Reason>,
    /// Which start it was, [B, Hk].
    pub restart: Array2<usize>,
}

impl Settings {
    /// The engine that takes the steps for `points` points.
    pub fn engine(&self, points: usize) -> FixedPoint {
        let acceleration = match self.memory {
            0 => Acceleration::None,
            memory => Acceleration::Anderson { memory },
        };
        FixedPoint {
            tolerance: 0.0,
            energy_tolerance: (self.tolerance > 0.0).then_some(self.tolerance * points as f64),
            max_steps: self.steps,
            acceleration,
            ..FixedPoint::default()
        }
    }

    /// The mixture of `points` [B, Hk, N, D], with a head for every start.
    pub fn mixture<'a, T: Real + Element<Real = T>>(
        &self,
        points: ArrayView4<'a, T>,
    ) -> Result<Mixture<'a, T>, Error> {
        if self.restarts == 0 {
            return Err(Error::value("restarts", "at least 1 start", 0));
        }
        let (batch, key_heads, _, width) = points.dim();
        let mixture = Mixture::new(points, self.components, self.covariance)?;
        let means = [batch, key_heads, self.restarts, self.components, width];
        check_room("restarts", &means, COPIES * size_of::<T>())?;
        let heads = key_heads * self.restarts;
        mixture
            .with_heads(heads)?
            .with_variance_floor(self.variance_floor)?
            .with_regularisation(self.regularisation)
    }

    /// Seeds and fits. Starts run side by side, each until it stops.
    pub fn fit<T: Real + Element<Real = T>>(
        &self,
        points: ArrayView4<'_, T>,
    ) -> Result<Fit<T>, Error> {
        let mixture = self.mixture(points.reborrow())?;
        let (batch, key_heads, count, _) = points.dim();
        let heads = key_heads * self.restarts;
        let view = points.reborrow();
        let centres = k_means::centres(view, self.components, heads, self.seeding, self.seed)?;
        let start = mixture.start(centres.view())?;
        let solution = self.engine(count).solve(&Exact(&mixture), &start)?;
        let all = mixture.unpack(&solution.z)?;
        let all_floored = mixture.floored(&solution.z)?;
        let best = Array2::from_shape_fn((batch, key_heads), |(b, g)| {
            let first = b * heads + g * self.restarts;
            let energies = &solution.free_energy[first..first + self.restarts];
            let least = |best: usize, r: usize| if energies[r] < energies[best] { r } else { best };
            (1..self.restarts).fold(0, least)
        });
        let problem = |(b, g): (usize, usize)| b * heads + g * self.restarts + best[[b, g]];
        let mut parameters = Parameters {
            means: all.means.slice(s![.., ..key_heads, .., ..]).to_owned(),
            variances: all.variances.slice(s![.., ..key_heads, .., ..]).to_owned(),
            weights: all.weights.slice(s![.., ..key_heads, ..]).to_owned(),
        };
        let mut floored = all_floored.slice(s![.., ..key_heads, ..]).to_owned();
        for ((b, g), &r) in best.indexed_iter() {
            let h = g * self.restarts + r;
            let own = s![b, g, .., ..];
            parameters.means.slice_mut(own).assign(&all.means.slice(s![b, h, .., ..]));
            parameters.variances.slice_mut(own).assign(&all.variances.slice(s![b, h, .., ..]));
            parameters.weights.slice_mut(s![b, g, ..]).assign(&all.weights.slice(s![b, h, ..]));
            floored.slice_mut(s![b, g, ..]).assign(&all_floored.slice(s![b, h, ..]));
        }
        let by_group = (batch, key_heads);
        let points = T::of(count as f64);
        Ok(Fit {
            parameters,
            floored,
            log_likelihood: Array2::from_shape_fn(by_group, |at| {
                -solution.free_energy[problem(at)] / points
            }),
            steps: Array2::from_shape_fn(by_group, |at| solution.steps[problem(at)]),
            reasons: Array2::from_shape_fn(by_group, |at| solution.reasons[problem(at)]),
            restart: best.clone(),
        })
    }
}
