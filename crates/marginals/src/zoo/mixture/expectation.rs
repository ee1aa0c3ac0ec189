//! The expectation step: what the posterior gathers for every component, and its backward.

use std::ops::Range;

use ndarray::{Array3, Array4, ArrayView4, s};
use rayon::prelude::*;

use super::moments::{Moments, OfMoments};
use super::{Mixture, step::State};
use crate::infer::collapsed::Latent;
use crate::question::{LogPartition, Marginals, Mean};
use crate::{Element, Error, Real, parallel};

/// Runs of points at most, each gathered on its own and then merged in order: results do not depend
/// on the number of threads, and what is kept does not grow with that of the points.
const RUNS: usize = 64;

/// Responsibilities that a run holds at a time.
const RESPONSIBILITIES: usize = 1 << 17;

/// Fewest and most points that are asked for them at a time.
const POINTS: (usize, usize) = (512, 4096);

/// Sums over the points at one z.
pub(super) struct Gathered {
    /// Moments of every component of every problem, in the order of z.
    pub moments: Moments,
    /// F = −Σ_j log p(x_j) of every problem.
    pub energies: Vec<f64>,
}

/// Gradients of a loss with respect to what the moments depend on.
pub(super) struct Gradients<T> {
    /// Of μ and σ², [B, H, K, D + V].
    pub queries: Array4<T>,
    /// Of log π, [B, H, K, 1].
    pub log_weights: Array4<T>,
    /// Of a range of the points, [B, Hk, n, D].
    pub points: Array4<T>,
}

/// Coordinates of points in a run for each: [B, Hk, D, n].
fn across<T: Real>(points: &ArrayView4<'_, T>) -> Array4<T> {
    points.view().permuted_axes([0, 1, 3, 2]).as_standard_layout().into_owned()
}

/// F of every problem, from the log-density of every point [B, H, N].
pub(super) fn energies<T: Real>(log_density: &Array3<T>) -> Vec<f64> {
    let problems = log_density.rows().into_iter();
    problems.map(|own| -own.iter().map(|x| x.f64()).sum::<f64>()).collect()
}

