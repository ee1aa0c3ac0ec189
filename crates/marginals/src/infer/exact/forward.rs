//! The forward pass: cutting it into tasks and putting their statistics together.

use std::ops::Range;

use marginals_kernels::Draw;
use ndarray::ArrayView4;
use rayon::prelude::*;

use super::heads::HeadKeys;
use super::request::Request;
use super::scorer::Scorer;
use super::statistics::{Kept, Statistics};
use super::summary::Summary;
use super::{QUERY_BLOCK, TASKS, by_key, by_query, heads, split};
use crate::model::structure::Factorisation;
use crate::question::EdgeFunctions;
use crate::{Posterior, Real, Shape};

/// Keys below which a range of them is not worth splitting.
pub(super) const FEWEST_KEYS: usize = 2048;

/// What every task of one forward pass shares.
pub(super) struct Task<'a, T> {
    pub shape: &'a Shape,
    pub factorisation: &'a Factorisation,
    pub scorer: Scorer<'a, T>,
    pub kept: Kept,
    /// Whether log-weights are looked at apart from the scores.
    pub reads_weights: bool,
    /// Functions of edges that are averaged.
    pub functions: Option<&'a dyn EdgeFunctions<T>>,
    /// Seed of the draws.
    pub seed: u64,
    pub q: ArrayView4<'a, T>,
}

impl<'a, T: Real> Task<'a, T> {
    /// What a pass over `posterior` finds out for `request`.
    pub fn new<'r: 'a>(posterior: &'a Posterior<'_, T>, request: &'a Request<'r, T>) -> Self {
        let mask = posterior.prior.is_mask();
        let per_query = matches!(posterior.factorisation, Factorisation::PerQuery { .. });
        let per_edge = matches!(posterior.factorisation, Factorisation::PerEdge);
        Self {
            shape: &posterior.shape,
            factorisation: &posterior.factorisation,
            scorer: posterior.scorer(),
            reads_weights: request.reads_weights(mask),
            kept: Kept {
                score: request.entropy,
                log_weight: request.expected_log_weight && !mask,
                weights: request.prior_log_partition,
                best: request.best,
                top: request.top,
                draws: request.draws.filter(|_| !per_edge).map_or(0, |(count, _)| count),
                mass: !per_query,
                mean: request.mean,
                second: request.second_moment,
                distance: request.distance,
                functions: request.function_count(),
                value_width: request.value_width(),
            },
            functions: request.functions,
            seed: request.draws.map_or(0, |(_, seed)| seed),
            q: posterior.q.view(),
        }
    }

    /// The noise of one draw.
    pub fn draw(&self, batch: usize, head: usize, query: usize, sample: usize) -> Draw {
        draw(self.seed, (batch, head), query, sample)
    }
}

/// The noise of one draw: a function of its seed and its place alone.
pub(super) fn draw(seed: u64, (batch, head): (usize, usize), query: usize, sample: usize) -> Draw {
    Draw {
        seed,
        batch: batch as u32,
        head: head as u32,
        query: query as u32,
        sample: sample as u32,
    }
}

/// The index under which the null edge draws its noise; no key reaches it.
pub(super) const NULL_KEY: usize = u32::MAX as usize;

/// Statistics of every factor and query over a range of keys.
pub(crate) fn forward<T: Real>(
    posterior: &Posterior<'_, T>,
    request: &Request<'_, T>,
    keys: Range<usize>,
) -> Statistics<T> {
    Statistics::concatenate(by_run(posterior, request, keys, |statistics, _| statistics))
}

/// Runs a forward pass over all keys and normalises what it leaves behind, each run of queries
/// where it was made.
pub(crate) fn summarise<T: Real>(
    posterior: &Posterior<'_, T>,
    request: &Request<'_, T>,
) -> Summary<T> {
    let keys = 0..posterior.shape.keys;
    let finish = |statistics, (place, first)| {
        let row = |row| (place, first + row);
        Summary::new(statistics, posterior, request, row)
    };
    Summary::concatenate(by_run(posterior, request, keys, finish))
}

/// A batch entry and head, and the first factor there.
type First = ((usize, usize), usize);

