//! Questions about single edges: a pass over tiles of the posterior, its normalisers known.

use std::ops::Range;

use marginals_kernels::{
    Aligned, InstructionSet, TileMut, dot_rows, exp_columns, exp_rows, logistic_rows,
};
use ndarray::s;
use rayon::prelude::*;

use super::forward::draw;
use super::heads::{self, HeadKeys};
use super::summary::{Normalisers, Summary};
use super::{KEY_BLOCK, QUERY_BLOCK, STRIDE, TASKS, blocks, split};
use crate::model::structure::Factorisation;
use crate::potential::{Features, Place};
use crate::prior::Coverage;
use crate::{Block, Posterior, Real};

/// Calls `f` with every tile of the posterior of one head that may be other than 0.
pub(super) fn visit<T: Real>(
    posterior: &Posterior<'_, T>,
    normalisers: &Normalisers<T>,
    head_keys: &HeadKeys<'_, T>,
    (batch, head): (usize, usize),
    queries: Range<usize>,
    keys: Range<usize>,
    mut f: impl FnMut(&Block, TileMut<'_, T>),
) {
    let shape = &posterior.shape;
    let set = InstructionSet::detect();
    let factors = posterior.factor_count();
    let first_factor = (batch * shape.heads + head) * factors;
    let own =
        |run: &Range<usize>| normalisers.run(first_factor + run.start..first_factor + run.end);
    let place = Place { shape, batch, head, first: queries.start };
    let q = posterior.q.slice(s![batch, head, queries.clone(), ..]);
    let q = Features::new(posterior.potential.query_features(place, q), queries.start);
    let scorer = posterior.scorer();
    let mut buffer = Aligned::zeros(QUERY_BLOCK * STRIDE);
    for first in queries.clone().step_by(QUERY_BLOCK) {
        let queries = first..(first + QUERY_BLOCK).min(queries.end);
        let block = |keys| Block {
            batch,
            head,
            queries: queries.clone(),
            keys,
            positions: shape.positions(),
        };
        let live = posterior.prior.live_keys(&block(keys.clone()));
        for keys in blocks(live, head_keys.keys.start, KEY_BLOCK) {
            let block = block(keys);
            let coverage = posterior.prior.coverage(&block);
            if coverage == Coverage::Empty {
                continue;
            }
            let (n, m) = (block.queries.len(), block.keys.len());
            let mut tile = TileMut::new(&mut buffer, n, m, STRIDE);
            let features = (&q, &head_keys.features);
            scorer.fill(&block, coverage, features, tile.reborrow(), None, None);
            match posterior.factorisation {
                Factorisation::PerQuery { .. } => {
                    exp_rows(set, tile.reborrow(), own(&block.queries));
                }
                Factorisation::PerKey => {
                    exp_columns(set, tile.reborrow(), own(&block.keys));
                }
                Factorisation::PerEdge => {
                    logistic_rows(set, tile.reborrow(), &mut [T::zero(); QUERY_BLOCK][..n]);
                }
            }
            f(&block, tile);
        }
    }
}

fn places<T: Real>(posterior: &Posterior<'_, T>) -> Vec<(usize, usize)> {
    let shape = &posterior.shape;
    (0..shape.batch).flat_map(|b| (0..shape.heads).map(move |h| (b, h))).collect()
}

/// Runs `task` for every head and run of queries, and returns the results in order.
pub(super) fn by_queries<T: Real, R: Send>(
    posterior: &Posterior<'_, T>,
    task: impl Fn(&HeadKeys<'_, T>, (usize, usize), Range<usize>) -> R + Sync,
) -> Vec<R> {
    let shape = &posterior.shape;
    let k = posterior.k.view();
    let prepared = heads::prepare(shape, posterior.potential, &k, None, false, 0..shape.keys);
    let tasks: Vec<_> = places(posterior)
        .into_iter()
        .flat_map(|place| {
            let blocks = (0..shape.queries).step_by(QUERY_BLOCK);
            blocks.map(move |first| (place, first..(first + QUERY_BLOCK).min(shape.queries)))
        })
        .collect();
    tasks
        .into_par_iter()
        .map(|((b, h), queries)| {
            let head_keys = &prepared[b * shape.key_heads + shape.key_head(h)];
            task(head_keys, (b, h), queries)
        })
        .collect()
}

/// Σ_i p_ij, over [B, H, M].
pub(crate) fn column_mass<T: Real>(posterior: &Posterior<'_, T>, summary: &Summary<T>) -> Vec<T> {
    let shape = &posterior.shape;
    if matches!(posterior.factorisation, Factorisation::PerKey) {
        // Every key that can choose, chooses exactly once.
        let mass = |&z: &T| match z {
            z if z.is_nan() => z,
            z if z == T::neg_infinity() => T::zero(),
            _ => T::one(),
        };
        return summary.log_partition.iter().map(mass).collect();
    }
    let k = posterior.k.view();
    let prepared = heads::prepare(shape, posterior.potential, &k, None, false, 0..shape.keys);
    let places = places(posterior);
    let parts = split(0..shape.keys, TASKS.div_ceil(places.len().max(1)));
    let tasks: Vec<_> = places
        .iter()
        .flat_map(|&place| parts.iter().map(move |keys| (place, keys.clone())))
        .collect();
    let masses: Vec<Vec<T>> = tasks
        .into_par_iter()
        .map(|((b, h), keys)| {
            let mut mass = vec![T::zero(); keys.len()];
            let head_keys = &prepared[b * shape.key_heads + shape.key_head(h)];
            let queries = 0..shape.queries;
            let all = keys.clone();
            visit(
                posterior,
                &summary.normalisers,
                head_keys,
                (b, h),
                queries,
                keys,
                |block, tile| {
                    let from = block.keys.start - all.start;
                    // Summed by the tile first: one long running sum rounds every p to its own size.
                    let mut sums = [T::zero(); KEY_BLOCK];
                    for r in 0..tile.rows {
                        sums.iter_mut().zip(tile.row(r)).for_each(|(sum, &p)| *sum += p);
                    }
                    mass[from..].iter_mut().zip(&sums[..tile.columns]).for_each(|(m, &s)| *m += s);
                },
            );
            mass
        })
        .collect();
    masses.concat()
}

/// p_ij, over [B, H, N, M].
pub(crate) fn marginals<T: Real>(posterior: &Posterior<'_, T>, summary: &Summary<T>) -> Vec<T> {
    let keys = posterior.shape.keys;
    let rows = by_queries(posterior, |head_keys, place, queries| {
        let mut rows = vec![T::zero(); queries.len() * keys];
        let run = queries.clone();
        visit(posterior, &summary.normalisers, head_keys, place, run, 0..keys, |block, tile| {
            for (r, i) in block.queries.clone().enumerate() {
                let row = &mut rows[(i - queries.start) * keys..][..keys];
                row[block.keys.clone()].copy_from_slice(tile.row(r));
            }
        });
        rows
    });
    rows.concat()
}

/// Σ_j p_ij c_j for weights c over [B, H, M]; the result is over [B, H, N].
pub(crate) fn expected_over_keys<T: Real>(
    posterior: &Posterior<'_, T>,
    summary: &Summary<T>,
    weights: ndarray::ArrayView3<'_, T>,
) -> Vec<T> {
    let shape = &posterior.shape;
    let sums = by_queries(posterior, |head_keys, place, queries| {
        let mut sums = vec![T::zero(); queries.len()];
        let weights = weights.slice(s![place.0, place.1, ..]).to_vec();
        let run = queries.clone();
        visit(
            posterior,
            &summary.normalisers,
            head_keys,
            place,
            run,
            0..shape.keys,
            |block, tile| {
                let from = block.queries.start - queries.start;
                let own = &weights[block.keys.clone()];
                // The same weights for every row: a tile of stride 0 would alias, so row by row.
                for r in 0..tile.rows {
                    let row =
                        marginals_kernels::Tile::new(tile.row(r), 1, tile.columns, tile.columns);
                    let value = marginals_kernels::Tile::new(own, 1, tile.columns, tile.columns);
                    dot_rows(InstructionSet::detect(), row, value, &mut sums[from + r..][..1]);
                }
            },
        );
        sums
    });
    sums.concat()
}

/// Draws of independent edges, one byte (0 or 1) each, over [S, B, H, N, M].
pub(crate) fn draw_sets<T: Real>(
    posterior: &Posterior<'_, T>,
    summary: &Summary<T>,
    count: usize,
    seed: u64,
) -> Vec<u8> {
    let shape = &posterior.shape;
    let keys = shape.keys;
    let parts = by_queries(posterior, |head_keys, place, queries| {
        let mut bits = vec![0u8; count * queries.len() * keys];
        let run = queries.clone();
        visit(posterior, &summary.normalisers, head_keys, place, run, 0..keys, |block, tile| {
            for (r, i) in block.queries.clone().enumerate() {
                for (&p, j) in tile.row(r).iter().zip(block.keys.clone()) {
                    for sample in 0..count {
                        let row = sample * queries.len() + i - queries.start;
                        let drawn = draw(seed, place, i, sample).uniform(j) < p.f64();
                        bits[row * keys + j] = u8::from(drawn);
                    }
                }
            }
        });
        bits
    });
    // Tasks hold their samples together; the answer has samples outermost.
    let mut all = Vec::with_capacity(parts.iter().map(Vec::len).sum());
    for sample in 0..count {
        for part in &parts {
            let size = part.len() / count;
            all.extend_from_slice(&part[sample * size..][..size]);
        }
    }
    all
}
