//! The forward pass where keys choose among queries.

use std::ops::Range;

use marginals_kernels::{
    Aligned, InstructionSet, LogPartition, OnlineColumns, TileMut, dot_columns, exp_columns,
    online_columns,
};

use super::blocks::{KEY_BLOCK, STRIDE, blocks};
use super::gather::{self, Room, Sums};
use super::heads::{Care, HeadKeys};
use super::noise::draw;
use super::softmax::{not_negative, not_positive};
use super::task::Task;
use crate::infer::finding::{Candidate, Extremes, Finding, Merge, Normalisers, insert};
use crate::infer::statistic::Extremal;
use crate::potential::{Features, Place, lanes};
use crate::prior::Coverage;
use crate::{Block, Real};

/// Queries per tile. When all of them fit in one, its scores are made once; otherwise they are
/// made again for the second phase, after every query has been seen.
pub(super) const ROWS: usize = 128;

/// Running statistics of the keys of one task.
struct Columns<T> {
    max: Vec<T>,
    sum: Vec<T>,
    /// The sum without one term of the maximum's, which is 1: of the probability that a key picks
    /// another query it has the digits that 1 − p has not. Empty where no variance is found.
    rest: Vec<T>,
    score: Vec<T>,
    /// Σ e^(θ − max) (log w − the largest log w).
    weight: Vec<T>,
    weight_max: Vec<T>,
    weight_sum: Vec<T>,
}

/// The finding of a run of keys of one head over all queries.
pub(super) fn find<T: Real>(
    task: &Task<'_, T>,
    head_keys: &HeadKeys<'_, T>,
    (batch, head): (usize, usize),
    (keys, references): (Range<usize>, &[f64]),
    care: Care,
) -> Finding<T> {
    let shape = task.shape;
    let request = task.request;
    let numbers = keys.start as i64 + shape.key_offset..keys.end as i64 + shape.key_offset;
    let sizes = (keys.len(), shape.queries);
    let mut finding = Finding::nothing(Merge::Factors, request, sizes, numbers);
    let zeros = |wanted: bool| vec![T::zero(); if wanted { keys.len() } else { 0 }];
    let lowest = |wanted: bool| vec![T::neg_infinity(); if wanted { keys.len() } else { 0 }];
    let wants = task.wants;
    let finds_spreads = gather::finds_spreads(request);
    let mut state = Columns {
        max: lowest(true),
        sum: zeros(true),
        rest: zeros(finds_spreads),
        score: zeros(wants.log_probability || wants.log_ratio),
        weight: zeros(wants.log_ratio),
        weight_max: lowest(wants.prior),
        weight_sum: zeros(wants.prior),
    };
    let place = Place { shape, batch, head, first: 0 };
    let raw = task.q.rows((batch, head), 0..shape.queries);
    let q = Features::new(task.scorer.potential.query_features(place, raw.view()), 0);
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
        absent: tile(finds_spreads),
        tangents: {
            let tile = |_| vec![T::zero(); shape.queries.min(ROWS) * STRIDE];
            request.tangents().map(tile).collect()
        },
        part: Vec::new(),
        log_scale: match care {
            Care::Fast | Care::Careful => Vec::new(),
            Care::Scaled => vec![T::neg_infinity(); shape.queries],
        },
    };
    for block_keys in blocks(keys.clone(), head_keys.keys.start, KEY_BLOCK) {
        let from = block_keys.start - keys.start;
        let columns = from..from + block_keys.len();
        let block = |queries: &Range<usize>| {
            shape.block((batch, head), queries.clone(), block_keys.clone())
        };
        for queries in &rows {
            let block = block(queries);
            scratch.normalise(task, head_keys, &q, &block, columns.clone(), &mut state);
        }
        let keep = rows.len() == 1;
        let mut centres = vec![vec![T::zero(); block_keys.len()]; scratch.tangents.len()];
        if !centres.is_empty() {
            for queries in &rows {
                let block = block(queries);
                let columns = columns.clone();
                scratch.centre(task, head_keys, &q, &block, keep, columns, &state, &mut centres);
            }
        }
        for queries in &rows {
            let block = block(queries);
            scratch.centre_tangents(task, &block, &centres);
            let columns = columns.clone();
            let references = references.get(columns.clone()).unwrap_or_default();
            let columns = (columns, references);
            scratch.fold(task, head_keys, &q, &block, keep, columns, &mut state, &mut finding);
        }
    }
    finding.log_scale = scratch.log_scale;
    // A query that no key reaches has nothing to scale.
    finding.log_scale.iter_mut().filter(|x| **x == T::neg_infinity()).for_each(|x| *x = T::zero());
    state.finish(task, &mut finding);
    finding
}