/// Calls `finish` with the statistics of every run of factors, and returns what it makes of them:
/// batch-major, then by head, then by factor.
fn by_run<T: Real, R: Send>(
    posterior: &Posterior<'_, T>,
    request: &Request<'_, T>,
    keys: Range<usize>,
    finish: impl Fn(Statistics<T>, First) -> R + Sync,
) -> Vec<R> {
    let shape = &posterior.shape;
    let per_query = matches!(posterior.factorisation, Factorisation::PerQuery { .. });
    let per_edge = matches!(posterior.factorisation, Factorisation::PerEdge);
    let task = Task::new(posterior, request);
    let k = posterior.k.view();
    let values = request.values.as_ref().map(|v| v.view());
    let squares = request.second_moment;
    let prepare =
        |keys| heads::prepare(shape, posterior.potential, &k, values.as_ref(), squares, keys);
    let places: Vec<(usize, usize)> =
        (0..shape.batch).flat_map(|b| (0..shape.heads).map(move |h| (b, h))).collect();
    let key_head = |(b, h): (usize, usize)| b * shape.key_heads + shape.key_head(h);

    if !per_query && !per_edge {
        let chunks = split(keys.clone(), TASKS.div_ceil(places.len().max(1)));
        let prepared = prepare(keys);
        let tasks: Vec<_> = places
            .iter()
            .flat_map(|&place| chunks.iter().map(move |chunk| (place, chunk.clone())))
            .collect();
        let parts: Vec<Statistics<T>> = tasks
            .into_par_iter()
            .map(|(place, chunk)| {
                by_key::statistics(&task, &prepared[key_head(place)], place, chunk)
            })
            .collect();
        let by_place = in_runs(parts, chunks.len()).map(|mut of_place| {
            let mut first = of_place.next().expect("at least one run of keys");
            for part in of_place {
                first.factors.append(part.factors);
                first.totals.add(&part.totals);
            }
            first
        });
        return by_place.zip(&places).map(|(whole, &place)| finish(whole, (place, 0))).collect();
    }

    let blocks: Vec<Range<usize>> = (0..shape.queries)
        .step_by(QUERY_BLOCK)
        .map(|first| first..(first + QUERY_BLOCK).min(shape.queries))
        .collect();
    let tasks: Vec<_> = places
        .iter()
        .flat_map(|&place| blocks.iter().map(move |block| (place, block.clone())))
        .collect();
    // Few queries against many keys: the keys are split too, and the parts merged.
    let parts = match TASKS.div_ceil(tasks.len().max(1)) {
        1 => 1,
        parts => parts.min(keys.len().div_ceil(FEWEST_KEYS)).max(1),
    };
    let run = |prepared: &[HeadKeys<'_, T>], (place, block): &((usize, usize), Range<usize>)| {
        by_query::statistics(&task, &prepared[key_head(*place)], *place, block.clone())
    };
    // One task at a time to whoever is free: a core that other programs slow down gets fewer.
    if parts == 1 {
        let prepared = prepare(keys);
        let whole = |cut: &(_, Range<usize>)| finish(run(&prepared, cut), (cut.0, cut.1.start));
        return tasks.par_iter().with_max_len(1).map(whole).collect();
    }
    let over = |keys: Range<usize>| -> Vec<Statistics<T>> {
        let prepared = prepare(keys);
        tasks.par_iter().with_max_len(1).map(|cut| run(&prepared, cut)).collect()
    };
    let mut runs: Vec<Vec<Statistics<T>>> = split(keys, parts).into_par_iter().map(over).collect();
    let merged = runs.remove(0);
    let merge = |(index, mut statistics): (usize, Statistics<T>)| {
        for other in &runs {
            match per_query {
                true => statistics.merge_choices(&other[index]),
                false => statistics.merge_edges(&other[index]),
            }
        }
        let (place, block) = &tasks[index];
        finish(statistics, (*place, block.start))
    };
    merged.into_iter().enumerate().map(merge).collect()
}

/// A list in consecutive runs of `length`.
fn in_runs<P>(list: Vec<P>, length: usize) -> impl Iterator<Item = std::vec::IntoIter<P>> {
    let mut list = list.into_iter();
    let runs = list.len() / length.max(1);
    (0..runs).map(move |_| list.by_ref().take(length).collect::<Vec<_>>().into_iter())
}
