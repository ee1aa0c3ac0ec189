//! Mass, mean and squared deviations of weighted points, in parts that merge.
//!
//! Squares are taken about where the points of a component are, never about what all components
//! share: the digits of a variance then do not depend on how far its component lies from the others
//! or from 0.

use marginals_kernels::InstructionSet;
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2};

use crate::Real;

/// Points that one running sum of `T` goes over; sums of sums are in f64.
const RUN: usize = 512;

/// Times that the reference of a sum is moved into the middle of its points.
const MOVES: usize = 3;

/// Mass n = Σ_j r_j, mean m = Σ_j r_j x_j / n and squared deviations S = Σ_j r_j (x_j − m)² of
/// weighted points, by component and coordinate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moments {
    width: usize,
    /// [C].
    mass: Vec<f64>,
    /// [C, D].
    mean: Vec<f64>,
    /// [C, D].
    squares: Vec<f64>,
}

/// The moments of one component.
#[derive(Clone, Copy)]
pub(super) struct Component<'a> {
    pub mass: f64,
    /// [D].
    pub mean: &'a [f64],
    squares: &'a [f64],
}

impl Component<'_> {
    /// S / n of one coordinate.
    pub fn variance(&self, d: usize) -> f64 {
        self.squares[d] / self.mass
    }
}

impl Moments {
    /// Those of `components` without points.
    pub fn none(components: usize, width: usize) -> Self {
        let zeros = || vec![0.0; components * width];
        Self { width, mass: vec![0.0; components], mean: zeros(), squares: zeros() }
    }

    /// Those of one component.
    pub fn component(&self, index: usize) -> Component<'_> {
        let own = index * self.width..(index + 1) * self.width;
        let (mean, squares) = (&self.mean[own.clone()], &self.squares[own]);
        Component { mass: self.mass[index], mean, squares }
    }

    /// Adds other points to every component, by
    ///
    /// ```text
    /// n = n_a + n_b,   m = m_a + (m_b − m_a) n_b/n,   S = S_a + S_b + (m_b − m_a)² n_a n_b/n
    /// ```
    ///
    /// (Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance"): nothing is
    /// subtracted from S. Component 0 of the others is component `first` here.
    pub fn merge(&mut self, first: usize, other: &Self) {
        for index in 0..other.mass.len() {
            self.merge_component(first + index, other.component(index));
        }
    }

    /// Adds other points to one component.
    pub fn merge_component(&mut self, index: usize, other: Component<'_>) {
        if other.mass == 0.0 {
            return;
        }
        let before = self.mass[index];
        let mass = before + other.mass;
        let share = other.mass / mass;
        self.mass[index] = mass;
        let own = index * self.width..(index + 1) * self.width;
        let others = other.mean.iter().zip(other.squares);
        let own = self.mean[own.clone()].iter_mut().zip(&mut self.squares[own]);
        for ((mean, squares), (other_mean, other_squares)) in own.zip(others) {
            let apart = other_mean - *mean;
            // The mean of no points is none, not 0.
            *mean = if before == 0.0 { *other_mean } else { *mean + apart * share };
            *squares += other_squares + apart * apart * (before * share);
        }
    }

    /// Adds one point of weight 1 to one component.
    pub fn push<T: Real>(&mut self, index: usize, x: ArrayView1<'_, T>) {
        let mean: Vec<f64> = x.iter().map(|x| x.f64()).collect();
        let squares = vec![0.0; mean.len()];
        self.merge_component(index, Component { mass: 1.0, mean: &mean, squares: &squares });
    }

    /// Writes the moments of the points `across` [D, n] under `weights` [K, n]. `near` [K, D] are
    /// guesses of the means.
    pub fn fill<T: Real>(
        &mut self,
        across: ArrayView2<'_, T>,
        weights: ArrayView2<'_, T>,
        near: ArrayView2<'_, T>,
    ) {
        let width = self.width;
        InstructionSet::detect().run(
            #[inline(always)]
            || {
                for k in 0..self.mass.len() {
                    let weights = weights.row(k);
                    let weights = weights.to_slice().expect("rows lie in a run");
                    let mass = sums(weights, weights, |_, r| (r, T::zero())).0;
                    // Products with so small weights have no digits, and a component that has no
                    // other points has none.
                    if mass <= T::min_positive_value().f64() {
                        continue;
                    }
                    self.mass[k] = mass;
                    for d in 0..width {
                        let x = across.row(d).to_slice().expect("rows lie in a run");
                        let (mean, squares) = about_mean(x, weights, mass, near[[k, d]]);
                        (self.mean[k * width + d], self.squares[k * width + d]) = (mean, squares);
                    }
                }
            },
        );
    }
}

