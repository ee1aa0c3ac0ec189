//! The forward pass where queries choose, or where edges are independent.

use std::ops::Range;

use marginals_kernels::{
    Aligned, InstructionSet, Tile, TileMut, Winner, each_contender, gumbel_argmax,
};

use super::blocks::{KEY_BLOCK, STRIDE, STRIP, blocks, narrowed};
use super::gather::{self, Room, Sums};
use super::heads::{Care, HeadKeys};
use super::logistic::absences;
use super::noise::draw;
use super::rule::{Order, RowFold, RowRule, Strip, Weights};
use super::task::Task;
use crate::infer::finding::{Candidate, Extremes, Finding, Merge, insert};
use crate::infer::statistic::Extremal;
use crate::potential::{Features, Place};
use crate::prior::Coverage;
use crate::{Block, Real};

/// The finding of a run of queries of one head over the keys prepared in `head_keys`.
pub(super) fn find<T: Real>(
    task: &Task<'_, T>,
    rule: &dyn RowRule<T>,
    head_keys: &HeadKeys<'_, T>,
    (batch, head): (usize, usize),
    queries: Range<usize>,
    care: Care,
) -> Finding<T> {
    let shape = task.shape;
    let request = task.request;
    let rows = queries.len();
    let keys = head_keys.keys.clone();
    let numbers = keys.start as i64 + shape.key_offset..keys.end as i64 + shape.key_offset;
    let mut finding = Finding::nothing(rule.merge(), request, (rows, rows), numbers);
    let scaled = match care {
        Care::Scaled => rule.scaled_fold(task.wants, rows),
        Care::Fast | Care::Careful => None,
    };
    let is_scaled = scaled.is_some();
    let mut fold = scaled.unwrap_or_else(|| rule.fold(task.wants, rows));
    let place = Place { shape, batch, head, first: queries.start };
    let raw = task.q.rows((batch, head), queries.clone());
    let q = Features::new(task.scorer.potential.query_features(place, raw.view()), queries.start);

    let block =
        |queries: Range<usize>, keys: Range<usize>| shape.block((batch, head), queries, keys);
    let mut scratch = Scratch::new(task, rule, is_scaled);
    let strip_rows = InstructionSet::detect().strip_rows();
    let live = task.scorer.prior.live_keys(&block(queries.clone(), keys.clone()));
    let mut key_blocks: Vec<Range<usize>> = blocks(live, keys.start, KEY_BLOCK).collect();
    if rule.order() == Order::LastFirst {
        key_blocks.reverse();
    }
    for keys in key_blocks {
        for first in queries.clone().step_by(strip_rows) {
            let strip = block(first..(first + strip_rows).min(queries.end), keys.clone());
            let strip = narrowed(task.scorer.prior, strip, head_keys.keys.start);
            let coverage = task.scorer.prior.coverage(&strip);
            if coverage == Coverage::Empty || strip.keys.is_empty() {
                continue;
            }
            let from = first - queries.start;
            let rows = from..from + strip.queries.len();
            scratch.fold(task, head_keys, &strip, coverage, &q, rows, &mut *fold, &mut finding);
        }
    }
    let folded = fold.finish();
    if !folded.factor.is_empty() {
        gather::each_gathered(request, &mut finding, |width, list| {
            for (row, &factor) in list.chunks_exact_mut(width.max(1)).zip(&folded.factor) {
                row.iter_mut().for_each(|x| *x *= factor);
            }
        });
    }
    folded.into_finding(&mut finding, [request.log_probability(), request.log_ratio()]);
    if !rule.has_many_edges() {
        let all = block(queries, keys);
        gather::finish_spreads(request, head_keys, &all, &mut finding);
    }
    finding
}

/// Buffers for one strip.
struct Scratch<T> {
    scores: Aligned<T>,
    /// Empty until a strip has weights.
    weights: Aligned<T>,
    /// Likewise, unless something else takes its room.
    other: Aligned<T>,
    /// How fast log p moves, by tangent of the request, where that takes a running state.
    tangents: Vec<Vec<T>>,
    part: Vec<T>,
    rescale: [T; STRIP],
    highest: Vec<Candidate<T>>,
    /// Whether the best edge is found by the fold, for nothing.
    follows_highest: bool,
    /// Whether best edges are ranked by something other than their scores.
    ranks: bool,
    /// 1 − p, where edges vary one by one and variances are found.
    absent: Aligned<T>,
    sums: Sums,
}

