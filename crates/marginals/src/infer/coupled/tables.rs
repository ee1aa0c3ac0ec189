//! Tables of scores: all edges of a head at once.

use ndarray::ArrayView2;

use super::contract::{Lengths, Scores};
use crate::infer::Problem;
use crate::infer::streaming::Scorer;
use crate::potential::{Features, Place};
use crate::prior::Coverage;
use crate::{Block, Real, TileMut, parallel};

/// Queries per block that a table is made of.
const QUERY_BLOCK: usize = 96;

/// Scores and log-weights of one head, row after row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    /// θ.
    pub scores: Vec<f64>,
    /// log w; empty where nobody reads it.
    pub weights: Vec<f64>,
}

/// Tables that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    Scores,
    ScoresAndWeights,
}

/// Features of the queries or keys of one head, those that are not numbers set to 0 where `clean`.
pub(in crate::infer) struct NodeFeatures<'a, T> {
    pub q: Features<'a, T>,
    pub k: Features<'a, T>,
}

/// Features of one head.
pub(in crate::infer) fn features<'a, T: Real>(
    problem: &'a Problem<'_, T>,
    (batch, head): (usize, usize),
    (q, k): (ArrayView2<'a, T>, ArrayView2<'a, T>),
) -> NodeFeatures<'a, T> {
    let shape = &problem.shape;
    let place = |head| Place { shape, batch, head, first: 0 };
    let potential = problem.potential;
    let q = Features::new(potential.query_features(place(head), q), 0);
    let k = Features::new(potential.key_features(place(shape.key_head(head)), k), 0);
    let k = if potential.is_product() { k.packed_across() } else { k };
    NodeFeatures { q, k }
}

/// Blocks of a head's queries with all its keys.
pub(super) fn blocks<T: Real>(
    problem: &Problem<'_, T>,
    head: (usize, usize),
) -> impl Iterator<Item = Block> + use<T> {
    let shape = problem.shape;
    (0..shape.queries).step_by(QUERY_BLOCK).map(move |first| {
        shape.block(head, first..(first + QUERY_BLOCK).min(shape.queries), 0..shape.keys)
    })
}

/// The table of every head.
pub(super) fn tables<T: Real>(problem: &Problem<'_, T>, reads: Reads) -> Vec<Table> {
    let shape = &problem.shape;
    let heads: Vec<_> = shape.all_heads().collect();
    parallel::map_each(heads, &|head| table(problem, head, reads))
}

fn table<T: Real>(problem: &Problem<'_, T>, head: (usize, usize), reads: Reads) -> Table {
    let shape = &problem.shape;
    let q = problem.q.rows(head, 0..shape.queries);
    let k = problem.k.rows((head.0, shape.key_head(head.1)), 0..shape.keys);
    let nodes = features(problem, head, (q.view(), k.view()));
    let scorer = Scorer { prior: &*problem.prior, potential: problem.potential };
    let edges = shape.queries * shape.keys;
    let mut all = Table { scores: Vec::with_capacity(edges), weights: Vec::new() };
    let mut scores = vec![T::zero(); QUERY_BLOCK.min(shape.queries) * shape.keys];
    let wants_weights = reads == Reads::ScoresAndWeights;
    let mut weights = vec![T::zero(); if wants_weights { scores.len() } else { 0 }];
    for block in blocks(problem, head) {
        let (n, m) = (block.queries.len(), block.keys.len());
        let own = n * m;
        let coverage = problem.prior.coverage(&block);
        if coverage == Coverage::Empty || own == 0 {
            all.scores.resize(all.scores.len() + own, f64::NEG_INFINITY);
            if wants_weights {
                all.weights.resize(all.weights.len() + own, f64::NEG_INFINITY);
            }
            continue;
        }
        weights.fill(T::zero());
        let into = wants_weights.then(|| TileMut::new(&mut weights, n, m, m));
        let tile = TileMut::new(&mut scores, n, m, m);
        scorer.fill(&block, coverage, (&nodes.q, &nodes.k), tile, into, None);
        all.scores.extend(scores[..own].iter().map(|x| x.f64()));
        if wants_weights {
            all.weights.extend(weights[..own].iter().map(|x| x.f64()));
        }
    }
    all
}

/// Cut of the edges of a head into factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    /// The edges of a head are one factor.
    Head,
    /// The edges of each query are one.
    Query,
}

/// The scores of every factor of a head: copies of the rows, edges that are not there set to −∞, and the
/// structure's own behind them.
pub(super) fn factors(
    scores: &[f64],
    (queries, row): (usize, usize),
    lengths: Lengths,
    own: &[f64],
    cut: Factors,
) -> Vec<Vec<f64>> {
    let table = |rows: &[f64], first: usize| {
        let mut all = Vec::with_capacity(rows.len() + own.len());
        for (query, scores) in (first..).zip(rows.chunks_exact(row.max(1))) {
            let keys = if query < lengths.queries { lengths.keys } else { 0 };
            all.extend_from_slice(&scores[..keys]);
            all.resize(all.len() + row - keys, f64::NEG_INFINITY);
        }
        all.extend_from_slice(own);
        all
    };
    match cut {
        Factors::Head => vec![table(scores, 0)],
        Factors::Query => {
            (0..queries).map(|query| table(&scores[query * row..][..row], query)).collect()
        }
    }
}

/// [`Scores`] over the numbers of a factor that [`factors`] made.
pub(super) fn view(values: &[f64], row: usize, lengths: Lengths, own: usize) -> Scores<'_> {
    let (queries, keys) = (lengths.queries, lengths.keys);
    Scores { queries, keys, row, edges: values.len() - own, values }
}