impl<T: Real + Element<Real = T>> Mixture<'_, T> {
    /// Ranges of points to be gathered one by one, in runs.
    fn runs(&self) -> Vec<Vec<Range<usize>>> {
        let (points, rows) = (self.points.dim().2, self.problems() * self.components);
        let size = (RESPONSIBILITIES / rows.max(1)).clamp(POINTS.0, POINTS.1);
        let ranges: Vec<Range<usize>> =
            (0..points).step_by(size).map(|from| from..(from + size).min(points)).collect();
        ranges.chunks(ranges.len().div_ceil(RUNS).max(1)).map(<[_]>::to_vec).collect()
    }

    /// Batch entry, head of points, head and component of the moments at `index`.
    fn component(&self, index: usize) -> (usize, usize, usize, usize) {
        let (problem, k) = (index / self.components, index % self.components);
        let (b, key_head) = self.place(problem);
        (b, key_head, problem % self.heads, k)
    }

    /// Moments of the points under the responsibilities, and F.
    ///
    /// Responsibilities are asked for some points at a time, so that neither they nor deviations of
    /// every point from every component are ever held.
    pub(super) fn gather(&self, state: &State<T>) -> Result<Gathered, Error> {
        let add = |mut sum: Gathered, part: Gathered| {
            sum.moments.merge(&part.moments);
            sum.energies.iter_mut().zip(part.energies).for_each(|(sum, part)| *sum += part);
            sum
        };
        let run = |ranges: Vec<Range<usize>>| {
            let mut parts = ranges.into_iter().map(|range| self.gather_range(state, range));
            let first = parts.next().expect("a run has a range")?;
            parts.try_fold(first, |sum, part| Ok(add(sum, part?)))
        };
        let parts = parallel::try_map_each(self.runs(), &run)?;
        Ok(parts.into_iter().reduce(add).expect("there are points"))
    }

    fn gather_range(&self, state: &State<T>, range: Range<usize>) -> Result<Gathered, Error> {
        let points = self.points.slice(s![.., .., range, ..]);
        let width = points.dim().3;
        let across = across(&points);
        let model = state.model();
        let posterior = model.posterior(state.queries.view(), points)?;
        let (responsibilities, log_density) = posterior.ask((Marginals, LogPartition))?;
        let mut moments = Moments::none(self.problems() * self.components, width);
        moments.groups(self.components).enumerate().for_each(|(problem, mut own)| {
            let ((b, key_head), h) = (self.place(problem), problem % self.heads);
            own.fill(
                across.slice(s![b, key_head, .., ..]),
                responsibilities.slice(s![b, h, .., ..]),
                state.queries.slice(s![b, h, .., ..width]),
            );
        });
        Ok(Gathered { moments, energies: energies(&log_density) })
    }

    /// Backward of [`gather`](Self::gather): from the gradient of the moments, where a component
    /// has one, to that of z as the model reads it and of the points.
    pub(super) fn gather_backward(
        &self,
        state: &State<T>,
        gathered: &Gathered,
        upstream: &[Option<OfMoments<T>>],
    ) -> Result<Gradients<T>, Error> {
        let (batch, key_heads, points, width) = self.points.dim();
        let none = |points: usize| Gradients {
            queries: Array4::zeros(state.queries.raw_dim()),
            log_weights: Array4::zeros(state.log_weights.raw_dim()),
            points: Array4::zeros((batch, key_heads, points, width)),
        };
        // `from` counts the points that have been added.
        let add = |(mut sum, from): (Gradients<T>, usize), part: Gradients<T>| {
            let until = from + part.points.dim().2;
            sum.queries += &part.queries;
            sum.log_weights += &part.log_weights;
            sum.points.slice_mut(s![.., .., from..until, ..]).assign(&part.points);
            (sum, until)
        };
        let run = |ranges: Vec<Range<usize>>| -> Result<Gradients<T>, Error> {
            let points = ranges.iter().map(Range::len).sum();
            let sum = ranges.into_iter().try_fold((none(points), 0), |sum, range| {
                let part = self.backward_of_range(state, gathered, upstream, range)?;
                Ok::<_, Error>(add(sum, part))
            })?;
            Ok(sum.0)
        };
        let parts = parallel::try_map_each(self.runs(), &run)?;
        Ok(parts.into_iter().fold((none(points), 0), add).0)
    }

    /// With f_kj = ∂L/∂r_kj, the loss depends on the responsibilities as Σ_k Σ_j r_kj f_kj does: what
    /// components gather where coordinate k of the values of point j is f_kj and component k looks at
    /// that alone. The gradient of those values is r_kj.
    fn backward_of_range(
        &self,
        state: &State<T>,
        gathered: &Gathered,
        upstream: &[Option<OfMoments<T>>],
        range: Range<usize>,
    ) -> Result<Gradients<T>, Error> {
        let points = self.points.slice(s![.., .., range, ..]);
        let across = across(&points);
        let (heads, k) = (self.heads, self.components);
        let mut values = Array4::zeros((points.dim().0, heads, k, points.dim().2));
        let with_gradient = || {
            upstream.iter().enumerate().filter_map(|(index, upstream)| {
                let moments = gathered.moments.component(index);
                Some((self.component(index), upstream.as_ref()?, moments))
            })
        };
        for ((b, key_head, h, k), upstream, moments) in with_gradient() {
            let mut own = values.slice_mut(s![b, h, k, ..]);
            let own = own.as_slice_mut().expect("rows lie in a run");
            upstream.of_weights(moments, across.slice(s![b, key_head, .., ..]), own);
        }
        let own = Array4::from_shape_fn((points.dim().0, heads, k, k), |(_, _, k, l)| {
            if k == l { T::one() } else { T::zero() }
        });
        let model = state.model();
        let posterior = model.posterior(state.queries.view(), points)?;
        let pass = posterior.pass(Mean(values.view().permuted_axes([0, 1, 3, 2])))?;
        let mut found = pass.backward(&own)?;

        let weights = found.take_v().expect("a mean has a gradient in its values");
        let mut of_points = Array4::zeros(across.raw_dim());
        for ((b, key_head, h, k), upstream, moments) in with_gradient() {
            upstream.of_points(
                moments,
                (across.slice(s![b, key_head, .., ..]), &weights.slice(s![b, h, .., k]).to_vec()),
                of_points.slice_mut(s![b, key_head, .., ..]),
            );
        }
        found.k += &of_points.view().permuted_axes([0, 1, 3, 2]);
        let log_weights = found.parameter("bias").expect("the weights are a bias");
        let log_weights = log_weights.view().into_dimensionality().expect("[B, H, K, 1]");
        let log_weights = log_weights.to_owned();
        Ok(Gradients { queries: found.q, log_weights, points: found.k })
    }
}
