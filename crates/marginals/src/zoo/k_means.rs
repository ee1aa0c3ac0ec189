//! k-means: the limit of a mixture of equal Gaussians as their variance goes to 0.
//!
//! ```text
//! a_j = argmin_k ‖x_j − c_k‖²,   c_k ← Σ_{j: a_j = k} x_j / #{j: a_j = k},   F(c) = Σ_j ‖x_j − c_{a_j}‖²
//! ```
//!
//! (Lloyd 1982, "Least squares quantization in PCM".) Every point picks a centre, log ψ = −½
//! ‖x − c‖²/σ²; with σ² → 0 the posterior is its MAP, and 2σ² times the mixture's free energy is F
//! but for a constant. F, the inertia, never rises, and the steps come to an end: there are only so
//! many assignments.

mod seeding;

use ndarray::{Array3, Array4, ArrayView4, s};
use serde::{Deserialize, Serialize};

use super::Mechanism;
use crate::infer::collapsed::{Evaluation, FixedPoint, InputGradients, Latent, Maximise};
use crate::potential::Gaussian;
use crate::prior::Uniform;
use crate::question::Map;
use crate::structure::EachKeyPicksOne;
use crate::{Element, Error, Model, Real, refuse_nan};

pub use seeding::{Seeding, centres};

/// Entry of the zoo.
pub const MECHANISM: Mechanism = Mechanism {
    name: "k-means",
    title: "k-means: a mixture of Gaussians whose variance goes to 0",
    structure: "each-key-picks-one (queries are centres, keys are points)",
    prior: "uniform",
    potential: "gaussian (precision → ∞)",
    value: "average",
    inference: "MAP in one streaming pass per step",
    update: Some("exact (Lloyd: the inertia never rises)"),
    equations: &[
        "a_j = argmin_k ‖x_j − c_k‖²",
        "c_k ← mean of the x_j with a_j = k",
        "F = Σ_j ‖x_j − c_{a_j}‖²",
    ],
    sources: &[
        "Lloyd, Least squares quantization in PCM, IEEE Trans. Inf. Theory 28(2), 1982",
        "Arthur & Vassilvitskii, k-means++, SODA 2007 (the start)",
        "Bishop, Pattern recognition and machine learning, 2006, §9.3.2 (the limit)",
    ],
    path: "marginals::zoo::k_means",
    model: "\
# the input holds points [B, Hk, N, D], and means [B, H, K, D] to start from where the components
# are not to be seeded
mechanism = { k-means = { components = 2 } }
",
};

/// k-means as data.
///
/// ```toml
/// k-means = { components = 10, seed = 1 }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Number of centres K.
    pub components: usize,
    /// How the centres start.
    #[serde(default)]
    pub seeding: Seeding,
    /// The seed of that.
    #[serde(default)]
    pub seed: u64,
    /// Steps at most.
    #[serde(default = "many")]
    pub steps: usize,
}

fn many() -> usize {
    300
}

impl Settings {
    /// The engine that takes the steps: until no centre moves.
    pub fn engine(&self) -> FixedPoint {
        FixedPoint { tolerance: 0.0, max_steps: self.steps, ..FixedPoint::default() }
    }
}

/// Points and centres: a [`Latent`] model whose problems are every (batch, head), z being the
/// centres [B, H, K, D] flat. Heads that share points are starts side by side.
///
/// Input: `points` [B, Hk, N, D]. F is the inertia, in squared units of the points. A centre that
/// has no points stays where it is. Cost: one pass per step.
#[derive(Clone, Copy, Debug)]
pub struct KMeans<'a, T> {
    points: ArrayView4<'a, T>,
    components: usize,
    heads: usize,
}

/// Refuses what cannot be clustered.
pub(super) fn check<T: Real>(
    points: &ArrayView4<'_, T>,
    components: usize,
    heads: usize,
) -> Result<(), Error> {
    let (_, key_heads, count, width) = points.dim();
    if count == 0 || width == 0 {
        return Err(Error::shape(
            "points",
            "[B, Hk, N, D] with N and D at least 1",
            points.shape(),
            "Give at least one point.",
        ));
    }
    if components == 0 || components > count {
        let expected = format!("between 1 and the number of points, {count}");
        return Err(Error::value("components", expected, components));
    }
    if heads == 0 || !heads.is_multiple_of(key_heads) {
        let expected = format!("a multiple of the {key_heads} heads of points");
        return Err(Error::value("heads", expected, heads));
    }
    refuse_nan("points", points)
}

impl<'a, T: Real + Element<Real = T>> KMeans<'a, T> {
    /// K centres for `points` [B, Hk, N, D], once for every head of points.
    pub fn new(points: ArrayView4<'a, T>, components: usize) -> Result<Self, Error> {
        let heads = points.dim().1;
        check(&points, components, heads)?;
        Ok(Self { points, components, heads })
    }

    /// The same with `heads` sets of centres, an equal group of them for each head of points.
    pub fn with_heads(self, heads: usize) -> Result<Self, Error> {
        check(&self.points, self.components, heads)?;
        Ok(Self { heads, ..self })
    }

