//! Cross-entropy between two posteriors of one structure.

use crate::Real;
use marginals_kernels::{Aligned, TileMut};
use ndarray::s;

use super::summary::Summary;
use super::{QUERY_BLOCK, STRIDE, heads, second_pass};
use crate::Posterior;
use crate::model::{self, structure::Factorisation};
use crate::potential::{Features, Place};
use crate::prior::Coverage;

/// −E_p[log q] of every factor, p being `posterior` and q `other`, from the normalisers of both.
pub(crate) fn cross_entropy<T: Real>(
    posterior: &Posterior<'_, T>,
    summary: &Summary<T>,
    other: &Posterior<'_, T>,
    other_summary: &Summary<T>,
) -> Vec<T> {
    let shape = &posterior.shape;
    let per_key = posterior.factorisation == Factorisation::PerKey;
    let k = other.k.view();
    let prepared = heads::prepare(&other.shape, other.potential, &k, None, false, 0..shape.keys);

    // Σ p θ_q of every query of a task, or of every key where keys choose.
    let parts = second_pass::by_queries(posterior, |head_keys, (batch, head), queries| {
        let factors = if per_key { shape.keys } else { queries.len() };
        let mut sums = vec![T::zero(); factors];
        let place = Place { shape: &other.shape, batch, head, first: queries.start };
        let q = other.q.slice(s![batch, head, queries.clone(), ..]);
        let q = Features::new(other.potential.query_features(place, q), queries.start);
        let other_keys = &prepared[batch * shape.key_heads + shape.key_head(head)];
        let mut buffer = Aligned::zeros(QUERY_BLOCK * STRIDE);
        let (run, keys) = (queries.clone(), 0..shape.keys);
        let place = (batch, head);
        second_pass::visit(
            posterior,
            &summary.normalisers,
            head_keys,
            place,
            run,
            keys,
            |block, p| {
                let (n, m) = (block.queries.len(), block.keys.len());
                let mut scores = TileMut::new(&mut buffer, n, m, STRIDE);
                match other.prior.coverage(block) {
                    Coverage::Empty => {
                        (0..n).for_each(|r| scores.row_mut(r).fill(T::neg_infinity()));
                    }
                    coverage => {
                        let features = (&q, &other_keys.features);
                        let tile = scores.reborrow();
                        other.scorer().fill(block, coverage, features, tile, None, None);
                    }
                }
                for r in 0..n {
                    for (c, (&p, &score)) in p.row(r).iter().zip(scores.row(r)).enumerate() {
                        // What p rules out, q may rule out too.
                        if p != T::zero() {
                            let at = match per_key {
                                true => block.keys.start + c,
                                false => block.queries.start + r - queries.start,
                            };
                            sums[at] += p * score;
                        }
                    }
                }
            },
        );
        sums
    });
    let scores = match per_key {
        false => parts.concat(),
        true => {
            let tasks = parts.len() / (shape.batch * shape.heads).max(1);
            let heads = parts.chunks(tasks.max(1));
            heads
                .flat_map(|head| (0..shape.keys).map(|j| head.iter().map(|s| s[j]).sum()))
                .collect()
        }
    };

    let null = |posterior: &Posterior<'_, T>, head| match &posterior.factorisation {
        Factorisation::PerQuery { null: Some(null) } => T::of(model::of_head(null, head)),
        _ => T::neg_infinity(),
    };
    let per_head = posterior.factor_count();
    let (log_partition, other_log_partition) =
        (&summary.log_partition, &other_summary.log_partition);
    (0..log_partition.len())
        .map(|row| {
            if log_partition[row] == T::neg_infinity() {
                return T::zero();
            }
            let mut expected = scores[row];
            let head = row / per_head.max(1) % shape.heads;
            let absent = (null(posterior, head) - log_partition[row]).exp();
            if absent != T::zero() {
                expected += absent * null(other, head);
            }
            // q's log-partition is finite wherever it allows what p expects, and +∞ − −∞ = +∞.
            match expected == T::neg_infinity() {
                true => T::infinity(),
                false => other_log_partition[row] - expected,
            }
        })
        .collect()
}
