use marginals_kernels::{InstructionSet, Tile, TileMut};
use ndarray::{Array2, ArrayD, s};
use serde::{Deserialize, Serialize};

use super::contract::{Potential, PotentialPart, check_equal_widths};
use super::features::{FeatureGradient, Features};
use super::gaussian_distance::squared_distances;
use super::tangent::Motion;
use crate::infer::EdgeFunction;
use crate::model::numbers::Values;
use crate::model::part::{Number, Part};
use crate::model::tensors::Inputs;
use crate::{Block, Error, Parameter, Real, Shape, number};

/// log ψ(q, k) = −½ (q − k)ᵀ Λ (q − k), Λ a scalar or diagonal precision.
///
/// Differences are taken before squaring, so that nearby nodes far from the origin keep their
/// digits; that costs about twice an inner product. The normaliser of the Gaussian is left to the
/// prior, where it cancels unless precisions differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Gaussian {
    /// Λ.
    pub precision: Precision,
}

impl Gaussian {
    /// The same scalar precision for every head.
    pub fn new(precision: f64) -> Self {
        Self { precision: precision.into() }
    }

    /// Precisions of shape [H, D]; an axis of length 1 is shared by heads, or makes the precision
    /// of a head a scalar.
    pub fn with_precision(precision: Array2<f64>) -> Self {
        Self { precision: precision.into() }
    }

    /// The precision of `head`, one number per coordinate.
    fn of_head<T: Real>(&self, head: usize, width: usize) -> Vec<T> {
        (0..width).map(|d| T::of(self.precision.of(head, d))).collect()
    }
}

impl Part for Gaussian {
    const NAME: &'static str = "gaussian";
    const MEANING: &'static str = "log ψ = −½ (q − k)ᵀ Λ (q − k), Λ a number, `2.0`, or diagonal: a row of one number per \
         coordinate for all heads, `[[1.0, 2.0, 3.0]]`, or a row per head";
    const EXAMPLE: &'static str = "{ gaussian = { precision = 2.0 } }";
    const NUMBERS: &'static [Number<Self>] =
        &[number!("gaussian.precision", NotNegative, precision)];
}

impl PotentialPart for Gaussian {
    fn build<T: Real>(&self, _inputs: &Inputs<'_, T>) -> Result<Box<dyn Potential<T>>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl<T: Real> Potential<T> for Gaussian {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        check_equal_widths(Self::NAME, shape)?;
        self.check_numbers(shape)
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
        self.learnable()
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
        for (d, square) in squares.iter().enumerate() {
            into.parameters[0][self.precision.index(block.head, d)] -= 0.5 * square.f64();
        }
        Ok(())
    }
    fn tangent(&self, motion: Motion<T>) -> Result<Box<dyn EdgeFunction<T>>, Error> {
        Ok(Box::new(GaussianTangent { of: self.clone(), motion }))
    }
}

/// How fast the log-potential moves: −(q − k)ᵀ Λ (q̇ − k̇).
#[derive(Debug)]
struct GaussianTangent<T> {
    of: Gaussian,
    motion: Motion<T>,
}

impl<T: Real> EdgeFunction<T> for GaussianTangent<T> {
    fn fill(&self, block: &Block, mut values: TileMut<'_, T>) {
        let Motion { shape, q, k, q_tangent, k_tangent } = &self.motion;
        let precision = self.of.of_head::<T>(block.head, shape.query_width);
        let key_head = shape.key_head(block.head);
        for (r, i) in block.queries.clone().enumerate() {
            let query = q.slice(s![block.batch, block.head, i, ..]);
            let moving = q_tangent.as_ref().map(|x| x.slice(s![block.batch, block.head, i, ..]));
            for (value, j) in values.row_mut(r).iter_mut().zip(block.keys.clone()) {
                let key = k.slice(s![block.batch, key_head, j, ..]);
                let key_moving =
                    k_tangent.as_ref().map(|x| x.slice(s![block.batch, key_head, j, ..]));
                let mut sum = T::zero();
                for (d, &precision) in precision.iter().enumerate() {
                    let mut apart = moving.as_ref().map_or(T::zero(), |x| x[d]);
                    apart -= key_moving.as_ref().map_or(T::zero(), |x| x[d]);
                    sum += precision * (query[d] - key[d]) * apart;
                }
                *value = -sum;
            }
        }
    }
}

