//! The forward pass where queries choose, or where edges are independent.

use std::ops::Range;

use crate::Real;
use marginals_kernels::{
    Aligned, InstructionSet, OnlineRows, Tile, TileMut, Winner, dot_rows, gumbel_argmax,
    logistic_rows, online_rows, scale_rows,
};
use ndarray::s;

use super::forward::Task;
use super::heads::HeadKeys;
use super::statistics::{Candidate, Factors, Statistics, Totals, insert};
use super::{KEY_BLOCK, STRIDE, STRIP, blocks, narrowed};
use crate::Block;
use crate::model::structure::Factorisation;
use crate::potential::{Features, Place};
use crate::prior::Coverage;

/// Statistics of a run of queries of one head over the keys prepared in `head_keys`.
pub(super) fn statistics<T: Real>(
    task: &Task<'_, T>,
    head_keys: &HeadKeys<'_, T>,
    (batch, head): (usize, usize),
    queries: Range<usize>,
) -> Statistics<T> {
    let independent = matches!(task.factorisation, Factorisation::PerEdge);
    let rows = queries.len();
    let mut factors = Factors::new(&task.kept, rows, !independent);
    let mut totals = Totals::new(&task.kept, rows);
    let place = Place { shape: task.shape, batch, head, first: queries.start };
    let q = task.q.slice(s![batch, head, queries.clone(), ..]);
    let q = Features::new(task.scorer.potential.query_features(place, q), queries.start);

    let block = |queries: Range<usize>, keys: Range<usize>| Block {
        batch,
        head,
        queries,
        keys,
        positions: task.shape.positions(),
    };
    let mut scratch = Scratch::new(
        task.reads_weights,
        task.kept.weights || task.kept.distance || task.kept.functions > 0,
    );
    let strip_rows = InstructionSet::detect().strip_rows();
    let live = task.scorer.prior.live_keys(&block(queries.clone(), head_keys.keys.clone()));
    for keys in blocks(live, head_keys.keys.start, KEY_BLOCK) {
        for first in queries.clone().step_by(strip_rows) {
            let strip = block(first..(first + strip_rows).min(queries.end), keys.clone());
            let strip = narrowed(task.scorer.prior, strip, head_keys.keys.start);
            let coverage = task.scorer.prior.coverage(&strip);
            if coverage == Coverage::Empty || strip.keys.is_empty() {
                continue;
            }
            let from = first - queries.start;
            let rows = from..from + strip.queries.len();
            scratch.fold(task, head_keys, &strip, coverage, &q, rows, &mut factors, &mut totals);
        }
    }
    Statistics { factors, totals }
}

/// Buffers for one strip.
struct Scratch<T> {
    scores: Aligned<T>,
    weights: Aligned<T>,
    other: Aligned<T>,
    part: Vec<T>,
    rescale: [T; STRIP],
    raised: [usize; STRIP],
}

/// Mark of a row whose maximum a tile did not raise.
const NOT_RAISED: usize = usize::MAX;

impl<T: Real> Scratch<T> {
    fn new(weights: bool, other: bool) -> Self {
        let tile = |wanted| Aligned::zeros(if wanted { STRIP * STRIDE } else { 0 });
        Self {
            scores: tile(true),
            weights: tile(weights),
            other: tile(other),
            part: Vec::new(),
            rescale: [T::one(); STRIP],
            raised: [NOT_RAISED; STRIP],
        }
    }

