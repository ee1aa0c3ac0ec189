use marginals_kernels::{InstructionSet, Tile, TileMut};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, CowArray, Ix2};

use super::contract::{Place, Potential};
use super::features::{FeatureGradient, Features};
use super::gaussian_distance::squared_distances;
use crate::{Block, Error, Real, Shape};

/// log ψ(q, k) = log N(k; μ, diag σ²), q = (μ, σ²): a Gaussian whose width belongs to the query,
/// its normaliser included.
///
/// A query is D means and then D variances, or one variance for all coordinates; a key is D
/// coordinates. With keys choosing among queries that are the components of a mixture, and the
/// mixing weights as the prior, the log-partition of a key is its log-density. Where a variance is
/// not positive the score is NaN. Cost: as [`Gaussian`](super::Gaussian).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaussianDensity;

/// Parts of a feature row of a query: μ, the precisions 1/σ² and the log-normaliser.
fn parts<T>(row: &[T], width: usize) -> (&[T], &[T], &T) {
    let (mean, rest) = row.split_at(width);
    (mean, &rest[..width], &rest[width])
}

/// Number of coordinates and of variances in a query of this width.
fn split(place: &Place<'_>) -> (usize, usize) {
    let width = place.shape.key_width;
    (width, place.shape.query_width - width)
}

impl<T: Real> Potential<T> for GaussianDensity {
    fn name(&self) -> &'static str {
        "gaussian-density"
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        let (d, width) = (shape.key_width, shape.query_width);
        if d > 0 && (width == d + 1 || width == 2 * d) {
            return Ok(());
        }
        Err(Error::Shape {
            argument: "q".to_owned(),
            expected: format!("rows of {d} means and then 1 or {d} variances, as k has width {d}"),
            found: format!("rows of {width}"),
            advice: "`gaussian-density` reads the variances of a query off its row.".to_owned(),
        })
    }
    fn query_features<'a>(&self, place: Place<'_>, q: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
        let (width, variances) = split(&place);
        let log_two_pi = T::of(std::f64::consts::TAU.ln());
        let mut features = Array2::zeros((q.nrows(), 2 * width + 1));
        for (mut row, q) in features.rows_mut().into_iter().zip(q.rows()) {
            let mut normaliser = T::zero();
            for d in 0..width {
                let variance = q[width + if variances == 1 { 0 } else { d }];
                row[d] = q[d];
                row[width + d] = T::one() / variance;
                normaliser += log_two_pi + variance.ln();
            }
            row[2 * width] = T::of(-0.5) * normaliser;
        }
        features.into()
    }
    fn log_potential(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        k: &Features<'_, T>,
        mut scores: TileMut<'_, T>,
    ) {
        let width = k.depth();
        let half = T::of(-0.5);
        InstructionSet::detect().run(
            #[inline(always)]
            || {
                let row = |r: usize| parts(q.row(block.queries.start + r), width);
                squared_distances(
                    |r| (row(r).0, row(r).1),
                    k,
                    block.keys.clone(),
                    |r, square| half * square + *row(r).2,
                    &mut scores,
                );
            },
        );
    }
    fn backward(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        k: &Features<'_, T>,
        _log_potential: Option<Tile<'_, T>>,
        gradient: TileMut<'_, T>,
        into: &mut FeatureGradient<'_, T>,
    ) -> Result<(), Error> {
        let (width, depth) = (k.depth(), q.depth());
        let half = T::of(0.5);
        for (r, i) in block.queries.clone().enumerate() {
            let (mean, precision, _) = parts(q.row(i), width);
            let (of_mean, rest) = into.q[r * depth..][..depth].split_at_mut(width);
            let (of_precision, of_normaliser) = rest.split_at_mut(width);
            for (c, j) in block.keys.clone().enumerate() {
                let g = gradient.row(r)[c];
                if g == T::zero() {
                    continue;
                }
                let (key, of_key) = (k.row(j), &mut into.k[c * width..][..width]);
                for d in 0..width {
                    let difference = key[d] - mean[d];
                    let pull = g * precision[d] * difference;
                    of_mean[d] += pull;
                    of_key[d] -= pull;
                    of_precision[d] -= half * g * difference * difference;
                }
                of_normaliser[0] += g;
            }
        }
        Ok(())
    }
    fn query_features_backward(
        &self,
        place: Place<'_>,
        q: ArrayView2<'_, T>,
        gradient: ArrayView2<'_, T>,
        mut into: ArrayViewMut2<'_, T>,
        _parameters: &mut [Vec<f64>],
    ) {
        let (width, variances) = split(&place);
        let half = T::of(0.5);
        for ((mut into, g), q) in into.rows_mut().into_iter().zip(gradient.rows()).zip(q.rows()) {
            for d in 0..width {
                let index = width + if variances == 1 { 0 } else { d };
                let precision = T::one() / q[index];
                into[d] = g[d];
                into[index] -= precision * (precision * g[width + d] + half * g[2 * width]);
            }
        }
    }
}