impl<T: Real> Columns<T> {
    fn finish(self, task: &Task<'_, T>, finding: &mut Finding<T>) {
        let request = task.request;
        let count = self.max.len();
        finding.normalisers = Normalisers::with_capacity(count);
        let (entropy, ratio) = (request.log_probability(), request.log_ratio());
        if task.wants.prior {
            finding.prior = Normalisers::with_capacity(count);
        }
        for c in 0..count {
            let (max, sum) = (self.max[c], self.sum[c]);
            let dead = sum == T::zero();
            let log_sum = match self.rest.get(c) {
                Some(rest) if !dead => rest.ln_1p(),
                _ => sum.ln(),
            };
            finding.normalisers.push(if dead { T::neg_infinity() } else { max }, log_sum);
            let log_p = match self.score.get(c) {
                Some(&score) if !dead => not_positive(score / sum - sum.ln()),
                _ => T::zero(),
            };
            if let Some(index) = entropy {
                finding.linear[index].values[c] = log_p;
            }
            if task.wants.prior {
                let prior = self.weight_sum[c];
                let none = prior == T::zero();
                let max = if none { T::neg_infinity() } else { self.weight_max[c] };
                finding.prior.push(max, prior.ln());
                if let Some(index) = ratio {
                    finding.linear[index].values[c] = match dead {
                        true => T::zero(),
                        false => not_negative(log_p - self.weight[c] / sum + prior.ln()),
                    };
                }
            }
        }
    }
}

