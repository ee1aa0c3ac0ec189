//! One edge per query, or at most one: the softmax.

use std::fmt::Debug;
use std::ops::Range;

use marginals_kernels::{
    InstructionSet, LogPartition, OnlineRows, TileMut, dot_rows, exp_rows, online_rows, scale_rows,
    softmax_backward,
};

use super::blocks::STRIP;
use super::noise::{NULL_KEY, draw};
use super::rule::{
    BackwardTile, FactorSlopes, Folded, RowFold, RowRule, RowSlopes, Strip, Wants, Weights,
};
use crate::infer::finding::{
    Candidate, Extremes, Finding, Merge, Normalisers, Shares, at, insert, weighted,
};
use crate::infer::statistic::{Extremal, Request};
use crate::special::{log_add, softplus};
use crate::{Parameter, ParameterGradient, Real, Shape};

/// Having no edge, as one more choice of a query.
pub trait NullEdge: Debug + Send + Sync {
    /// Its score, for query `query` of a batch entry and head.
    fn score(&self, head: (usize, usize), query: usize) -> NullScore;

    /// Whether its scores are [gates](NullScore::Gate).
    fn is_gate(&self) -> bool {
        false
    }

    /// Learnable parameters.
    fn parameters(&self) -> Vec<Parameter>;

    /// Their gradients, from those in its θ and in its log w of every query, [B, H, N].
    fn gradients(&self, shape: &Shape, slopes: &[[f64; 2]]) -> Vec<Vec<f64>>;
}

/// Score of having no edge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NullScore {
    /// Numbers of its own.
    Fixed {
        /// θ.
        score: f64,
        /// log w.
        weight: f64,
    },
    /// log Σ_j e^θ_ij − g, and log Σ_j w_ij − g in the prior: P(no edge) = 1 − σ(g) in both. A query
    /// without a possible key has no choice.
    Gate(f64),
}

/// The rule of the softmax: p_ij = e^θ_ij / (e^null + Σ_j' e^θ_ij').
#[derive(Clone, Copy, Debug)]
pub struct Softmax<'a> {
    /// Having no edge, where that is possible.
    pub null: Option<&'a dyn NullEdge>,
}

/// Mark of a row whose maximum a tile did not raise.
const NOT_RAISED: usize = usize::MAX;

/// Running maxima, sums and moments, relative to the maxima.
struct Fold<T> {
    wants: Wants,
    max: Vec<T>,
    sum: Vec<T>,
    /// Σ e^(θ − max) (θ − max).
    score: Vec<T>,
    /// Σ e^(θ − max) (log w − the largest log w): log-weights may all be large, and what is common
    /// to them must not round the rest.
    weight: Vec<T>,
    weight_max: Vec<T>,
    weight_sum: Vec<T>,
}

/// 0 for what rounding made negative; NaN stays.
pub(crate) fn not_negative<T: Real>(x: T) -> T {
    if x < T::zero() { T::zero() } else { x }
}

/// 0 for what rounding made positive; NaN stays.
pub(crate) fn not_positive<T: Real>(x: T) -> T {
    if x > T::zero() { T::zero() } else { x }
}

