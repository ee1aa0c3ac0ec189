use marginals_kernels::{InstructionSet, Tile, TileMut};
use ndarray::{Array4, ArrayView2, ArrayViewMut2, CowArray, Ix2};
use serde::{Deserialize, Serialize};

use super::contract::{Place, Potential, PotentialPart, check_equal_widths};
use super::features::{FeatureGradient, Features};
use super::tangent::{Motion, Moving, ProductTangent};
use crate::infer::EdgeFunction;
use crate::model::numbers::Domain;
use crate::model::part::{Number, Part, Sizes};
use crate::model::tensors::Inputs;
use crate::{Block, Error, Parameter, PerHead, Real, Shape, number};

/// log ψ(q, k) = scale · q·k, with a softcap c: c tanh(scale · q·k / c).
///
/// The potential of transformers, scale = 1/√d (Vaswani et al. 2017, eq. 1); the softcap is that
/// of Gemma 2 (arXiv 2408.00118, §2).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dot {
    /// Scale; without, 1/√D, once the width is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<PerHead>,
    /// Bound on |log ψ|, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f64>,
}

impl Dot {
    /// The same scale for every head.
    pub fn new(scale: impl Into<PerHead>) -> Self {
        Self { scale: Some(scale.into()), softcap: None }
    }

    /// scale = 1/√width, for heads of that width.
    pub fn scaled(width: usize) -> Self {
        Self::new(1.0 / (width as f64).sqrt())
    }

    /// One scale per head.
    pub fn per_head(scale: &[f64]) -> Self {
        Self::new(scale)
    }

    /// Bounds |log ψ| by `cap`.
    pub fn with_softcap(self, cap: f64) -> Self {
        Self { softcap: Some(cap), ..self }
    }

    fn scale_of(&self, head: usize) -> f64 {
        self.scale.as_ref().map_or(f64::NAN, |scale| scale.of(head))
    }
}

impl Part for Dot {
    const NAME: &'static str = "dot";
    const MEANING: &'static str =
        "log ψ = scale · q·k, 1/√D by default; with a softcap c, c tanh(scale · q·k / c)";
    const EXAMPLE: &'static str = "{ dot = { scale = 0.125 } }";
    const NUMBERS: &'static [Number<Self>] = &[number!("dot.scale", Real, scale)];

    fn settle(&mut self, sizes: &Sizes) {
        if self.scale.is_none() {
            self.scale = Self::scaled(sizes.width.max(1)).scale;
        }
    }
}

impl PotentialPart for Dot {
    fn build<T: Real>(&self, _inputs: &Inputs<'_, T>) -> Result<Box<dyn Potential<T>>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl<T: Real> Potential<T> for Dot {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        check_equal_widths(Self::NAME, shape)?;
        self.check_numbers(shape)?;
        self.softcap.map_or(Ok(()), |cap| Domain::Positive.check("dot.softcap", &[cap]))
    }
    fn query_features<'a>(&self, place: Place<'_>, q: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
        let scale = T::of(self.scale_of(place.head));
        q.mapv(|x| x * scale).into()
    }
    fn log_potential(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        k: &Features<'_, T>,
        mut scores: TileMut<'_, T>,
    ) {
        q.products(k, block, scores.reborrow());
        if let Some(cap) = self.softcap.map(T::of) {
            for r in 0..scores.rows {
                scores.row_mut(r).iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
            }
        }
    }
    fn is_product(&self) -> bool {
        true
    }
    /// Cauchy-Schwarz: |q·k| ≤ |q| |k|, and the softcap rises with its argument.
    fn greatest(&self, head: usize, query_length: f64, key_length: f64) -> Option<f64> {
        let product = self.scale_of(head).abs() * query_length * key_length;
        // 0 · ∞: a query (or scale) of 0 scores 0 with any key.
        let product = if product.is_nan() { 0.0 } else { product };
        Some(self.softcap.map_or(product, |cap| cap * (product / cap).tanh()))
    }
    fn keys_are_features(&self) -> bool {
        true
    }
    fn reads_log_potential(&self) -> bool {
        self.softcap.is_some()
    }
    fn parameters(&self) -> Vec<Parameter> {
        self.learnable()
    }
    fn backward(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        k: &Features<'_, T>,
        log_potential: Option<Tile<'_, T>>,
        mut gradient: TileMut<'_, T>,
        into: &mut FeatureGradient<'_, T>,
    ) -> Result<(), Error> {
        if let (Some(cap), Some(values)) = (self.softcap.map(T::of), log_potential) {
            InstructionSet::detect().run(
                #[inline(always)]
                || {
                    for r in 0..gradient.rows {
                        for (g, &x) in gradient.row_mut(r).iter_mut().zip(values.row(r)) {
                            let t = x / cap;
                            *g *= T::one() - t * t;
                        }
                    }
                },
            );
        }
        q.products_backward(k, block, gradient.as_tile(), into);
        Ok(())
    }
    fn tangent(&self, motion: Motion<T>) -> Result<Box<dyn EdgeFunction<T>>, Error> {
        let Motion { shape, q, k, q_tangent, k_tangent } = motion;
        let scaled = |x: &Array4<T>| {
            Motion::by_head(x, |(_, head), rows| rows.mapv(|x| x * T::of(self.scale_of(head))))
        };
        let own = |x: &Array4<T>| Motion::by_head(x, |_, rows| rows.to_owned());
        let q = Moving { features: scaled(&q), tangents: q_tangent.as_ref().map(scaled) };
        let k = Moving { features: own(&k), tangents: k_tangent.as_ref().map(own) };
        Ok(Box::new(ProductTangent::new(shape, q, k, self.softcap)))
    }
    fn query_features_backward(
        &self,
        place: Place<'_>,
        q: ArrayView2<'_, T>,
        gradient: ArrayView2<'_, T>,
        mut into: ArrayViewMut2<'_, T>,
        parameters: &mut [Vec<f64>],
    ) {
        let index = self.scale.as_ref().map_or(0, |scale| scale.index(place.head));
        let scale = T::of(self.scale_of(place.head));
        let mut sum = 0.0;
        ndarray::Zip::from(&mut into).and(&gradient).and(&q).for_each(|out, &g, &x| {
            *out = scale * g;
            sum += (g * x).f64();
        });
        parameters[0][index] += sum;
    }
}
