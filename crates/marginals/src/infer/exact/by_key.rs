//! The forward pass where keys choose among queries.

use std::ops::Range;

use crate::Real;
use marginals_kernels::{
    Aligned, InstructionSet, LogPartition, OnlineColumns, TileMut, dot_columns, dot_rows,
    exp_columns, online_columns,
};
use ndarray::s;

use super::by_query::fill_distance;
use super::forward::Task;
use super::heads::HeadKeys;
use super::statistics::{Candidate, Factors, Statistics, Totals, insert};
use super::{KEY_BLOCK, STRIDE, blocks};
use crate::Block;
use crate::potential::{Features, Place, lanes};
use crate::prior::Coverage;

/// Queries per tile. When all of them fit in one, its scores are made once; otherwise they are
/// made again for the second phase, after every query has been seen.
const ROWS: usize = 128;

/// Statistics of a run of keys of one head over all queries.
pub(super) fn statistics<T: Real>(
    task: &Task<'_, T>,
    head_keys: &HeadKeys<'_, T>,
    (batch, head): (usize, usize),
    keys: Range<usize>,
) -> Statistics<T> {
    let shape = task.shape;
    let mut statistics = Statistics {
        factors: Factors::new(&task.kept, keys.len(), true),
        totals: Totals::new(&task.kept, shape.queries),
    };
    let place = Place { shape, batch, head, first: 0 };
    let q = task.q.slice(s![batch, head, .., ..]);
    let q = Features::new(task.scorer.potential.query_features(place, q), 0);
    let rows: Vec<Range<usize>> = (0..shape.queries)
        .step_by(ROWS)
        .map(|first| first..(first + ROWS).min(shape.queries))
        .collect();
    let tile =
        |wanted: bool| Aligned::zeros(if wanted { shape.queries.min(ROWS) * STRIDE } else { 0 });
    let mut scratch = Scratch {
        scores: tile(true),
        weights: tile(task.reads_weights),
        other: tile(true),
        part: Vec::new(),
    };
    for block_keys in blocks(keys.clone(), head_keys.keys.start, KEY_BLOCK) {
        let from = block_keys.start - keys.start;
        let columns = from..from + block_keys.len();
        let block = |queries: &Range<usize>| Block {
            batch,
            head,
            queries: queries.clone(),
            keys: block_keys.clone(),
            positions: shape.positions(),
        };
        for queries in &rows {
            scratch.normalise(
                task,
                head_keys,
                &q,
                &block(queries),
                columns.clone(),
                &mut statistics,
            );
        }
        for queries in &rows {
            let keep = rows.len() == 1;
            let block = block(queries);
            scratch.fold(task, head_keys, &q, &block, keep, columns.clone(), &mut statistics);
        }
    }
    statistics
}

struct Scratch<T> {
    scores: Aligned<T>,
    weights: Aligned<T>,
    other: Aligned<T>,
    part: Vec<T>,
}

impl<T: Real> Scratch<T> {
    /// Makes the scores of one tile, and its log-weights if they are read.
    fn fill(
        &mut self,
        task: &Task<'_, T>,
        head_keys: &HeadKeys<'_, T>,
        q: &Features<'_, T>,
        block: &Block,
        coverage: Coverage,
    ) {
        let (n, m) = (block.queries.len(), block.keys.len());
        let scores = TileMut::new(&mut self.scores, n, m, STRIDE);
        let weights = (!self.weights.is_empty()).then(|| {
            self.weights.fill(T::zero());
            TileMut::new(&mut self.weights, n, m, STRIDE)
        });
        task.scorer.fill(block, coverage, (q, &head_keys.features), scores, weights, None);
    }

    /// First phase: running maxima and sums of the columns.
    fn normalise(
        &mut self,
        task: &Task<'_, T>,
        head_keys: &HeadKeys<'_, T>,
        q: &Features<'_, T>,
        block: &Block,
        columns: Range<usize>,
        statistics: &mut Statistics<T>,
    ) {
        let coverage = task.scorer.prior.coverage(block);
        if coverage == Coverage::Empty {
            return;
        }
        self.fill(task, head_keys, q, block, coverage);
        let set = InstructionSet::detect();
        let (n, m) = (block.queries.len(), block.keys.len());
        let factors = &mut statistics.factors;
        let state = OnlineColumns {
            max: &mut factors.max[columns.clone()],
            sum: &mut factors.sum[columns.clone()],
        };
        online_columns(set, TileMut::new(&mut self.scores, n, m, STRIDE).as_tile(), state);
        if task.kept.weights {
            let state = OnlineColumns {
                max: &mut factors.weight_max[columns.clone()],
                sum: &mut factors.weight_sum[columns],
            };
            online_columns(set, TileMut::new(&mut self.weights, n, m, STRIDE).as_tile(), state);
        }
    }

