//! The expectation step: what the posterior gathers for every component, and its backward.

use std::ops::Range;

use marginals_kernels::{
    Aligned, InstructionSet, OnlineColumns, TileMut, dot_columns, exp_columns, online_columns,
};
use ndarray::{Array2, Array3, Array4, ArrayView2, ShapeBuilder, s};

use super::Mixture;
use super::moments::{Density, Moments, OfMoments};
use super::state::State;
use crate::infer::collapsed::Latent;
use crate::infer::finding::Normalisers;
use crate::infer::streaming::Scorer;
use crate::potential::{Features, GaussianDensity, Place, Potential};
use crate::prior::{Bias, Coverage, LogWeights};
use crate::{Element, Error, Real, Shape, parallel, tensor};

/// Runs of points at most, each gathered on its own and then merged in order: results do not depend
/// on the number of threads, and what is kept does not grow with that of the points.
const RUNS: usize = 64;

/// Responsibilities that are held at a time.
const RESPONSIBILITIES: usize = 1 << 16;

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
    /// Of log π, [B, H, K].
    pub log_weights: Array3<T>,
    /// Of the points, [B, Hk, N, D].
    pub points: Array4<T>,
}

/// F of every problem, from the log-density of every point [B, H, N].
pub(super) fn energies<T: Real>(log_density: &Array3<T>) -> Vec<f64> {
    let problems = log_density.rows().into_iter();
    problems.map(|own| -own.iter().map(|x| x.f64()).sum::<f64>()).collect()
}

/// One problem, which weighs points.
struct Weighing<'a, T: Real> {
    shape: Shape,
    /// Batch entry and head.
    head: (usize, usize),
    prior: Bias<LogWeights<'a, T>>,
    components: Features<'a, T>,
}

/// Some points and a tile with a row per component for each of them.
struct Weighed<'a, T: Real> {
    block: crate::Block,
    /// Coordinates of the points in a run for each, [D, n].
    across: Array2<T>,
    normalisers: Normalisers<T>,
    responsibilities: &'a mut [T],
    stride: usize,
}

impl<T: Real> Weighed<'_, T> {
    /// r_kj, [K, n].
    fn responsibilities(&self) -> ArrayView2<'_, T> {
        let (k, n) = (self.block.queries.len(), self.block.keys.len());
        let view = ArrayView2::from_shape((k, n).strides((self.stride, 1)), self.responsibilities);
        view.expect("a tile holds its rows")
    }
}

/// Room for `components` rows of `points` numbers; a power of two from row to row would put them into
/// the same few lines of the cache.
fn room<T: Real>(components: usize, points: usize) -> (Aligned<T>, usize) {
    let stride = points.next_multiple_of(16) + 16;
    (Aligned::zeros(components * stride), stride)
}

impl<T: Real> Weighing<'_, T> {
    /// The responsibilities of the points numbered `run`, which are `points` [n, D], and their
    /// log-densities.
    fn weigh<'r>(
        &self,
        points: ArrayView2<'_, T>,
        run: Range<usize>,
        (room, stride): (&'r mut [T], usize),
    ) -> Weighed<'r, T> {
        let set = InstructionSet::detect();
        let points = tensor::contiguous(points);
        let across = transposed(points.view());
        let features = Features::new(points, run.start);
        let block = self.shape.block(self.head, 0..self.shape.queries, run.clone());
        let n = run.len();
        let mut max = vec![T::neg_infinity(); n];
        let mut log_sum = vec![T::zero(); n];
        let mut tile = TileMut::new(&mut *room, self.shape.queries, n, stride);
        let scorer = Scorer { prior: &self.prior, potential: &GaussianDensity };
        let features = (&self.components, &features);
        scorer.fill(&block, Coverage::Weighted, features, tile.reborrow(), None, None);
        let state = OnlineColumns { max: &mut max, sum: &mut log_sum };
        online_columns(set, tile.as_tile(), state);
        for (max, sum) in max.iter_mut().zip(&mut log_sum) {
            if *sum == T::zero() {
                *max = T::neg_infinity();
            }
            *sum = sum.ln();
        }
        let normalisers = Normalisers { max, log_sum };
        exp_columns(set, tile, normalisers.run(0..n));
        Weighed { block, across, normalisers, responsibilities: room, stride }
    }
}

