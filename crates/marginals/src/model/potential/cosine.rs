use marginals_kernels::{Tile, TileMut};
use ndarray::{Array2, Array4, ArrayView1, ArrayView2, ArrayViewMut2, CowArray, Ix2, s};
use serde::{Deserialize, Serialize};

use super::contract::{Place, Potential, PotentialPart, check_equal_widths};
use super::features::{FeatureGradient, Features};
use super::tangent::{Motion, Moving, ProductTangent};
use crate::infer::EdgeFunction;
use crate::model::part::{Number, Part};
use crate::model::tensors::Inputs;
use crate::{Block, Error, Parameter, PerHead, Real, Shape, number};

/// log ψ(q, k) = scale · q·k / (|q| |k|).
///
/// A node of length 0 has no direction: its cosine with anything is 0, and so is its gradient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cosine {
    /// Largest |log ψ|.
    pub scale: PerHead,
}

impl Cosine {
    /// The same scale for every head.
    pub fn new(scale: impl Into<PerHead>) -> Self {
        Self { scale: scale.into() }
    }

    /// One scale per head.
    pub fn per_head(scale: &[f64]) -> Self {
        Self::new(scale)
    }
}

impl Part for Cosine {
    const NAME: &'static str = "cosine";
    const MEANING: &'static str = "log ψ = scale · q·k / (‖q‖ ‖k‖)";
    const EXAMPLE: &'static str = "{ cosine = { scale = 10.0 } }";
    const NUMBERS: &'static [Number<Self>] = &[number!("cosine.scale", Real, scale)];
}

impl PotentialPart for Cosine {
    fn build<T: Real>(&self, _inputs: &Inputs<'_, T>) -> Result<Box<dyn Potential<T>>, Error> {
        Ok(Box::new(self.clone()))
    }
}

/// 1/|x|, or 0 for x = 0. Scaled by the largest entry so that squares neither overflow nor vanish.
fn inverse_length<T: Real>(x: ArrayView1<'_, T>) -> T {
    let largest = x.iter().fold(T::zero(), |m, &a| m.max(a.abs()));
    if largest == T::zero() {
        return T::zero();
    }
    let squares: T = x.iter().map(|&a| (a / largest) * (a / largest)).sum();
    T::one() / largest / squares.sqrt()
}

fn directions<T: Real>(rows: ArrayView2<'_, T>, scale: T) -> CowArray<'static, T, Ix2> {
    let mut unit = rows.to_owned();
    for mut row in unit.outer_iter_mut() {
        // Two factors: their product can overflow where neither the row nor its direction does.
        let inverse = inverse_length(row.view());
        row.mapv_inplace(|x| x * inverse * scale);
    }
    unit.into()
}

/// From the gradient of scale · x/|x| to that of x; returns Σ g · x/|x|.
fn directions_backward<T: Real>(
    rows: ArrayView2<'_, T>,
    gradient: ArrayView2<'_, T>,
    scale: T,
    mut into: ArrayViewMut2<'_, T>,
) -> f64 {
    let mut along_all = 0.0;
    for ((x, g), mut out) in rows.outer_iter().zip(gradient.outer_iter()).zip(into.outer_iter_mut())
    {
        let inverse = inverse_length(x);
        let along: T = x.iter().zip(g).map(|(&x, &g)| x * inverse * g).sum();
        along_all += along.f64();
        for ((out, &x), &g) in out.iter_mut().zip(x).zip(g) {
            *out = scale * inverse * (g - x * inverse * along);
        }
    }
    along_all
}

/// Directions of every head's nodes, and how fast these turn. That map is its own transpose: a tangent
/// goes through it as a gradient does.
fn moving<T: Real>(
    nodes: &Array4<T>,
    tangents: Option<&Array4<T>>,
    scale: impl Fn(usize) -> T,
) -> Moving<T> {
    let turning = |tangents: &Array4<T>| {
        Motion::by_head(nodes, |(batch, head), rows| {
            let own = tangents.slice(s![batch, head, .., ..]);
            let mut turned = Array2::zeros(rows.raw_dim());
            directions_backward(rows, own, scale(head), turned.view_mut());
            turned
        })
    };
    let features =
        Motion::by_head(nodes, |(_, head), rows| directions(rows, scale(head)).into_owned());
    Moving { features, tangents: tangents.map(turning) }
}

impl<T: Real> Potential<T> for Cosine {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        check_equal_widths(Self::NAME, shape)?;
        self.check_numbers(shape)
    }
    fn query_features<'a>(&self, place: Place<'_>, q: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
        directions(q, T::of(self.scale.of(place.head)))
    }
    fn key_features<'a>(&self, _place: Place<'_>, k: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
        directions(k, T::one())
    }
    fn log_potential(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        k: &Features<'_, T>,
        scores: TileMut<'_, T>,
    ) {
        q.products(k, block, scores);
    }
    fn is_product(&self) -> bool {
        true
    }
    fn greatest(&self, head: usize, _query_length: f64, _key_length: f64) -> Option<f64> {
        Some(self.scale.of(head).abs())
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
        q.products_backward(k, block, gradient.as_tile(), into);
        Ok(())
    }
    fn tangent(&self, motion: Motion<T>) -> Result<Box<dyn EdgeFunction<T>>, Error> {
        let Motion { shape, q, k, q_tangent, k_tangent } = motion;
        let q = moving(&q, q_tangent.as_ref(), |head| T::of(self.scale.of(head)));
        let k = moving(&k, k_tangent.as_ref(), |_| T::one());
        Ok(Box::new(ProductTangent::new(shape, q, k, None)))
    }
    fn query_features_backward(
        &self,
        place: Place<'_>,
        q: ArrayView2<'_, T>,
        gradient: ArrayView2<'_, T>,
        into: ArrayViewMut2<'_, T>,
        parameters: &mut [Vec<f64>],
    ) {
        let scale = T::of(self.scale.of(place.head));
        parameters[0][self.scale.index(place.head)] +=
            directions_backward(q, gradient, scale, into);
    }
    fn key_features_backward(
        &self,
        _place: Place<'_>,
        k: ArrayView2<'_, T>,
        gradient: ArrayView2<'_, T>,
        into: ArrayViewMut2<'_, T>,
        _parameters: &mut [Vec<f64>],
    ) {
        directions_backward(k, gradient, T::one(), into);
    }
}