    /// Second phase: the posterior of one tile, folded into every statistic. `kept` says that the
    /// first phase left this tile's scores in place.
    #[allow(clippy::too_many_arguments, reason = "the tile, its place and what it is folded into")]
    fn fold(
        &mut self,
        task: &Task<'_, T>,
        head_keys: &HeadKeys<'_, T>,
        q: &Features<'_, T>,
        block: &Block,
        kept: bool,
        columns: Range<usize>,
        statistics: &mut Statistics<T>,
    ) {
        let coverage = task.scorer.prior.coverage(block);
        if coverage == Coverage::Empty {
            return;
        }
        if !kept {
            self.fill(task, head_keys, q, block, coverage);
        }
        let set = InstructionSet::detect();
        let (n, m) = (block.queries.len(), block.keys.len());
        let Statistics { factors, totals } = statistics;
        let mut scores = TileMut::new(&mut self.scores, n, m, STRIDE);
        let chosen = task.kept.best || task.kept.top > 0 || task.kept.draws > 0;
        for r in (0..n).filter(|_| chosen) {
            let query = block.queries.start + r;
            for (c, &score) in columns.clone().zip(scores.row(r)) {
                let candidate = Candidate { score, index: query as i64 };
                if task.kept.best && candidate.beats(&factors.best[c]) {
                    factors.best[c] = candidate;
                }
                if task.kept.top > 0 {
                    insert(&mut factors.top[c * task.kept.top..][..task.kept.top], candidate);
                }
                if score > T::neg_infinity() {
                    let key = block.keys.start + c - columns.start;
                    let draws = &mut factors.draws[c * task.kept.draws..][..task.kept.draws];
                    for (sample, draw) in draws.iter_mut().enumerate() {
                        let noise = task.draw(block.batch, block.head, query, sample).noise(key);
                        let score = score.f64() + noise;
                        let noisy = Candidate { score, index: query as i64 };
                        if noisy.beats(draw) {
                            *draw = noisy;
                        }
                    }
                }
            }
        }

        // Everything of the keys is kept relative to their maxima: exp(θ − log Z) would carry the
        // rounding of a large log Z into every probability, and from there into the entropy.
        let max = &factors.max[columns.clone()];
        let mut other = TileMut::new(&mut self.other, n, m, STRIDE);
        if task.kept.score {
            for r in 0..n {
                let pairs = scores.row(r).iter().zip(max);
                other.row_mut(r).iter_mut().zip(pairs).for_each(|(x, (&s, &max))| *x = s - max);
            }
        }
        let relative = LogPartition { max, log_sum: &[T::zero(); KEY_BLOCK] };
        exp_columns(set, scores.reborrow(), relative);
        if task.kept.score {
            let sum = &mut factors.score[columns.clone()];
            dot_columns(set, scores.as_tile(), other.as_tile(), sum);
        }
        if task.kept.log_weight {
            let weights = TileMut::new(&mut self.weights, n, m, STRIDE);
            let sum = &mut factors.log_weight[columns.clone()];
            dot_columns(set, scores.as_tile(), weights.as_tile(), sum);
        }
        // What queries gather is absolute.
        let sum = &factors.sum[columns];
        let queries = block.queries.clone();
        let mass = &mut totals.mass[queries.clone()];
        set.run(
            #[inline(always)]
            || {
                for (r, mass) in mass.iter_mut().enumerate() {
                    let row = scores.row_mut(r);
                    for (p, &sum) in row.iter_mut().zip(sum) {
                        // A column that nothing may serve has a sum of 0 too.
                        *p = if *p == T::zero() { *p } else { *p / sum };
                    }
                    *mass += lanes(row, row, |_, p, _| p);
                }
            },
        );
        if task.kept.distance {
            fill_distance(block, other.reborrow());
            let sum = &mut totals.distance[queries.clone()];
            dot_rows(set, scores.as_tile(), other.as_tile(), sum);
        }
        let run = block.keys.start - head_keys.keys.start..block.keys.end - head_keys.keys.start;
        let width = task.kept.value_width;
        let span = queries.start * width..queries.end * width;
        if let (true, Some(values)) = (task.kept.mean, head_keys.values(block.head)) {
            let into = TileMut::new(&mut totals.mean[span.clone()], n, width, width);
            values.accumulate_apart(scores.as_tile(), run.clone(), into, &mut self.part);
        }
        if let (true, Some(squares)) = (task.kept.second, head_keys.squares(block.head)) {
            // The edges of one query belong to different keys and vary one by one: Σ p (1 − p) v².
            for r in 0..n {
                scores.row_mut(r).iter_mut().for_each(|p| *p *= T::one() - *p);
            }
            let into = TileMut::new(&mut totals.second[span], n, width, width);
            squares.accumulate_apart(scores.as_tile(), run, into, &mut self.part);
        }
    }
}