impl<T: Real> Fold<T> {
    /// Folds the log-weights of a strip into the prior's running partition.
    fn fold_weights(&mut self, strip: &mut Strip<'_, T>, rows: Range<usize>) {
        let set = InstructionSet::detect();
        let columns = strip.scores.columns;
        let before: [T; STRIP] = std::array::from_fn(|r| match rows.start + r < rows.end {
            true => self.weight_max[rows.start + r],
            false => T::zero(),
        });
        let (max, sum) = (&mut self.weight_max[rows.clone()], &mut self.weight_sum[rows.clone()]);
        match strip.weights {
            Weights::Unread => return,
            Weights::Free => {
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
            Weights::Tile(weights) => {
                let mut copy = TileMut::new(strip.room, rows.len(), columns, strip.stride);
                for r in 0..rows.len() {
                    copy.row_mut(r).copy_from_slice(weights.row(r));
                }
                let mut rescale = [T::one(); STRIP];
                let rescale = &mut rescale[..rows.len()];
                let state = OnlineRows { max, sum, rescale, score: None, raised: None };
                online_rows(set, copy, state);
            }
        }
        if self.wants.log_ratio && !self.weight.is_empty() {
            for (r, row) in rows.enumerate() {
                let rise = self.weight_max[row] - before[r];
                // From −∞ nothing was seen that would have to be moved.
                if rise > T::zero() && before[r] > T::neg_infinity() {
                    self.weight[row] -= weighted(self.sum[row], rise);
                }
            }
        }
    }
}

impl<T: Real> RowFold<T> for Fold<T> {
    fn fold(
        &mut self,
        mut strip: Strip<'_, T>,
        rows: Range<usize>,
        rescale: &mut [T],
        highest: Option<&mut [Candidate<T>]>,
    ) {
        let set = InstructionSet::detect();
        if self.wants.prior {
            self.fold_weights(&mut strip, rows.clone());
        }
        let mut raised = [NOT_RAISED; STRIP];
        let state = OnlineRows {
            max: &mut self.max[rows.clone()],
            sum: &mut self.sum[rows.clone()],
            rescale: &mut *rescale,
            score: self.wants.log_probability.then(|| &mut self.score[rows.clone()]),
            raised: highest.is_some().then_some(&mut raised[..rows.len()]),
        };
        online_rows(set, strip.scores.reborrow(), state);
        if let Some(highest) = highest {
            for ((row, raised), best) in rows.clone().zip(raised).zip(highest) {
                if raised != NOT_RAISED {
                    let index = strip.block.number(strip.block.keys.start + raised);
                    *best = Candidate { score: self.max[row], index };
                }
            }
        }
        if self.weight.is_empty() {
            return;
        }
        let moments = &mut self.weight[rows.clone()];
        scale_rows(set, TileMut::new(moments, rows.len(), 1, 1), rescale);
        let columns = strip.scores.columns;
        let largest = &self.weight_max[rows.clone()];
        match strip.weights {
            Weights::Unread => return,
            Weights::Free if largest.iter().all(|&max| max == T::zero()) => return,
            _ => {}
        }
        let mut apart = TileMut::new(strip.room, rows.len(), columns, strip.stride);
        for (r, &max) in largest.iter().enumerate() {
            match strip.weights {
                Weights::Tile(weights) => {
                    let pairs = apart.row_mut(r).iter_mut().zip(weights.row(r));
                    pairs.for_each(|(x, &w)| *x = w - max);
                }
                _ => apart.row_mut(r).fill(-max),
            }
        }
        dot_rows(set, strip.scores.as_tile(), apart.as_tile(), &mut self.weight[rows]);
    }

    fn finish(self: Box<Self>) -> Folded<T> {
        let count = self.max.len();
        let mut found = Folded {
            normalisers: Normalisers::with_capacity(count),
            mass: Vec::with_capacity(count),
            factor: Vec::with_capacity(count),
            ..Folded::default()
        };
        for row in 0..count {
            let (max, sum) = (self.max[row], self.sum[row]);
            let dead = sum == T::zero();
            let log_sum = sum.ln();
            found.normalisers.push(if dead { T::neg_infinity() } else { max }, log_sum);
            let mass = if sum.is_nan() { sum } else { T::one() };
            found.mass.push(if dead { T::zero() } else { mass });
            found.factor.push(if dead { T::zero() } else { sum.recip() });
            let mut log_p = T::zero();
            if self.wants.log_probability {
                log_p = match dead {
                    true => T::zero(),
                    false => not_positive(self.score[row] / sum - log_sum),
                };
                found.log_probability.push(log_p);
            }
            if self.wants.prior {
                let prior = self.weight_sum[row];
                let none = prior == T::zero();
                let max = if none { T::neg_infinity() } else { self.weight_max[row] };
                found.prior.push(max, prior.ln());
                if self.wants.log_ratio {
                    let moment = at(&self.weight, row);
                    found.log_ratio.push(match dead {
                        true => T::zero(),
                        false => not_negative(log_p - moment / sum + prior.ln()),
                    });
                }
            }
        }
        found
    }
}

impl<T: Real> RowRule<T> for Softmax<'_> {
    fn merge(&self) -> Merge {
        Merge::Mixture
    }

    fn may_pick_none(&self) -> bool {
        self.null.is_some()
    }