struct Scratch<T> {
    scores: Aligned<T>,
    weights: Aligned<T>,
    other: Aligned<T>,
    /// 1 − p, where variances or covariances are found.
    absent: Aligned<T>,
    /// How fast log p moves, by tangent of the request.
    tangents: Vec<Vec<T>>,
    part: Vec<T>,
    /// log of what is taken out of the weights of each query, so that they do not underflow; empty
    /// where no care is taken.
    log_scale: Vec<T>,
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
        state: &mut Columns<T>,
    ) {
        let coverage = task.scorer.prior.coverage(block);
        if coverage == Coverage::Empty {
            return;
        }
        self.fill(task, head_keys, q, block, coverage);
        let set = InstructionSet::detect();
        let (n, m) = (block.queries.len(), block.keys.len());
        let before = match state.rest.is_empty() {
            true => Vec::new(),
            false => state.max[columns.clone()].to_vec(),
        };
        let online = OnlineColumns {
            max: &mut state.max[columns.clone()],
            sum: &mut state.sum[columns.clone()],
        };
        online_columns(set, TileMut::new(&mut self.scores, n, m, STRIDE).as_tile(), online);
        if !before.is_empty() {
            let rest = &mut state.rest[columns.clone()];
            self.add_to_rest((n, m), &before, &state.max[columns.clone()], rest);
        }
        if task.wants.prior {
            let online = OnlineColumns {
                max: &mut state.weight_max[columns.clone()],
                sum: &mut state.weight_sum[columns],
            };
            online_columns(set, TileMut::new(&mut self.weights, n, m, STRIDE).as_tile(), online);
        }
    }

    /// Adds the terms of one tile to the sums without that of the maximum, which was `before` and is `max`.
    fn add_to_rest(&mut self, (n, m): (usize, usize), before: &[T], max: &[T], rest: &mut [T]) {
        let scores = TileMut::new(&mut self.scores, n, m, STRIDE);
        let mut terms = TileMut::new(&mut self.other, n, m, STRIDE);
        // Whether the term left out is still to come: the first of a new maximum, which the old one
        // then joins.
        let mut is_to_come: Vec<bool> = before.iter().zip(max).map(|(b, max)| max > b).collect();
        for (c, rest) in rest.iter_mut().enumerate() {
            if is_to_come[c] && before[c] > T::neg_infinity() {
                *rest = (T::one() + *rest) * (before[c] - max[c]).exp();
            }
        }
        for r in 0..n {
            terms.row_mut(r).copy_from_slice(scores.row(r));
        }
        let relative = LogPartition { max, log_sum: &[T::zero(); KEY_BLOCK] };
        exp_columns(InstructionSet::detect(), terms.reborrow(), relative);
        for r in 0..n {
            for (c, (rest, &term)) in rest.iter_mut().zip(terms.row(r)).enumerate() {
                match is_to_come[c] && scores.row(r)[c] == max[c] {
                    true => is_to_come[c] = false,
                    false => *rest += term,
                }
            }
        }
    }

    /// Between the phases, where the request has tangents: adds Σ_i p_ij θ̇_ij of one tile to the centres
    /// of its keys. `kept` says that the first phase left this tile's scores in place.
    #[allow(clippy::too_many_arguments, reason = "the tile, its place and what it is added to")]
    fn centre(
        &mut self,
        task: &Task<'_, T>,
        head_keys: &HeadKeys<'_, T>,
        q: &Features<'_, T>,
        block: &Block,
        kept: bool,
        columns: Range<usize>,
        state: &Columns<T>,
        centres: &mut [Vec<T>],
    ) {
        let coverage = task.scorer.prior.coverage(block);
        if coverage == Coverage::Empty {
            return;
        }
        if !kept {
            self.fill(task, head_keys, q, block, coverage);
        }
        let (n, m) = (block.queries.len(), block.keys.len());
        let scores = TileMut::new(&mut self.scores, n, m, STRIDE);
        let (max, sum) = (&state.max[columns.clone()], &state.sum[columns]);
        for ((_, function), centres) in task.request.tangents().zip(centres) {
            let mut values = TileMut::new(&mut self.other, n, m, STRIDE);
            function.fill(block, values.reborrow());
            for r in 0..n {
                for (c, (&score, &moved)) in scores.row(r).iter().zip(values.row(r)).enumerate() {
                    if score > T::neg_infinity() {
                        centres[c] += (score - max[c]).exp() / sum[c] * moved;
                    }
                }
            }
        }
    }

    /// Makes θ̇_ij less the centres of the keys: how fast log p_ij moves.
    fn centre_tangents(&mut self, task: &Task<'_, T>, block: &Block, centres: &[Vec<T>]) {
        let (n, m) = (block.queries.len(), block.keys.len());
        let tiles = self.tangents.iter_mut().zip(centres);
        for ((tile, centres), (_, function)) in tiles.zip(task.request.tangents()) {
            let mut tangents = TileMut::new(tile, n, m, STRIDE);
            function.fill(block, tangents.reborrow());
            for r in 0..n {
                let pairs = tangents.row_mut(r).iter_mut().zip(centres);
                pairs.for_each(|(x, &centre)| *x -= centre);
            }
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
        (columns, references): (Range<usize>, &[f64]),
        state: &mut Columns<T>,
        finding: &mut Finding<T>,
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
        let mut scores = TileMut::new(&mut self.scores, n, m, STRIDE);
        keep_extremes(task, block, scores.as_tile(), (columns.clone(), references), finding);

        // Everything of the keys is kept relative to their maxima: exp(θ − log Z) would carry the
        // rounding of a large log Z into every probability, and from there into the entropy.
        let max = &state.max[columns.clone()];
        let mut other = TileMut::new(&mut self.other, n, m, STRIDE);
        if !state.score.is_empty() {
            for r in 0..n {
                let pairs = scores.row(r).iter().zip(max);
                other.row_mut(r).iter_mut().zip(pairs).for_each(|(x, (&s, &max))| *x = s - max);
            }
        }
        let sum = &state.sum[columns.clone()];
        let queries = block.queries.clone();
        // Without a scale the probabilities come from the exponentials that the keys need anyway.
        let scaled: Vec<T> = match self.log_scale.is_empty() {
            true => Vec::new(),
            false => (0..n).flat_map(|r| scores.row(r)[..m].to_vec()).collect(),
        };
        let relative = LogPartition { max, log_sum: &[T::zero(); KEY_BLOCK] };
        exp_columns(set, scores.reborrow(), relative);
        if !state.score.is_empty() {
            let sum = &mut state.score[columns.clone()];
            dot_columns(set, scores.as_tile(), other.as_tile(), sum);
        }
        if !state.weight.is_empty() {
            let largest = &state.weight_max[columns.clone()];
            let mut weights = TileMut::new(&mut self.weights, n, m, STRIDE);
            for r in 0..n {
                let pairs = weights.row_mut(r).iter_mut().zip(largest);
                pairs.for_each(|(w, &max)| *w -= max);
            }
            let sum = &mut state.weight[columns.clone()];
            dot_columns(set, scores.as_tile(), weights.as_tile(), sum);
        }
        let absent = (!self.absent.is_empty()).then(|| {
            let rest = &state.rest[columns.clone()];
            let mut absent = TileMut::new(&mut self.absent, n, m, STRIDE);
            for r in 0..n {
                let columns = sum.iter().zip(rest);
                let terms = absent.row_mut(r).iter_mut().zip(scores.row(r)).zip(columns);
                terms.for_each(|((absent, &term), (&sum, &rest))| {
                    // The likeliest query of all has a term of 1; any other has at most half the sum.
                    let others = if term == T::one() { rest } else { sum - term };
                    *absent = if sum == T::zero() { T::one() } else { others / sum };
                });
            }
            absent
        });
        let mut factor = vec![T::one(); if scaled.is_empty() { 0 } else { n }];
        if scaled.is_empty() {
            // What queries gather is absolute.
            set.run(
                #[inline(always)]
                || {
                    for r in 0..n {
                        let row = scores.row_mut(r);
                        for (p, &sum) in row.iter_mut().zip(sum) {
                            // A column that nothing may serve has a sum of 0 too.
                            *p = if *p == T::zero() { *p } else { *p / sum };
                        }
                    }
                },
            );
        } else {
            for (r, factor) in factor.iter_mut().enumerate() {
                let log_p = |c: usize| (scaled[r * m + c] - max[c]) - sum[c].ln();
                let row = scores.row_mut(r);
                let before = self.log_scale[queries.start + r];
                let largest = (0..m)
                    .filter(|&c| scaled[r * m + c] > T::neg_infinity())
                    .fold(before, |most, c| most.max(log_p(c)));
                for (c, p) in row.iter_mut().enumerate() {
                    *p = match scaled[r * m + c] == T::neg_infinity() {
                        true => T::zero(),
                        false => (log_p(c) - largest).exp(),
                    };
                }
                if before < largest && before > T::neg_infinity() {
                    *factor = (before - largest).exp();
                }
                self.log_scale[queries.start + r] = largest;
            }
            gather::rescale(task.request, &factor, queries.clone(), finding);
        }
        for (r, mass) in finding.mass[queries.clone()].iter_mut().enumerate() {
            let row = scores.row(r);
            let own = set.run(
                #[inline(always)]
                || lanes(row, row, |_, p, _| p),
            );
            *mass = *mass * factor.get(r).copied().unwrap_or(T::one()) + own;
        }
        let room = Room { tile: &mut self.other, tangents: &self.tangents, part: &mut self.part };
        let how = (Sums::Absolute, absent.as_ref().map(TileMut::as_tile));
        gather::gather(task.request, head_keys, block, scores, queries, how, room, finding);
    }
}

