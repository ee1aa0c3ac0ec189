//! Single edges, without their tile.

use marginals_kernels::TileMut;
use ndarray::s;

use super::summary::Summary;
use crate::potential::{Features, Place};
use crate::prior::Coverage;
use crate::{Block, Posterior, Real};

/// log p_ij of one edge of a structure where queries choose, its normaliser known. Never above 0,
/// and −∞ where the edge is impossible. Cost: O(D).
pub(crate) fn log_probability<T: Real>(
    posterior: &Posterior<'_, T>,
    summary: &Summary<T>,
    (batch, head): (usize, usize),
    (query, key): (usize, usize),
) -> T {
    let shape = &posterior.shape;
    let block = Block {
        batch,
        head,
        queries: query..query + 1,
        keys: key..key + 1,
        positions: shape.positions(),
    };
    let coverage = posterior.prior.coverage(&block);
    if coverage == Coverage::Empty || posterior.prior.live_keys(&block).is_empty() {
        return T::neg_infinity();
    }
    let own = shape.key_head(head);
    let q = posterior.q.slice(s![batch, head, block.queries.clone(), ..]);
    let k = posterior.k.slice(s![batch, own, block.keys.clone(), ..]);
    let potential = posterior.potential;
    let place = Place { shape, batch, head, first: query };
    let q = Features::new(potential.query_features(place, q), query);
    let place = Place { shape, batch, head: own, first: key };
    let k = Features::new(potential.key_features(place, k), key);
    let mut score = [T::zero()];
    let tile = TileMut::new(&mut score, 1, 1, 1);
    posterior.scorer().fill(&block, coverage, (&q, &k), tile, None, None);
    if score[0] == T::neg_infinity() {
        return score[0];
    }
    let log_p =
        summary.normalisers.log_p((batch * shape.heads + head) * shape.queries + query, score[0]);
    // Rounding may bring a certain edge above 0; NaN stays.
    if log_p > T::zero() { T::zero() } else { log_p }
}