    /// Folds one strip into the statistics of its rows.
    #[allow(clippy::too_many_arguments, reason = "the strip, its place and what it is folded into")]
    fn fold(
        &mut self,
        task: &Task<'_, T>,
        head_keys: &HeadKeys<'_, T>,
        strip: &Block,
        coverage: Coverage,
        q: &Features<'_, T>,
        rows: Range<usize>,
        factors: &mut Factors<T>,
        totals: &mut Totals<T>,
    ) {
        let set = InstructionSet::detect();
        let (n, m) = (strip.queries.len(), strip.keys.len());
        let independent = matches!(task.factorisation, Factorisation::PerEdge);
        let mut scores = TileMut::new(&mut self.scores, n, m, STRIDE);
        let mut weights = (!self.weights.is_empty() && coverage != Coverage::Free)
            .then(|| TileMut::new(&mut self.weights, n, m, STRIDE));
        task.scorer.fill(
            strip,
            coverage,
            (q, &head_keys.features),
            scores.reborrow(),
            weights.as_mut().map(|w| w.reborrow()),
            None,
        );
        if task.kept.weights {
            let max = &mut factors.weight_max[rows.clone()];
            let sum = &mut factors.weight_sum[rows.clone()];
            let weights = weights.as_ref().map(TileMut::as_tile);
            fold_weights(weights, m, independent, &mut self.other, max, sum);
        }
        fold_candidates(task, strip, scores.as_tile(), rows.clone(), factors);

        if independent {
            if task.kept.score {
                let entropy = &mut factors.score[rows.clone()];
                for (r, sum) in entropy.iter_mut().enumerate() {
                    *sum += scores.row(r).iter().map(|&x| edge_entropy(x)).sum();
                }
            }
            logistic_rows(set, scores.reborrow(), &mut factors.sum[rows.clone()]);
            for (r, mass) in totals.mass[rows.clone()].iter_mut().enumerate() {
                *mass += scores.row(r).iter().copied().sum();
            }
        } else {
            let state = OnlineRows {
                max: &mut factors.max[rows.clone()],
                sum: &mut factors.sum[rows.clone()],
                rescale: &mut self.rescale[..n],
                score: task.kept.score.then(|| &mut factors.score[rows.clone()]),
                raised: task.kept.best.then_some(&mut self.raised[..n]),
            };
            online_rows(set, scores.reborrow(), state);
            if task.kept.best {
                for (row, raised) in rows.clone().zip(&mut self.raised) {
                    let place = std::mem::replace(raised, NOT_RAISED);
                    if place != NOT_RAISED {
                        let index = (strip.keys.start + place) as i64;
                        factors.best[row] = Candidate { score: factors.max[row], index };
                    }
                }
            }
            rescale_totals(task, &self.rescale[..n], rows.clone(), factors, totals);
        }

        let posterior = scores.as_tile();
        if task.kept.log_weight
            && let Some(weights) = &weights
        {
            dot_rows(set, posterior, weights.as_tile(), &mut factors.log_weight[rows.clone()]);
        }
        if task.kept.distance {
            let mut distance = TileMut::new(&mut self.other, n, m, STRIDE);
            fill_distance(strip, distance.reborrow());
            dot_rows(set, posterior, distance.as_tile(), &mut totals.distance[rows.clone()]);
        }
        if let Some(functions) = task.functions {
            let count = functions.count();
            for index in 0..count {
                let mut values = TileMut::new(&mut self.other, n, m, STRIDE);
                functions.fill(index, strip, values.reborrow());
                let mut sums = [T::zero(); STRIP];
                dot_rows(set, posterior, values.as_tile(), &mut sums[..n]);
                let own = totals.functions[rows.start * count..].iter_mut().skip(index);
                own.step_by(count).zip(&sums[..n]).for_each(|(total, &sum)| *total += sum);
            }
        }
        let run = strip.keys.start - head_keys.keys.start..strip.keys.end - head_keys.keys.start;
        let width = task.kept.value_width;
        let span = rows.start * width..rows.end * width;
        if let (true, Some(values)) = (task.kept.mean, head_keys.values(strip.head)) {
            let into = TileMut::new(&mut totals.mean[span.clone()], n, width, width);
            match independent {
                true => values.accumulate_apart(posterior, run.clone(), into, &mut self.part),
                false => values.accumulate(posterior, run.clone(), into),
            }
        }
        if let (true, Some(squares)) = (task.kept.second, head_keys.squares(strip.head)) {
            if independent {
                // Edges vary one by one: Σ p (1 − p) v².
                for r in 0..n {
                    scores.row_mut(r).iter_mut().for_each(|p| *p *= T::one() - *p);
                }
            }
            let into = TileMut::new(&mut totals.second[span], n, width, width);
            match independent {
                true => squares.accumulate_apart(scores.as_tile(), run, into, &mut self.part),
                false => squares.accumulate(scores.as_tile(), run, into),
            }
        }
    }
}

/// Brings what was accumulated against the old maximum to the new one.
fn rescale_totals<T: Real>(
    task: &Task<'_, T>,
    rescale: &[T],
    rows: Range<usize>,
    factors: &mut Factors<T>,
    totals: &mut Totals<T>,
) {
    if rescale.iter().all(|&f| f == T::one()) {
        return;
    }
    let set = InstructionSet::detect();
    let (n, width) = (rows.len(), task.kept.value_width);
    let span = rows.start * width..rows.end * width;
    if task.kept.mean {
        scale_rows(set, TileMut::new(&mut totals.mean[span.clone()], n, width, width), rescale);
    }
    if task.kept.second {
        scale_rows(set, TileMut::new(&mut totals.second[span], n, width, width), rescale);
    }
    if task.kept.distance {
        scale_rows(set, TileMut::new(&mut totals.distance[rows.clone()], n, 1, 1), rescale);
    }
    if task.kept.functions > 0 {
        let count = task.kept.functions;
        let own = &mut totals.functions[rows.start * count..rows.end * count];
        scale_rows(set, TileMut::new(own, n, count, count), rescale);
    }
    if task.kept.log_weight {
        scale_rows(set, TileMut::new(&mut factors.log_weight[rows], n, 1, 1), rescale);
    }
}

