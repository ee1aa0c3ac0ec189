//! How fast log-potentials move with their nodes.

use marginals_kernels::TileMut;
use ndarray::{Array2, Array4, ArrayView2, Axis, concatenate, s};

use super::features::Features;
use crate::infer::EdgeFunction;
use crate::{Block, Real, Shape};

/// Nodes and their tangents: what a [tangent](super::Potential::tangent) of a potential is made of.
#[derive(Clone, Debug)]
pub struct Motion<T> {
    /// The sizes.
    pub shape: Shape,
    /// Queries, [B, H, N, D].
    pub q: Array4<T>,
    /// Keys, [B, Hk, M, D].
    pub k: Array4<T>,
    /// How fast queries move; `None` where they do not.
    pub q_tangent: Option<Array4<T>>,
    /// How fast keys move; `None` where they do not.
    pub k_tangent: Option<Array4<T>>,
}

impl<T: Real> Motion<T> {
    /// The matrices of every batch entry and head of a tensor, one row per node.
    pub(super) fn by_head(
        tensor: &Array4<T>,
        mut f: impl FnMut((usize, usize), ArrayView2<'_, T>) -> Array2<T>,
    ) -> Vec<Array2<T>> {
        let (batch, heads, ..) = tensor.dim();
        let all = (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h)));
        all.map(|(b, h)| f((b, h), tensor.slice(s![b, h, .., ..]))).collect()
    }
}

/// Matrices of features by head, and of their tangents where they move.
#[derive(Clone, Debug)]
pub(super) struct Moving<T> {
    pub features: Vec<Array2<T>>,
    pub tangents: Option<Vec<Array2<T>>>,
}

/// The tangent of a product of features a·b, ȧ·b + a·ḃ: one product of twice the depth.
#[derive(Debug)]
pub(super) struct ProductTangent<T: Real> {
    shape: Shape,
    queries: Vec<Features<'static, T>>,
    keys: Vec<Features<'static, T>>,
    capped: Option<Capped<T>>,
}

/// A bound c of the product x, which becomes c tanh(x / c).
#[derive(Debug)]
struct Capped<T: Real> {
    bound: T,
    queries: Vec<Features<'static, T>>,
    keys: Vec<Features<'static, T>>,
}

impl<T: Real> ProductTangent<T> {
    pub fn new(shape: Shape, q: Moving<T>, k: Moving<T>, softcap: Option<f64>) -> Self {
        let features = |rows: &Array2<T>| Features::new(rows.clone().into(), 0);
        let capped = softcap.map(|bound| Capped {
            bound: T::of(bound),
            queries: q.features.iter().map(features).collect(),
            keys: k.features.iter().map(|rows| features(rows).packed_across()).collect(),
        });
        // A side that does not move takes no part in the other's features.
        let side = |own: &Moving<T>, other: &Moving<T>, own_first: bool| -> Vec<Array2<T>> {
            (0..own.features.len())
                .map(|head| {
                    let still = other.tangents.is_some().then(|| own.features[head].view());
                    let moving = own.tangents.as_ref().map(|tangents| tangents[head].view());
                    let parts = if own_first { [moving, still] } else { [still, moving] };
                    let parts: Vec<_> = parts.into_iter().flatten().collect();
                    match parts.is_empty() {
                        true => Array2::zeros((own.features[head].nrows(), 0)),
                        false => concatenate(Axis(1), &parts).expect("as many rows as nodes"),
                    }
                })
                .collect()
        };
        let queries = side(&q, &k, true);
        let keys = side(&k, &q, false);
        let made = |rows: Array2<T>| Features::new(rows.into(), 0);
        Self {
            shape,
            queries: queries.into_iter().map(made).collect(),
            keys: keys.into_iter().map(|rows| made(rows).packed_across()).collect(),
            capped,
        }
    }
}

impl<T: Real> EdgeFunction<T> for ProductTangent<T> {
    fn fill(&self, block: &Block, mut values: TileMut<'_, T>) {
        let query_head = self.shape.head_number((block.batch, block.head));
        let key_head = block.batch * self.shape.key_heads + self.shape.key_head(block.head);
        self.queries[query_head].products(&self.keys[key_head], block, values.reborrow());
        let Some(Capped { bound, queries, keys }) = &self.capped else { return };
        let (n, m) = (values.rows, values.columns);
        let mut products = vec![T::zero(); n * m];
        let tile = TileMut::new(&mut products, n, m, m);
        queries[query_head].products(&keys[key_head], block, tile);
        for (r, products) in products.chunks_exact(m.max(1)).enumerate() {
            for (tangent, &product) in values.row_mut(r).iter_mut().zip(products) {
                let t = (product / *bound).tanh();
                *tangent *= T::one() - t * t;
            }
        }
    }
}