impl<T: Real> Scratch<T> {
    fn new(task: &Task<'_, T>, rule: &dyn RowRule<T>, is_scaled: bool) -> Self {
        let tile = |wanted| Aligned::zeros(if wanted { STRIP * STRIDE } else { 0 });
        let wanted = &task.request.extremal;
        let ranks = rule.order() == Order::LastFirst && !wanted.is_empty();
        Self {
            scores: tile(true),
            weights: tile(false),
            other: tile(task.reads_edges || ranks),
            tangents: match rule.order() {
                Order::Any => Vec::new(),
                Order::LastFirst => {
                    let tile = |_| vec![T::zero(); STRIP * STRIDE];
                    task.request.tangents().map(tile).collect()
                }
            },
            part: Vec::new(),
            rescale: [T::one(); STRIP],
            highest: Vec::new(),
            follows_highest: !ranks
                && wanted
                    .iter()
                    .any(|wanted| matches!(wanted, Extremal::Best(1) | Extremal::Highest)),
            ranks,
            absent: tile(rule.has_many_edges() && gather::finds_spreads(task.request)),
            sums: match rule.merge() {
                Merge::Mixture => Sums::Relative,
                _ if is_scaled => Sums::Relative,
                _ => Sums::Absolute,
            },
        }
    }

    /// Folds one strip into the finding of its rows.
    #[allow(clippy::too_many_arguments, reason = "the strip, its place and what it is folded into")]
    fn fold(
        &mut self,
        task: &Task<'_, T>,
        head_keys: &HeadKeys<'_, T>,
        strip: &Block,
        coverage: Coverage,
        q: &Features<'_, T>,
        rows: Range<usize>,
        fold: &mut dyn RowFold<T>,
        finding: &mut Finding<T>,
    ) {
        let (n, m) = (strip.queries.len(), strip.keys.len());
        let mut scores = TileMut::new(&mut self.scores, n, m, STRIDE);
        let weighted = task.reads_weights && coverage != Coverage::Free;
        if weighted && self.weights.is_empty() {
            for tile in [&mut self.weights, &mut self.other] {
                tile.resize(STRIP * STRIDE);
            }
        }
        let mut weights = weighted.then(|| TileMut::new(&mut self.weights, n, m, STRIDE));
        task.scorer.fill(
            strip,
            coverage,
            (q, &head_keys.features),
            scores.reborrow(),
            weights.as_mut().map(|w| w.reborrow()),
            None,
        );
        if self.ranks {
            let mut ranked = TileMut::new(&mut self.other, n, m, STRIDE);
            for r in 0..n {
                ranked.row_mut(r).copy_from_slice(scores.row(r));
            }
            fold.rank(ranked, rows.clone());
        }
        let ranked = match self.ranks {
            true => Tile::new(&self.other, n, m, STRIDE),
            false => scores.as_tile(),
        };
        let followed = self.follows_highest;
        keep_extremes(task, strip, (scores.as_tile(), ranked), followed, rows.clone(), finding);
        let highest = match self.follows_highest {
            true => {
                read_highest(finding, rows.clone(), &mut self.highest);
                Some(self.highest.as_mut_slice())
            }
            false => None,
        };
        for (tile, (index, function)) in self.tangents.iter_mut().zip(task.request.tangents()) {
            let mut tangents = TileMut::new(tile, n, m, STRIDE);
            function.fill(strip, tangents.reborrow());
            let none = &mut finding.linear[index].none_tangents[rows.clone()];
            fold.log_tangents(scores.as_tile(), tangents, none);
        }
        let read = match (&weights, task.reads_weights) {
            (_, false) => Weights::Unread,
            (None, true) => Weights::Free,
            (Some(weights), true) => Weights::Tile(weights.as_tile()),
        };
        let absent = (!self.absent.is_empty()).then(|| {
            let mut absent = TileMut::new(&mut self.absent, n, m, STRIDE);
            for r in 0..n {
                absent.row_mut(r).copy_from_slice(scores.row(r));
            }
            absences(absent.reborrow());
            absent
        });
        let entering = Strip {
            block: strip,
            scores: scores.reborrow(),
            weights: read,
            room: &mut self.other,
            stride: STRIDE,
        };
        fold.fold(entering, rows.clone(), &mut self.rescale[..n], highest);
        if self.follows_highest {
            write_highest(finding, rows.clone(), &self.highest);
        }
        gather::rescale(task.request, &self.rescale[..n], rows.clone(), finding);
        let room = Room { tile: &mut self.other, tangents: &self.tangents, part: &mut self.part };
        let how = (self.sums, absent.as_ref().map(TileMut::as_tile));
        gather::gather(task.request, head_keys, strip, scores, rows, how, room, finding);
    }
}