/// −p log p − (1 − p) log(1 − p) for p = σ(θ), as a sum of positive terms: with e = e^−|θ|,
/// log(1 + e) + |θ| e/(1 + e).
pub(super) fn edge_entropy<T: Real>(score: T) -> T {
    let size = score.abs();
    if size == T::infinity() {
        return T::zero();
    }
    let e = (-size).exp();
    e.ln_1p() + size * e / (T::one() + e)
}

/// log(1 + e^x).
pub(super) fn softplus<T: Real>(x: T) -> T {
    x.max(T::zero()) + (-x.abs()).exp().ln_1p()
}

/// Folds the log-weights of a strip (`None`: all 0) into the prior's running partition.
fn fold_weights<T: Real>(
    weights: Option<Tile<'_, T>>,
    columns: usize,
    independent: bool,
    buffer: &mut [T],
    max: &mut [T],
    sum: &mut [T],
) {
    let set = InstructionSet::detect();
    let rows = max.len();
    match (weights, independent) {
        (None, true) => {
            let every = T::of(columns as f64) * softplus(T::zero());
            sum.iter_mut().for_each(|s| *s += every);
        }
        (Some(weights), true) => {
            for (r, sum) in sum.iter_mut().enumerate() {
                *sum += weights.row(r).iter().map(|&w| softplus(w)).sum();
            }
        }
        (None, false) => {
            for (max, sum) in max.iter_mut().zip(sum) {
                let new = max.max(T::zero());
                // Nearly always the maximum is 0 already, and needs no exponentials.
                let before = match *sum == T::zero() || *max == new {
                    true => *sum,
                    false => *sum * (*max - new).exp(),
                };
                let each = if new == T::zero() { T::one() } else { (T::zero() - new).exp() };
                *sum = before + T::of(columns as f64) * each;
                *max = new;
            }
        }
        (Some(weights), false) => {
            let mut copy = TileMut::new(buffer, rows, columns, STRIDE);
            for r in 0..rows {
                copy.row_mut(r).copy_from_slice(weights.row(r));
            }
            let mut rescale = [T::one(); STRIP];
            let state =
                OnlineRows { max, sum, rescale: &mut rescale[..rows], score: None, raised: None };
            online_rows(set, copy, state);
        }
    }
}

/// |position of query − position of key| over a strip.
pub(super) fn fill_distance<T: Real>(strip: &Block, mut tile: TileMut<'_, T>) {
    for (r, i) in strip.queries.clone().enumerate() {
        for (x, j) in tile.row_mut(r).iter_mut().zip(strip.keys.clone()) {
            *x = T::of(strip.distance(i, j).unsigned_abs() as f64);
        }
    }
}

/// Folds a strip into the lists of best edges and the draws of its queries.
fn fold_candidates<T: Real>(
    task: &Task<'_, T>,
    strip: &Block,
    scores: Tile<'_, T>,
    rows: Range<usize>,
    factors: &mut Factors<T>,
) {
    let kept = &task.kept;
    // Where queries choose, the best edge comes out of the streaming maximum for nothing.
    let independent = matches!(task.factorisation, Factorisation::PerEdge);
    for (r, row) in rows.enumerate() {
        let first = strip.keys.start as i64;
        let candidates =
            || (first..).zip(scores.row(r)).map(|(index, &score)| Candidate { score, index });
        if kept.best && independent {
            let best = &mut factors.best[row];
            for candidate in candidates() {
                if candidate.beats(best) {
                    *best = candidate;
                }
            }
        }
        if kept.top > 0 {
            let list = &mut factors.top[row * kept.top..][..kept.top];
            candidates().for_each(|candidate| insert(list, candidate));
        }
        let draws = &mut factors.draws[row * kept.draws..][..kept.draws];
        for (sample, best) in draws.iter_mut().enumerate() {
            let draw = task.draw(strip.batch, strip.head, strip.queries.start + r, sample);
            let set = InstructionSet::detect();
            let so_far =
                (best.index >= 0).then_some(Winner { value: best.score, key: best.index as usize });
            if let Some(won) = gumbel_argmax(set, scores.row(r), strip.keys.start, draw, so_far) {
                *best = Candidate { score: won.value, index: won.key as i64 };
            }
        }
    }
}