    fn fold(&self, wants: Wants, rows: usize) -> Box<dyn RowFold<T> + '_> {
        let zeros = |wanted: bool| vec![T::zero(); if wanted { rows } else { 0 }];
        let wants = Wants { log_probability: wants.log_probability || wants.log_ratio, ..wants };
        Box::new(Fold {
            wants,
            max: vec![T::neg_infinity(); rows],
            sum: zeros(true),
            score: zeros(wants.log_probability),
            weight: zeros(wants.log_ratio),
            weight_max: vec![T::neg_infinity(); if wants.prior { rows } else { 0 }],
            weight_sum: zeros(wants.prior),
        })
    }

    fn complete(
        &self,
        request: &Request<'_, T>,
        finding: &mut Finding<T>,
        place: &dyn Fn(usize) -> ((usize, usize), usize),
    ) {
        let Some(null) = self.null else { return };
        let count = finding.factors();
        finding.log_none = Vec::with_capacity(count);
        let mut shares = Vec::with_capacity(count);
        let mut prior_shares = Vec::new();
        let mut scores = Vec::with_capacity(count);
        for row in 0..count {
            let (head, query) = place(row);
            let (share, score) = match null.score(head, query) {
                NullScore::Fixed { score, weight } => {
                    let reference = finding.reference(row);
                    if !finding.references.is_empty() {
                        let with_none = |edges: &Normalisers<T>, none: f64| match edges.is_empty() {
                            true => f64::NEG_INFINITY,
                            false => log_add(reference + edges.log_z(row).f64(), none),
                        };
                        let both = [
                            with_none(&finding.normalisers, score),
                            with_none(&finding.prior, weight),
                        ];
                        finding.log_partitions.push(both);
                    }
                    if !finding.prior.is_empty() {
                        let weight = T::of(weight - reference);
                        prior_shares.push(add_choice(&mut finding.prior, row, weight));
                    }
                    let score = score - reference;
                    let share = add_choice(&mut finding.normalisers, row, T::of(score));
                    // Where nothing at all is possible there is no edge either.
                    let dead = finding.normalisers.max[row] == T::neg_infinity();
                    finding.log_none.push(match dead {
                        true => T::zero(),
                        false => not_positive(finding.normalisers.log_p(row, T::of(score))),
                    });
                    (share, score)
                }
                NullScore::Gate(gate) => {
                    let score = finding.normalisers.log_z(row).f64() - gate;
                    let share = add_gate(&mut finding.normalisers, row, T::of(gate));
                    if !finding.prior.is_empty() {
                        prior_shares.push(add_gate(&mut finding.prior, row, T::of(gate)));
                    }
                    finding.log_none.push(match finding.normalisers.log_z(row) {
                        nothing if nothing == T::neg_infinity() => T::zero(),
                        spoiled if spoiled.is_nan() => spoiled,
                        _ => -softplus(T::of(gate)),
                    });
                    (share, score)
                }
            };
            shares.push(share);
            scores.push(score);
        }
        finding.mix_in_none(&shares, &prior_shares, null.is_gate());
        for (extremes, wanted) in finding.extremal.iter_mut().zip(&request.extremal) {
            match (extremes, *wanted) {
                (Extremes::Best { count, edges }, _) if *count > 0 => {
                    for (list, &score) in edges.chunks_exact_mut(*count).zip(&scores) {
                        if score > f64::NEG_INFINITY {
                            insert(list, Candidate { score: T::of(score), index: -1 });
                        }
                    }
                }
                (Extremes::Draws { edges, .. }, Extremal::Draws { count, seed }) => {
                    for (index, best) in edges.iter_mut().enumerate() {
                        let (row, sample) = (index / count, index % count);
                        let (score, (head, query)) = (scores[row], place(row));
                        let noise = draw(seed, head, query, sample).noise(NULL_KEY);
                        let nothing = Candidate { score: score + noise, index: -1 };
                        if nothing.beats(best) {
                            *best = nothing;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn probabilities(
        &self,
        scores: TileMut<'_, T>,
        normalisers: LogPartition<'_, T>,
        _carry: &mut [T],
    ) {
        exp_rows(InstructionSet::detect(), scores, normalisers);
    }

    fn differentiate(
        &self,
        tile: BackwardTile<'_, T>,
        slopes: RowSlopes<'_, T>,
        _carry: &mut [[T; 3]],
    ) {
        if slopes.log_scale.iter().any(|&scale| scale != T::zero()) {
            return differentiate_scaled(tile, slopes);
        }
        softmax_backward(
            InstructionSet::detect(),
            tile.scores,
            tile.quantity,
            slopes.normalisers,
            Some(slopes.log_p).filter(|list| !list.is_empty()),
            slopes.centre,
        );
    }

    fn log_probability(&self, score: T, max: T, log_sum: T) -> Option<T> {
        Some(not_positive((score - max) - log_sum))
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.null.map(NullEdge::parameters).unwrap_or_default()
    }

    fn none_follows_edges(&self) -> bool {
        self.null.is_some_and(NullEdge::is_gate)
    }

    fn none_slopes(&self, slopes: &FactorSlopes<'_, T>) -> Vec<[f64; 2]> {
        let Some(null) = self.null else { return Vec::new() };
        let shape = slopes.shape;
        let count = slopes.finding.factors();
        let mut all = vec![[0.0; 2]; count];
        for (row, slope) in all.iter_mut().enumerate() {
            let (head, query) = (row / shape.queries.max(1), row % shape.queries.max(1));
            let head = (head / shape.heads.max(1), head % shape.heads.max(1));
            let log_p = slopes.finding.log_none[row].f64();
            let prior = &slopes.finding.prior;
            // log w of no edge less the prior's largest, and its logarithm in the prior.
            let (weight, log_pi) = match null.score(head, query) {
                NullScore::Fixed { score: f64::NEG_INFINITY, .. } => continue,
                NullScore::Fixed { weight, .. } if !prior.is_empty() => {
                    let weight = weight - slopes.finding.reference(row) - prior.max[row].f64();
                    (weight, weight - prior.log_sum[row].f64())
                }
                NullScore::Gate(gate) if !prior.is_empty() => {
                    let log_pi = -softplus(gate);
                    (log_pi + prior.log_sum[row].f64(), log_pi)
                }
                NullScore::Fixed { .. } | NullScore::Gate(_) => (0.0, f64::NEG_INFINITY),
            };
            if slopes.finding.normalisers.max[row] == T::neg_infinity() {
                continue;
            }
            let p = log_p.exp();
            let of = |list: &[T]| at(list, row).f64();
            let ratio = of(slopes.log_ratio);
            let relative = if ratio == 0.0 { 0.0 } else { weight };
            // A gradient of 0 takes no part, whatever the query holds.
            let f = of(slopes.none) + weighted(of(slopes.log_p), log_p) - ratio * relative;
            let of_score = weighted(f - of(slopes.expected) + of(slopes.log_partition), p);
            // d log p/dθ = 1 − p.
            let of_score = of_score + weighted(of(slopes.log_none), -log_p.exp_m1());
            let of_weight = match slopes.prior.is_empty() {
                true => 0.0,
                false => weighted(of(slopes.prior), log_pi.exp()) - weighted(ratio, p),
            };
            *slope = [of_score, of_weight];
        }
        all
    }

    fn parameter_gradients(
        &self,
        shape: &Shape,
        none_slopes: &[[f64; 2]],
    ) -> Vec<ParameterGradient<T>> {
        let Some(null) = self.null else { return Vec::new() };
        let gradients = null.gradients(shape, none_slopes);
        let parameters = null.parameters();
        let pairs = parameters.iter().zip(&gradients);
        pairs.map(|(parameter, sum)| ParameterGradient::from_small(parameter, sum)).collect()
    }
}

/// The backward step where what is gathered is weighted by p over a scale of its own.
fn differentiate_scaled<T: Real>(tile: BackwardTile<'_, T>, slopes: RowSlopes<'_, T>) {
    let BackwardTile { mut scores, mut quantity, .. } = tile;
    for r in 0..scores.rows {
        let (max, log_sum) = (slopes.normalisers.max[r], slopes.normalisers.log_sum[r]);
        for c in 0..scores.columns {
            let score = scores.row(r)[c];
            let possible = max > T::neg_infinity() && score > T::neg_infinity();
            let (mut gradient, mut scaled) = (T::zero(), T::zero());
            if possible {
                let log_p = (score - max) - log_sum;
                scaled = (log_p - slopes.log_scale[r]).exp();
                gradient = weighted(scaled, quantity.row(r)[c]);
                gradient += weighted(log_p.exp(), at(slopes.log_p, r) * log_p - slopes.centre[r]);
            }
            scores.row_mut(r)[c] = gradient;
            quantity.row_mut(r)[c] = scaled;
        }
    }
}

/// Adds the choice of no edge, log-odds `gate` against it, to a normaliser; returns both shares.
fn add_gate<T: Real>(into: &mut Normalisers<T>, row: usize, gate: T) -> Shares<T> {
    if into.max[row] == T::neg_infinity() {
        return Shares { edges: T::one(), none: T::zero(), log_edges: T::zero() };
    }
    let log_edges = -softplus(-gate);
    into.log_sum[row] -= log_edges;
    let log_sum = into.log_sum[row];
    if log_sum.is_nan() {
        return Shares { edges: log_sum, none: log_sum, log_edges: log_sum };
    }
    Shares { edges: log_edges.exp(), none: (-softplus(gate)).exp(), log_edges }
}

/// Adds one choice of score `score` to a normaliser; returns the shares of what was there and of it.
fn add_choice<T: Real>(into: &mut Normalisers<T>, row: usize, score: T) -> Shares<T> {
    let (max, log_sum) = (into.max[row], into.log_sum[row]);
    let highest = max.max(score);
    if log_sum.is_nan() {
        return Shares { edges: log_sum, none: log_sum, log_edges: log_sum };
    }
    if highest == T::neg_infinity() {
        return Shares { edges: T::one(), none: T::zero(), log_edges: T::zero() };
    }
    let log_x = match max == T::neg_infinity() {
        true => max,
        false => (max - highest) + log_sum,
    };
    let (x, y) = (log_x.exp(), (score - highest).exp());
    let total = x + y;
    into.max[row] = highest;
    into.log_sum[row] = total.ln();
    Shares { edges: x / total, none: y / total, log_edges: log_x - total.ln() }
}
