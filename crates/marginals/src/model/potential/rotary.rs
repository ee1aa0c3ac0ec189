use marginals_kernels::{Tile, TileMut};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, CowArray, Ix2};

use super::{FeatureGradient, Features, Place, Potential};
use crate::{Block, Error, Parameter, Real, Shape};

/// Which coordinates turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotaryPairs {
    /// Coordinates c and c + width/2.
    Halves,
    /// Coordinates 2c and 2c + 1.
    Neighbours,
}

/// Rotary positions before any potential (Su et al., arXiv 2104.09864, eq. 14): pair c of a node at
/// position p is turned by the angle p · base^(−2c/width), so that products depend on relative
/// position alone.
///
/// Key j sits at position j, query i at i + the model's query offset. Angles are computed in `f64`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary<P> {
    inner: P,
    base: f64,
    pairs: RotaryPairs,
}

impl<P> Rotary<P> {
    /// Rotary positions before `inner`; the usual base is 10,000.
    pub fn new(inner: P, base: f64, pairs: RotaryPairs) -> Self {
        Self { inner, base, pairs }
    }

    /// Turns every row forward (`sign` = 1) or back (−1); row r stands at `first` + r.
    fn turn<T: Real>(&self, rows: ArrayView2<'_, T>, first: i64, sign: f64) -> Array2<T> {
        let width = rows.ncols();
        let half = width / 2;
        let mut turned = rows.to_owned();
        let frequencies: Vec<f64> =
            (0..half).map(|c| self.base.powf(-2.0 * c as f64 / width as f64)).collect();
        for (r, mut row) in turned.outer_iter_mut().enumerate() {
            for (c, frequency) in frequencies.iter().enumerate() {
                let (x, y) = match self.pairs {
                    RotaryPairs::Halves => (c, c + half),
                    RotaryPairs::Neighbours => (2 * c, 2 * c + 1),
                };
                let (sin, cos) = ((first + r as i64) as f64 * frequency * sign).sin_cos();
                let (sin, cos) = (T::of(sin), T::of(cos));
                let (a, b) = (row[x], row[y]);
                row[x] = a * cos - b * sin;
                row[y] = a * sin + b * cos;
            }
        }
        turned
    }
}

fn query_position(place: &Place<'_>) -> i64 {
    place.first as i64 + place.shape.query_offset
}

impl<T: Real, P: Potential<T>> Potential<T> for Rotary<P> {
    fn name(&self) -> &'static str {
        "rotary"
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        self.inner.check(shape)?;
        for (name, width) in [("q", shape.query_width), ("k", shape.key_width)] {
            if width % 2 != 0 {
                return Err(Error::Shape {
                    argument: name.to_owned(),
                    expected: "rows of an even width, which rotary positions turn in pairs".into(),
                    found: format!("rows of {width}"),
                    advice: "Pad the width to an even number.".into(),
                });
            }
        }
        crate::model::check_positive("rotary.base", &[self.base])
    }
    fn query_features<'a>(&self, place: Place<'_>, q: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
        let turned = self.turn(q, query_position(&place), 1.0);
        self.inner.query_features(place, turned.view()).into_owned().into()
    }
    fn key_features<'a>(&self, place: Place<'_>, k: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
        let turned = self.turn(k, place.first as i64, 1.0);
        self.inner.key_features(place, turned.view()).into_owned().into()
    }
    fn log_potential(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        k: &Features<'_, T>,
        scores: TileMut<'_, T>,
    ) {
        self.inner.log_potential(block, q, k, scores)
    }
    fn is_product(&self) -> bool {
        self.inner.is_product()
    }
    /// Turning changes no length.
    fn greatest(&self, head: usize, query_length: f64, key_length: f64) -> Option<f64> {
        self.inner.greatest(head, query_length, key_length)
    }
    fn reads_log_potential(&self) -> bool {
        self.inner.reads_log_potential()
    }
    fn parameters(&self) -> Vec<Parameter> {
        self.inner.parameters()
    }
    fn backward(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        k: &Features<'_, T>,
        log_potential: Option<Tile<'_, T>>,
        gradient: TileMut<'_, T>,
        into: &mut FeatureGradient<'_, T>,
    ) -> Result<(), Error> {
        self.inner.backward(block, q, k, log_potential, gradient, into)
    }
    fn query_features_backward(
        &self,
        place: Place<'_>,
        q: ArrayView2<'_, T>,
        gradient: ArrayView2<'_, T>,
        mut into: ArrayViewMut2<'_, T>,
        parameters: &mut [Vec<f64>],
    ) {
        let position = query_position(&place);
        let turned = self.turn(q, position, 1.0);
        let mut through = Array2::zeros(q.raw_dim());
        self.inner.query_features_backward(
            place,
            turned.view(),
            gradient,
            through.view_mut(),
            parameters,
        );
        into.assign(&self.turn(through.view(), position, -1.0));
    }
    fn key_features_backward(
        &self,
        place: Place<'_>,
        k: ArrayView2<'_, T>,
        gradient: ArrayView2<'_, T>,
        mut into: ArrayViewMut2<'_, T>,
        parameters: &mut [Vec<f64>],
    ) {
        let position = place.first as i64;
        let turned = self.turn(k, position, 1.0);
        let mut through = Array2::zeros(k.raw_dim());
        self.inner.key_features_backward(
            place,
            turned.view(),
            gradient,
            through.view_mut(),
            parameters,
        );
        into.assign(&self.turn(through.view(), position, -1.0));
    }
}
