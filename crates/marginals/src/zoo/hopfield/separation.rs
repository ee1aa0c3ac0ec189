//! How far apart the stored patterns are, and how far they would have to be.

use std::ops::Range;

use marginals_kernels::TileMut;
use ndarray::{Array2, Array3, CowArray, Zip};

use super::Hopfield;
use crate::potential::Dot;
use crate::prior::{Coverage, Prior};
use crate::question::Map;
use crate::structure::EachQueryPicksOne;
use crate::{Block, Element, Error, Model, Real, Shape, model};

/// How well separated the patterns of each memory are.
///
/// Δ_i = min_{j≠i} x_iᵀx_i − x_iᵀx_j (Ramsauer et al., arXiv 2008.02217, §2). Where
///
/// ```text
/// Δ_i ≥ 2/(βN) + β⁻¹ log(2 (N − 1) N β M²)
/// ```
///
/// a state within 1/(βNM) of x_i stays there, and settles on a fixed point there (appendix A.1.5,
/// the condition of Theorems 4 and 5): x_i is **certainly** stored. The condition is sufficient, not
/// necessary.
#[derive(Clone, Debug, PartialEq)]
pub struct Separation<T> {
    /// Δ_i, [B, Hk, M]; +∞ for a pattern that is alone.
    pub of_pattern: Array3<T>,
    /// The pattern that Δ_i is the distance to, the first of several; −1 for a pattern alone.
    pub nearest: Array3<i64>,
    /// The Δ_i from which on storage is certain, [B, H].
    pub required: Array2<T>,
    /// The radius 1/(βNM) within which a stored pattern holds the state, [B, H].
    pub radius: Array2<T>,
}

impl<T: Real> Separation<T> {
    /// Whether each pattern is certainly stored for the heads that read it, [B, H, M].
    pub fn is_sufficient(&self) -> Array3<bool> {
        let (batch, heads) = self.required.dim();
        let (_, key_heads, patterns) = self.of_pattern.dim();
        let group = heads.checked_div(key_heads).unwrap_or(0).max(1);
        Array3::from_shape_fn((batch, heads, patterns), |(b, h, i)| {
            self.of_pattern[[b, h / group, i]] >= self.required[[b, h]]
        })
    }
}

impl<T: Real + Element<Real = T>, P: Prior<T>> Hopfield<'_, T, P> {
    /// How well separated the patterns are, whatever the prior says. Streams over pairs of
    /// patterns: O(M² D) time, O(M) memory.
    pub fn separation(&self) -> Result<Separation<T>, Error> {
        let Shape { batch, heads, keys, .. } = self.shape;
        let others = Model::new(EachQueryPicksOne, Others, Dot::new(1.0));
        let queries = match &self.centred {
            None => self.patterns.reborrow().into(),
            Some(centred) => CowArray::from(centred.queries(&self.patterns)),
        };
        let compared = self.keys_and_values().0;
        let nearest = others.posterior(queries.view(), compared)?.ask(Map)?;
        let rows = self.patterns.rows();
        let mut of_pattern = Array3::from_elem(nearest.dim(), T::infinity());
        Zip::indexed(&mut of_pattern).and(&nearest).and(rows).for_each(|(b, h, _), gap, &j, x| {
            if j >= 0 {
                let other = self.patterns.slice(ndarray::s![b, h, j as usize, ..]);
                let terms = x.iter().zip(other).map(|(x, y)| x.f64() * (x.f64() - y.f64()));
                *gap = T::of(terms.sum());
            }
        });
        let of_head = |f: &dyn Fn(f64, f64) -> f64| {
            Array2::from_shape_fn((batch, heads), |(b, h)| {
                let memory = b * self.shape.key_heads + self.shape.key_head(h);
                T::of(f(model::of_head(&self.beta, h), self.largest_square[memory].f64()))
            })
        };
        let n = keys as f64;
        let required = of_head(&|beta, square| {
            2.0 / (beta * n) + (2.0 * (n - 1.0) * n * beta * square).ln() / beta
        });
        let radius = of_head(&|beta, square| 1.0 / (beta * n * square.sqrt()));
        Ok(Separation { of_pattern, nearest, required, radius })
    }
}

/// A node may have any but itself.
struct Others;

impl<T: Real> Prior<T> for Others {
    fn name(&self) -> &'static str {
        "others"
    }
    fn add_log_weights(&self, block: &Block, mut scores: TileMut<'_, T>) {
        for (r, i) in block.queries.clone().enumerate() {
            if block.keys.contains(&i) {
                scores.row_mut(r)[i - block.keys.start] = T::neg_infinity();
            }
        }
    }
    fn coverage(&self, block: &Block) -> Coverage {
        let meet = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        match meet(&block.queries, &block.keys) {
            true => Coverage::Weighted,
            false => Coverage::Free,
        }
    }
    fn is_mask(&self) -> bool {
        true
    }
}