/// The transpose of a matrix of contiguous rows, some rows at a time, so that what is read and what is
/// written both stay near.
fn transposed<T: Real>(rows: ArrayView2<'_, T>) -> Array2<T> {
    const ROWS: usize = 16;
    let (count, width) = rows.dim();
    let from = rows.to_slice().expect("contiguous rows");
    let mut into = vec![T::zero(); count * width];
    for first in (0..count).step_by(ROWS) {
        let last = (first + ROWS).min(count);
        for d in 0..width {
            let run = &mut into[d * count + first..d * count + last];
            run.iter_mut().zip(first..last).for_each(|(x, row)| *x = from[row * width + d]);
        }
    }
    Array2::from_shape_vec((width, count), into).expect("one number each")
}

/// Gradients of one problem over a run of points.
struct Part<T> {
    /// Of its components.
    density: Vec<Density>,
    /// Of the points, [n, D].
    points: Array2<T>,
}

impl<T: Real + Element<Real = T>> Mixture<'_, T> {
    /// Ranges of points to be weighed one by one, in runs.
    fn runs(&self) -> Vec<Vec<Range<usize>>> {
        let points = self.points.dim().2;
        let size = (RESPONSIBILITIES / self.components).clamp(POINTS.0, POINTS.1);
        let ranges: Vec<Range<usize>> =
            (0..points).step_by(size).map(|from| from..(from + size).min(points)).collect();
        ranges.chunks(ranges.len().div_ceil(RUNS).max(1)).map(<[_]>::to_vec).collect()
    }

    /// Every problem with every run of points, run by run.
    fn tasks(&self) -> Vec<(usize, Vec<Range<usize>>)> {
        let problems = self.problems();
        let runs = self.runs().into_iter();
        runs.flat_map(|run| (0..problems).map(move |problem| (problem, run.clone()))).collect()
    }

    /// Problems that weigh points by `state`.
    fn weighing<'s>(&self, state: &'s State<T>) -> Result<Vec<Weighing<'s, T>>, Error> {
        let shape = Shape::of(&state.queries.view(), &self.points.view(), 0)?;
        let one = |problem: usize| {
            let head = (problem / self.heads, problem % self.heads);
            let place = Place { shape: &shape, batch: head.0, head: head.1, first: 0 };
            let queries = state.queries.slice(s![head.0, head.1, .., ..]);
            let components = Features::new(GaussianDensity.query_features(place, queries), 0);
            let prior = Bias::new(state.log_weights.view());
            Weighing { shape, head, prior, components }
        };
        Ok((0..self.problems()).map(one).collect())
    }

    /// Points of a range as `problem` has them, [n, D].
    fn range(&self, problem: usize, range: &Range<usize>) -> ArrayView2<'_, T> {
        let (b, key_head) = self.place(problem);
        self.points.slice(s![b, key_head, range.clone(), ..])
    }

    /// Room for the responsibilities of the longest range of a run.
    fn room_for(&self, ranges: &[Range<usize>]) -> (Aligned<T>, usize) {
        room(self.components, ranges.iter().map(Range::len).max().unwrap_or(0))
    }

    /// Moments of the points under the responsibilities, and F.
    ///
    /// Responsibilities are made for some points at a time, so that neither they nor deviations of
    /// every point from every component are ever held.
    pub(super) fn gather(&self, state: &State<T>) -> Result<Gathered, Error> {
        let (width, k, problems) = (self.points.dim().3, self.components, self.problems());
        let weighing = self.weighing(state)?;
        let run = |(problem, ranges): (usize, Vec<Range<usize>>)| {
            let (mut room, stride) = self.room_for(&ranges);
            let (b, h) = weighing[problem].head;
            let near = state.queries.slice(s![b, h, .., ..width]);
            let (mut all, mut energy) = (Moments::none(k, width), 0.0);
            for range in ranges {
                let points = self.range(problem, &range);
                let weighed = weighing[problem].weigh(points, range, (&mut room, stride));
                let mut own = Moments::none(k, width);
                own.fill(weighed.across.view(), weighed.responsibilities(), near);
                all.merge(0, &own);
                let log_z = (0..weighed.normalisers.len()).map(|j| weighed.normalisers.log_z(j));
                energy -= log_z.map(|z| z.f64()).sum::<f64>();
            }
            (problem, all, energy)
        };
        let parts = parallel::map_each(self.tasks(), &run);
        let mut gathered =
            Gathered { moments: Moments::none(problems * k, width), energies: vec![0.0; problems] };
        for (problem, moments, energy) in parts {
            gathered.moments.merge(problem * k, &moments);
            gathered.energies[problem] += energy;
        }
        Ok(gathered)
    }

    /// Backward of [`gather`](Self::gather): from the gradient of the moments, where a component
    /// has one, to that of z as the model reads it and of the points.
    ///
    /// With f_kj = ∂L/∂r_kj the scores have the gradient g_kj = r_kj (f_kj − Σ_l r_lj f_lj).
    pub(super) fn gather_backward(
        &self,
        state: &State<T>,
        gathered: &Gathered,
        upstream: &[Option<OfMoments<T>>],
    ) -> Result<Gradients<T>, Error> {
        let k = self.components;
        let weighing = self.weighing(state)?;
        let run = |(problem, ranges): (usize, Vec<Range<usize>>)| {
            let of_problem = &upstream[problem * k..][..k];
            let first = ranges[0].start;
            let points = ranges.iter().map(Range::len).sum();
            let mut part = Part {
                density: vec![Density::none(self.points.dim().3); k],
                points: Array2::zeros((points, self.points.dim().3)),
            };
            if of_problem.iter().any(Option::is_some) {
                let (mut room, stride) = self.room_for(&ranges);
                let (mut quantity, _) = self.room_for(&ranges);
                for range in ranges {
                    let own = range.start - first..range.end - first;
                    let points = self.range(problem, &range);
                    let mut weighed = weighing[problem].weigh(points, range, (&mut room, stride));
                    let of_points = self.backward_of_range(
                        (problem, state),
                        gathered,
                        of_problem,
                        &mut weighed,
                        &mut quantity,
                        &mut part.density,
                    );
                    let of_points = transposed(of_points.view());
                    part.points.slice_mut(s![own, ..]).assign(&of_points);
                }
            }
            (problem, first, part)
        };
        let parts = parallel::map_each(self.tasks(), &run);

        let mut density = vec![Density::none(self.points.dim().3); upstream.len()];
        let mut of_points = Array4::zeros(self.points.raw_dim());
        for (problem, first, part) in parts {
            let own = density[problem * k..][..k].iter_mut();
            own.zip(&part.density).for_each(|(sum, part)| sum.merge(part));
            let (b, key_head) = self.place(problem);
            let until = first + part.points.nrows();
            let mut into = of_points.slice_mut(s![b, key_head, first..until, ..]);
            into += &part.points;
        }
        let mut queries = Array4::zeros(state.queries.raw_dim());
        let (batch, heads, _, _) = queries.dim();
        let mut log_weights = Array3::zeros((batch, heads, k));
        for (index, density) in density.iter().enumerate() {
            let (b, h, k) = (index / k / heads, index / k % heads, index % k);
            log_weights[[b, h, k]] = T::of(density.mass);
            let row = state.queries.slice(s![b, h, k, ..]);
            density.write(row, queries.slice_mut(s![b, h, k, ..]));
        }
        Ok(Gradients { queries, log_weights, points: of_points })
    }

    /// Adds what some points say of the components to `density`; returns the gradient of the points,
    /// [D, n].
    fn backward_of_range(
        &self,
        (problem, state): (usize, &State<T>),
        gathered: &Gathered,
        upstream: &[Option<OfMoments<T>>],
        weighed: &mut Weighed<'_, T>,
        quantity: &mut [T],
        density: &mut [Density],
    ) -> Array2<T> {
        let set = InstructionSet::detect();
        let (n, k, stride) = (weighed.block.keys.len(), self.components, weighed.stride);
        let mut of_points = Array2::zeros(weighed.across.raw_dim());
        let mut f = TileMut::new(quantity, k, n, stride);
        for (k, upstream) in upstream.iter().enumerate() {
            let Some(upstream) = upstream else {
                f.row_mut(k).fill(T::zero());
                continue;
            };
            let moments = gathered.moments.component(problem * self.components + k);
            upstream.of_weights(moments, weighed.across.view(), f.row_mut(k));
            let weights = weighed.responsibilities();
            let weights = weights.row(k).to_slice().expect("rows lie in a run");
            upstream.of_points(moments, (weighed.across.view(), weights), of_points.view_mut());
        }
        let mut centre = vec![T::zero(); n];
        let Weighed { across, responsibilities, .. } = weighed;
        let mut r = TileMut::new(responsibilities, k, n, stride);
        dot_columns(set, r.as_tile(), f.as_tile(), &mut centre);
        let (b, h) = (problem / self.heads, problem % self.heads);
        for (k, density) in density.iter_mut().enumerate() {
            let (row, f) = (r.row_mut(k), f.row_mut(k));
            set.run(
                #[inline(always)]
                || {
                    for ((g, &f), &centre) in row.iter_mut().zip(&*f).zip(&centre) {
                        // f of what has no share may be anything.
                        *g = if *g == T::zero() { *g } else { *g * (f - centre) };
                    }
                },
            );
            let query = state.queries.slice(s![b, h, k, ..]);
            density.add(query, (across.view(), row), of_points.view_mut());
        }
        of_points
    }
}