/// m and S of one coordinate of points whose weights sum up to `mass`; `near` is a guess of m.
///
/// With a reference c, m = c + Σ r (x − c)/n and S = Σ r (x − c)² − n (m − c)²: little is
/// subtracted where c is near m, and c moves there where it is not.
#[inline(always)]
fn about_mean<T: Real>(x: &[T], weights: &[T], mass: f64, near: T) -> (f64, f64) {
    let mut reference = near;
    let mut moves = 0;
    loop {
        let (first, second) = sums(x, weights, |x, r| {
            let away = x - reference;
            (r * away, r * away * away)
        });
        let away = first / mass;
        let mean = reference.f64() + away;
        let squares = (second - first * away).max(0.0);
        let next = T::of(mean);
        let is_near = away * away * mass <= squares || next == reference;
        if is_near || moves == MOVES || !next.is_finite() {
            return (mean, squares);
        }
        reference = next;
        moves += 1;
    }
}

/// Sums over all points of two functions of a coordinate and the weight.
#[inline(always)]
fn sums<T: Real>(x: &[T], weights: &[T], f: impl Fn(T, T) -> (T, T)) -> (f64, f64) {
    const LANES: usize = 32;
    let mut total = (0.0, 0.0);
    for (x, weights) in x.chunks(RUN).zip(weights.chunks(RUN)) {
        let (mut first, mut second) = ([T::zero(); LANES], [T::zero(); LANES]);
        let (x, weights) = (x.as_chunks::<LANES>(), weights.as_chunks::<LANES>());
        for (x, weights) in x.0.iter().zip(weights.0) {
            for lane in 0..LANES {
                let (a, b) = f(x[lane], weights[lane]);
                first[lane] += a;
                second[lane] += b;
            }
        }
        for (lane, (&x, &weight)) in x.1.iter().zip(weights.1).enumerate() {
            let (a, b) = f(x, weight);
            first[lane] += a;
            second[lane] += b;
        }
        let mut half = LANES;
        while half > 1 {
            half /= 2;
            for lane in 0..half {
                first[lane] += first[lane + half];
                second[lane] += second[lane + half];
            }
        }
        total.0 += first[0].f64();
        total.1 += second[0].f64();
    }
    total
}

/// Gradient of a loss with respect to the moments of one component.
pub(super) struct OfMoments<T> {
    /// ∂L/∂n, what follows not through the others.
    pub mass: T,
    /// ∂L/∂m, [D].
    pub mean: Vec<T>,
    /// ∂L/∂(S/n), [D].
    pub variance: Vec<T>,
}

/// Coefficients of one coordinate: the loss moves with r_j by a (x_j − m) + b ((x_j − m)² − S/n).
#[derive(Clone, Copy)]
struct Coefficients<T> {
    a: T,
    b: T,
    variance: T,
    /// m as `T` holds it, and what that leaves out.
    mean: (T, T),
}

impl<T: Real> Coefficients<T> {
    #[inline(always)]
    fn away(&self, x: T) -> T {
        x - self.mean.0 - self.mean.1
    }
}

impl<T: Real> OfMoments<T> {
    fn coefficients(&self, moments: Component<'_>, d: usize) -> Coefficients<T> {
        let (mass, mean) = (moments.mass, moments.mean[d]);
        let nearest = T::of(mean);
        Coefficients {
            a: T::of(self.mean[d].f64() / mass),
            b: T::of(self.variance[d].f64() / mass),
            variance: T::of(moments.variance(d)),
            mean: (nearest, T::of(mean - nearest.f64())),
        }
    }

    /// Writes the gradient of every point's weight,
    ///
    /// ```text
    /// ∂L/∂r_j = ∂L/∂n + Σ_d (∂L/∂m (x_j − m) + ∂L/∂(S/n) ((x_j − m)² − S/n)) / n
    /// ```
    ///
    /// for the points `across` [D, n].
    pub fn of_weights(&self, moments: Component<'_>, across: ArrayView2<'_, T>, into: &mut [T]) {
        into.fill(self.mass);
        InstructionSet::detect().run(
            #[inline(always)]
            || {
                for d in 0..across.nrows() {
                    let of = self.coefficients(moments, d);
                    let x = across.row(d).to_slice().expect("rows lie in a run");
                    for (f, &x) in into.iter_mut().zip(x) {
                        let away = of.away(x);
                        *f += of.a * away + of.b * (away * away - of.variance);
                    }
                }
            },
        );
    }