/// Keeps the best edges of a tile.
fn keep_extremes<T: Real>(
    task: &Task<'_, T>,
    block: &Block,
    scores: marginals_kernels::Tile<'_, T>,
    (columns, references): (Range<usize>, &[f64]),
    finding: &mut Finding<T>,
) {
    for (extremes, wanted) in finding.extremal.iter_mut().zip(&task.request.extremal) {
        for (r, query) in block.queries.clone().enumerate() {
            for (c, &score) in columns.clone().zip(scores.row(r)) {
                let candidate = Candidate { score, index: query as i64 };
                let key = block.keys.start + c - columns.start;
                // Scores of a query belong to keys of their own references.
                let absolute = || match references.get(c - columns.start) {
                    Some(&reference) => T::of(score.f64() + reference),
                    None => score,
                };
                match (&mut *extremes, *wanted) {
                    (Extremes::Best { count, edges }, _) => {
                        insert(&mut edges[c * *count..][..*count], candidate);
                    }
                    (Extremes::Draws { count, edges }, Extremal::Draws { seed, .. })
                        if score > T::neg_infinity() =>
                    {
                        let head = (block.batch, block.head);
                        let draws = &mut edges[c * *count..][..*count];
                        for (sample, best) in draws.iter_mut().enumerate() {
                            let number = block.number(key) as usize;
                            let noise = draw(seed, head, query, sample).noise(number);
                            let score = score.f64() + noise;
                            let noisy = Candidate { score, index: query as i64 };
                            if noisy.beats(best) {
                                *best = noisy;
                            }
                        }
                    }
                    (Extremes::Highest(edges), _) => {
                        let candidate = Candidate { score: absolute(), index: block.number(key) };
                        if candidate.beats(&edges[query]) {
                            edges[query] = candidate;
                        }
                    }
                    (Extremes::Lowest(edges), _) => {
                        let candidate = Candidate { score: absolute(), index: block.number(key) };
                        let lowest = &mut edges[query];
                        let possible = score > T::neg_infinity();
                        let first = lowest.index < 0;
                        if possible && (first || candidate.turned().beats(&lowest.turned())) {
                            *lowest = candidate;
                        }
                    }
                    (Extremes::Draws { .. }, _) => {}
                }
            }
        }
    }
}
