use marginals_kernels::{InstructionSet, Tile, TileMut};
use ndarray::Array2;

use super::gaussian_distance::squared_distances;
use super::{FeatureGradient, Features, Potential, check_equal_widths};
use crate::{Block, Error, Parameter, Real, Shape, model};

/// log ψ(q, k) = −½ (q − k)ᵀ Λ (q − k), Λ a scalar or diagonal precision.
///
/// Differences are taken before squaring, so that nearby nodes far from the origin keep their
/// digits; that costs about twice an inner product. The normaliser of the Gaussian is left to the
/// prior, where it cancels unless precisions differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    /// [H or 1, D or 1].
    precision: Array2<f64>,
}

impl Gaussian {
    /// The same scalar precision for every head.
    pub fn new(precision: f64) -> Self {
        Self { precision: Array2::from_elem((1, 1), precision) }
    }

    /// Precisions of shape [H, D]; an axis of length 1 is shared by heads, or makes the precision
    /// of a head a scalar.
    pub fn with_precision(precision: Array2<f64>) -> Self {
        Self { precision }
    }

    /// The precision of `head`, one number per coordinate.
    fn of_head<T: Real>(&self, head: usize, width: usize) -> Vec<T> {
        let row = self.precision.row(model::head_index(self.precision.nrows(), head));
        (0..width).map(|d| T::of(row[if row.len() == 1 { 0 } else { d }])).collect()
    }
}

impl<T: Real> Potential<T> for Gaussian {
    fn name(&self) -> &'static str {
        "gaussian"
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        check_equal_widths("gaussian", shape)?;
        let (heads, width) = self.precision.dim();
        if (heads != 1 && heads != shape.heads) || (width != 1 && width != shape.query_width) {
            return Err(Error::shape(
                "gaussian.precision",
                format!("[{}, {}], either axis of which may be 1", shape.heads, shape.query_width),
                self.precision.shape(),
                "Give one precision per head and coordinate.",
            ));
        }
        match self.precision.iter().find(|x| !x.is_finite() || **x < 0.0) {
            None => Ok(()),
            Some(x) => Err(Error::value("gaussian.precision", "finite numbers ≥ 0", x)),
        }
    }
    fn greatest(&self, _head: usize, _query_length: f64, _key_length: f64) -> Option<f64> {
        Some(0.0)
    }
    fn log_potential(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        k: &Features<'_, T>,
        mut scores: TileMut<'_, T>,
    ) {
        let precision = self.of_head::<T>(block.head, q.depth());
        let half = T::of(-0.5);
        InstructionSet::detect().run(
            #[inline(always)]
            || {
                squared_distances(
                    |r| (q.row(block.queries.start + r), &precision),
                    k,
                    block.keys.clone(),
                    |_, square| half * square,
                    &mut scores,
                );
            },
        );
    }
    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter::new("gaussian.precision", self.precision.shape())]
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
        let width = q.depth();
        let precision = self.of_head::<T>(block.head, width);
        let mut squares = vec![T::zero(); width];
        for (r, i) in block.queries.clone().enumerate() {
            let query = q.row(i);
            let dq = &mut into.q[r * width..][..width];
            for (c, j) in block.keys.clone().enumerate() {
                let g = gradient.row(r)[c];
                if g == T::zero() {
                    continue;
                }
                let (key, dk) = (k.row(j), &mut into.k[c * width..][..width]);
                for d in 0..width {
                    let difference = query[d] - key[d];
                    let pull = g * precision[d] * difference;
                    dq[d] -= pull;
                    dk[d] += pull;
                    squares[d] += g * difference * difference;
                }
            }
        }
        let (heads, columns) = self.precision.dim();
        let row = model::head_index(heads, block.head) * columns;
        for (d, square) in squares.iter().enumerate() {
            into.parameters[0][row + if columns == 1 { 0 } else { d }] -= 0.5 * square.f64();
        }
        Ok(())
    }
}