/// The best edges so far of some rows.
fn read_highest<T: Real>(finding: &Finding<T>, rows: Range<usize>, into: &mut Vec<Candidate<T>>) {
    into.clear();
    for extremes in &finding.extremal {
        if let Extremes::Best { count: 1, edges } | Extremes::Highest(edges) = extremes {
            into.extend_from_slice(&edges[rows]);
            return;
        }
    }
}

fn write_highest<T: Real>(finding: &mut Finding<T>, rows: Range<usize>, from: &[Candidate<T>]) {
    for extremes in &mut finding.extremal {
        if let Extremes::Best { count: 1, edges } | Extremes::Highest(edges) = extremes {
            edges[rows.clone()].copy_from_slice(from);
        }
    }
}

/// Puts the best of a row of scores, of keys from `first` on, into a list kept best first.
fn keep_best<T: Real>(list: &mut [Candidate<T>], row: &[T], first: i64) {
    let Some(worst) = list.last() else { return };
    // Only what is possible is ever kept.
    let bound = worst.score.max(T::min_value());
    each_contender(InstructionSet::detect(), row, list.len(), bound, |at, score| {
        insert(list, Candidate { score, index: first + at as i64 });
    });
}

/// Keeps the best edges of a strip that the fold does not find by itself.
fn keep_extremes<T: Real>(
    task: &Task<'_, T>,
    strip: &Block,
    (scores, ranked): (Tile<'_, T>, Tile<'_, T>),
    followed: bool,
    rows: Range<usize>,
    finding: &mut Finding<T>,
) {
    for (extremes, wanted) in finding.extremal.iter_mut().zip(&task.request.extremal) {
        for (r, row) in rows.clone().enumerate() {
            let first = strip.number(strip.keys.start);
            let candidates = || {
                let numbered = (first..).zip(scores.row(r));
                numbered.map(|(index, &score)| Candidate { score, index })
            };
            match (&mut *extremes, *wanted) {
                // The fold does that.
                (Extremes::Best { count: 1, .. } | Extremes::Highest(_), _) if followed => {}
                (Extremes::Best { count, edges }, _) => {
                    keep_best(&mut edges[row * *count..][..*count], ranked.row(r), first);
                }
                (Extremes::Highest(edges), _) => {
                    for candidate in candidates() {
                        if candidate.beats(&edges[row]) {
                            edges[row] = candidate;
                        }
                    }
                }
                (Extremes::Draws { count, edges }, Extremal::Draws { seed, .. }) => {
                    let draws = &mut edges[row * *count..][..*count];
                    for (sample, best) in draws.iter_mut().enumerate() {
                        let head = (strip.batch, strip.head);
                        let draw = draw(seed, head, strip.queries.start + r, sample);
                        let set = InstructionSet::detect();
                        let so_far = (best.index >= 0)
                            .then_some(Winner { value: best.score, key: best.index as usize });
                        let won = gumbel_argmax(set, ranked.row(r), first as usize, draw, so_far);
                        if let Some(won) = won {
                            *best = Candidate { score: won.value, index: won.key as i64 };
                        }
                    }
                }
                (Extremes::Lowest(edges), _) => {
                    let lowest = &mut edges[row];
                    for candidate in candidates() {
                        let possible = candidate.score > T::neg_infinity();
                        let first = lowest.index < 0;
                        if possible && (first || candidate.turned().beats(&lowest.turned())) {
                            *lowest = candidate;
                        }
                    }
                }
                (Extremes::Draws { .. }, _) => {}
            }
        }
    }
}