    /// The nearest centre of every point [B, H, N], the first of several.
    pub fn assign(&self, z: &[T]) -> Result<Array3<i64>, Error> {
        let centres = self.centres(z)?;
        let model = Model::new(EachKeyPicksOne, Uniform, Gaussian::new(1.0));
        model.posterior(centres, self.points.reborrow())?.ask(Map)
    }

    /// z as the library's tensor [B, H, K, D].
    pub fn centres<'z>(&self, z: &'z [T]) -> Result<ArrayView4<'z, T>, Error> {
        let (batch, _, _, width) = self.points.dim();
        let shape = (batch, self.heads, self.components, width);
        ArrayView4::from_shape(shape, z).map_err(|_| {
            Error::shape(
                "z",
                format!("[{}]: centres {shape:?} flat", self.problems() * self.width()),
                &[z.len()],
                "Give D numbers for every centre.",
            )
        })
    }

    /// The inertia of every problem, and per centre [B, H, K, D + 1] the mean of its points and
    /// their number, in f64.
    ///
    /// Means are taken about the first point of each centre: exact for copies of one point, and a
    /// function of the assignment alone, so that the centres come to rest.
    fn means(&self, z: &[T], labels: &Array3<i64>) -> Result<(Vec<f64>, Array4<f64>), Error> {
        let centres = self.centres(z)?;
        let (batch, heads, components, width) = centres.dim();
        let group = heads / self.points.dim().1;
        let mut inertia = vec![0.0; batch * heads];
        let mut means = Array4::zeros((batch, heads, components, width + 1));
        let mut first = Array3::from_elem((batch, heads, components), None);
        for ((b, h, j), &label) in labels.indexed_iter() {
            // −1 is a point that NaN centres left without one.
            let Ok(label) = usize::try_from(label) else {
                inertia[b * heads + h] = f64::NAN;
                continue;
            };
            let own = self.points.slice(s![b, h / group, .., ..]);
            let about = own.row(*first[[b, h, label]].get_or_insert(j));
            let centre = centres.slice(s![b, h, label, ..]);
            let mut sum = means.slice_mut(s![b, h, label, ..]);
            for (d, x) in own.row(j).iter().enumerate() {
                inertia[b * heads + h] += (x.f64() - centre[d].f64()).powi(2);
                sum[d] += x.f64() - about[d].f64();
            }
            sum[width] += 1.0;
        }
        for ((b, h, k), first) in first.indexed_iter() {
            let Some(first) = *first else { continue };
            let about = self.points.slice(s![b, h / group, first, ..]);
            let mut mean = means.slice_mut(s![b, h, k, ..]);
            let count = mean[width];
            mean.iter_mut().zip(about).for_each(|(mean, x)| *mean = x.f64() + *mean / count);
        }
        Ok((inertia, means))
    }
}

impl<T: Real + Element<Real = T>> Latent<T> for KMeans<'_, T> {
    fn problems(&self) -> usize {
        self.points.dim().0 * self.heads
    }
    fn width(&self) -> usize {
        self.components * self.points.dim().3
    }
    fn inputs(&self) -> InputGradients<T> {
        InputGradients::zeros([("points", self.points.shape())])
    }
    fn free_energy(&self, z: &[T]) -> Result<Vec<T>, Error> {
        let (inertia, _) = self.means(z, &self.assign(z)?)?;
        Ok(inertia.into_iter().map(T::of).collect())
    }
}

impl<T: Real + Element<Real = T>> Maximise<T> for KMeans<'_, T> {
    fn maximise(&self, z: &[T]) -> Result<Evaluation<T>, Error> {
        let (inertia, means) = self.means(z, &self.assign(z)?)?;
        let width = self.points.dim().3;
        let mut next = z.to_vec();
        for (centre, mean) in next.chunks_mut(width).zip(means.rows()) {
            if mean[width] > 0.0 {
                centre.iter_mut().zip(mean).for_each(|(x, &mean)| *x = T::of(mean));
            }
        }
        Ok(Evaluation { free_energy: inertia.into_iter().map(T::of).collect(), next })
    }
    /// Assignments have no derivative: a centre follows its points, and z only where it has none.
    fn maximise_backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        let labels = self.assign(z)?;
        let (_, means) = self.means(z, &labels)?;
        let upstream = self.centres(upstream)?;
        let (.., width) = self.points.dim();
        let group = self.heads / self.points.dim().1;
        let mut of_points = Array4::zeros(self.points.dim());
        for ((b, h, j), &label) in labels.indexed_iter() {
            let Ok(label) = usize::try_from(label) else { continue };
            let count = T::of(means[[b, h, label, width]]);
            let own = upstream.slice(s![b, h, label, ..]);
            let mut of_point = of_points.slice_mut(s![b, h / group, j, ..]);
            of_point.zip_mut_with(&own, |g, &u| *g += u / count);
        }
        inputs.add("points", &of_points)?;
        let kept = |((b, h, k, _), &u): (_, &T)| match means[[b, h, k, width]] == 0.0 {
            true => u,
            false => T::zero(),
        };
        Ok(upstream.indexed_iter().map(kept).collect())
    }
}