/// Precisions of a Gaussian by head and coordinate, [H, D]; an axis of length 1 is shared by heads,
/// or makes the precision of a head a scalar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Precision(Array2<f64>);

/// How precisions are written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a number, or a diagonal: one row for all heads or one row per head, of a number per \
                 coordinate: `2.0` or `[[1.0, 2.0, 3.0]]`"
)]
enum Written {
    Scalar(f64),
    Rows(Vec<Vec<f64>>),
}

impl Precision {
    /// The precision of one head and coordinate.
    #[inline(always)]
    pub fn of(&self, head: usize, coordinate: usize) -> f64 {
        let (heads, width) = self.0.dim();
        self.0[[if heads == 1 { 0 } else { head }, if width == 1 { 0 } else { coordinate }]]
    }

    /// Position of a head and coordinate among [`Values::values`].
    #[inline(always)]
    pub fn index(&self, head: usize, coordinate: usize) -> usize {
        let (heads, width) = self.0.dim();
        let row = if heads == 1 { 0 } else { head };
        row * width + if width == 1 { 0 } else { coordinate }
    }
}

impl From<f64> for Precision {
    fn from(scalar: f64) -> Self {
        Self(Array2::from_elem((1, 1), scalar))
    }
}

impl From<Array2<f64>> for Precision {
    fn from(precision: Array2<f64>) -> Self {
        Self(precision.as_standard_layout().into_owned())
    }
}

impl TryFrom<Written> for Precision {
    type Error = &'static str;
    fn try_from(written: Written) -> Result<Self, &'static str> {
        let rows = match written {
            Written::Scalar(scalar) => return Ok(scalar.into()),
            Written::Rows(rows) => rows,
        };
        let columns = rows.first().map_or(0, Vec::len);
        match Array2::from_shape_vec((rows.len(), columns), rows.concat()) {
            Ok(matrix) if rows.iter().all(|row| row.len() == columns) => Ok(Self(matrix)),
            _ => Err("rows of equal length"),
        }
    }
}

impl From<Precision> for Written {
    fn from(precision: Precision) -> Self {
        match precision.0.as_slice() {
            Some([scalar]) => Self::Scalar(*scalar),
            _ => Self::Rows(precision.0.outer_iter().map(|row| row.to_vec()).collect()),
        }
    }
}

impl Values for Precision {
    fn shape(&self) -> Vec<usize> {
        self.0.shape().to_vec()
    }
    fn values(&self) -> &[f64] {
        self.0.as_slice().expect("made in row-major order")
    }
    fn replace(&mut self, name: &str, values: ArrayD<f64>) -> Result<(), Error> {
        let shape = match *values.shape() {
            [] => [1, 1],
            [width] => [1, width],
            [heads, width] => [heads, width],
            _ => {
                return Err(Error::shape(
                    name,
                    "at most 2 axes",
                    values.shape(),
                    "Axes are aligned from the last.",
                ));
            }
        };
        let values = values.into_iter().collect();
        self.0 = Array2::from_shape_vec(shape, values).expect("the same number of entries");
        Ok(())
    }
    fn check(&self, name: &str, shape: &Shape) -> Result<(), Error> {
        let (heads, width) = self.0.dim();
        if (heads == 1 || heads == shape.heads) && (width == 1 || width == shape.query_width) {
            return Ok(());
        }
        Err(Error::shape(
            name,
            format!("[{}, {}], either axis of which may be 1", shape.heads, shape.query_width),
            self.0.shape(),
            "Give one precision per head and coordinate.",
        ))
    }
}