    /// Adds the gradient of every point x_j of weight r_j, its weight held,
    ///
    /// ```text
    /// ∂L/∂x_j = r_j (∂L/∂m + 2 ∂L/∂(S/n) (x_j − m)) / n
    /// ```
    ///
    /// for the points `across` [D, n].
    pub fn of_points(
        &self,
        moments: Component<'_>,
        (across, weights): (ArrayView2<'_, T>, &[T]),
        mut into: ArrayViewMut2<'_, T>,
    ) {
        InstructionSet::detect().run(
            #[inline(always)]
            || {
                for d in 0..across.nrows() {
                    let of = self.coefficients(moments, d);
                    let twice = of.b + of.b;
                    let mut into = into.row_mut(d);
                    let into = into.as_slice_mut().expect("rows lie in a run");
                    let points = across.row(d).to_slice().expect("rows lie in a run");
                    for ((into, &x), &r) in into.iter_mut().zip(points).zip(weights) {
                        *into += r * (of.a + twice * of.away(x));
                    }
                }
            },
        );
    }
}

/// Sums, for one component, of the gradient g_j of log π + log N(x_j; μ, σ²) by point.
#[derive(Clone)]
pub(super) struct Density {
    /// Σ_j g_j: the gradient of log π.
    pub mass: f64,
    /// Σ_j g_j (x_j − μ), [D].
    first: Vec<f64>,
    /// Σ_j g_j (x_j − μ)², [D].
    second: Vec<f64>,
}

impl Density {
    /// That of no points.
    pub fn none(width: usize) -> Self {
        Self { mass: 0.0, first: vec![0.0; width], second: vec![0.0; width] }
    }

    /// Adds the points `across` [D, n] and their gradients to the component whose mean and
    /// variances are `query`, and to their own gradients,
    ///
    /// ```text
    /// ∂L/∂x_j −= g_j (x_j − μ) / σ².
    /// ```
    pub fn add<T: Real>(
        &mut self,
        query: ArrayView1<'_, T>,
        (across, gradients): (ArrayView2<'_, T>, &[T]),
        mut into: ArrayViewMut2<'_, T>,
    ) {
        let width = across.nrows();
        InstructionSet::detect().run(
            #[inline(always)]
            || {
                self.mass += sums(gradients, gradients, |_, g| (g, T::zero())).0;
                for d in 0..width {
                    let (mean, variance) = (query[d], query[(width + d).min(query.len() - 1)]);
                    let precision = T::one() / variance;
                    let points = across.row(d).to_slice().expect("rows lie in a run");
                    let (first, second) = sums(points, gradients, |x, g| {
                        let away = x - mean;
                        (g * away, g * away * away)
                    });
                    self.first[d] += first;
                    self.second[d] += second;
                    let mut into = into.row_mut(d);
                    let into = into.as_slice_mut().expect("rows lie in a run");
                    for ((into, &x), &g) in into.iter_mut().zip(points).zip(gradients) {
                        *into -= g * (precision * (x - mean));
                    }
                }
            },
        );
    }

    /// Adds what other points came to.
    pub fn merge(&mut self, other: &Self) {
        self.mass += other.mass;
        self.first.iter_mut().zip(&other.first).for_each(|(sum, x)| *sum += x);
        self.second.iter_mut().zip(&other.second).for_each(|(sum, x)| *sum += x);
    }

    /// Writes the gradient of the mean and the variances `query`, one or D of them:
    ///
    /// ```text
    /// ∂L/∂μ = Σ_j g_j (x_j − μ) / σ²,   ∂L/∂σ² = ½ Σ_j g_j ((x_j − μ)²/σ² − 1) / σ².
    /// ```
    pub fn write<T: Real>(&self, query: ArrayView1<'_, T>, mut into: ArrayViewMut1<'_, T>) {
        let width = self.first.len();
        let mut of_variances = vec![0.0; query.len() - width];
        for d in 0..width {
            let v = d.min(of_variances.len() - 1);
            let precision = 1.0 / query[width + v].f64();
            into[d] = T::of(precision * self.first[d]);
            of_variances[v] += 0.5 * precision * (precision * self.second[d] - self.mass);
        }
        for (v, of_variance) in of_variances.into_iter().enumerate() {
            into[width + v] = T::of(of_variance);
        }
    }
}
