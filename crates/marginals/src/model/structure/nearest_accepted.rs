use std::ops::Range;

use marginals_kernels::{
    InstructionSet, LogPartition, StickBreaking, StickBreakingBackward, Tile, TileMut,
    stick_breaking_backward, stick_breaking_rows,
};

use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use crate::infer::Inference;
use crate::infer::finding::{Candidate, Extremes, Finding, Merge, Normalisers, at, insert};
use crate::infer::statistic::{Extremal, Request};
use crate::infer::streaming::{
    BackwardTile, Folded, NULL_KEY, Order, RowFold, RowRule, RowSlopes, Streaming, Strip, Wants,
    Weights, draw,
};
use crate::model::part::Part;
use crate::model::tensors::Inputs;
use crate::special::softplus;
use crate::{Error, Real};

/// Every query is offered its keys from the last to the first, accepts each with probability σ(θ_ij),
/// and picks the first that it accepts; none, if it accepts none.
///
/// p_ij = σ(θ_ij) Π_k>j (1 − σ(θ_ik)), the product over the keys between: stick-breaking attention
/// (Tan et al., arXiv 2410.17980), under a causal prior. P(none) = Π_j (1 − σ(θ_ij)). Every offer is
/// normalised by itself, so that log Z = 0, and the evidence with it; entropy and KL are those of the
/// pick, summed by the chain rule over the offers. A query without a possible key picks none, with
/// probability 1. Cost: a softplus and an exponential per possible edge, and one running sum.
///
/// ```
/// # use marginals::{Model, potential::Dot, prior::Causal, question::Marginals};
/// use marginals::structure::NearestAccepted;
/// # let x = ndarray::Array4::<f64>::zeros((1, 1, 3, 1));
/// let model = Model::new(NearestAccepted, Causal, Dot::new(1.0));
/// let p = model.posterior(x.view(), x.view())?.ask(Marginals)?;
/// let last: Vec<f64> = p.iter().skip(6).copied().collect();
/// assert!(last.iter().zip([0.125, 0.25, 0.5]).all(|(a, b)| (a - b).abs() < 1e-15), "{last:?}");
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearestAccepted;

impl Part for NearestAccepted {
    const NAME: &'static str = "nearest-accepted";
    const MEANING: &'static str = "keys are offered from the last to the first, each accepted with σ(θ), and the first accepted is \
         picked: stick-breaking";
    const EXAMPLE: &'static str = "\"nearest-accepted\"";
}

impl StructurePart for NearestAccepted {
    fn build<T: Real>(&self, _inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        Ok(Box::new(*self))
    }

    fn couples_queries(&self) -> bool {
        false
    }
}

impl<T: Real> Structure<T> for NearestAccepted {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Streaming::rows(*self))
    }
}

/// State of the queries once some of their last keys have been offered.
struct Fold<T> {
    wants: Wants,
    /// log P(none accepted yet).
    log_none: Vec<T>,
    mass: Vec<T>,
    /// Σ over the offers of their entropies, each as often as it is reached.
    entropy: Vec<T>,
    log_ratio: Vec<T>,
    /// The largest log p of each row, which its weights are relative to; empty where they are not.
    log_scale: Vec<T>,
}

/// log σ(θ) and log(1 − σ(θ)).
fn offer<T: Real>(score: T) -> (T, T) {
    (-softplus(-score), -softplus(score))
}

/// p x, where p = 0 leaves nothing whatever x is.
fn times<T: Real>(p: T, x: T) -> T {
    if p == T::zero() { p } else { p * x }
}

/// E\[log p − log π\] of one offer.
fn divergence<T: Real>(score: T, weight: T) -> T {
    let (accepts, passes) = offer(score);
    let (prior_accepts, prior_passes) = offer(weight);
    let kl =
        times(accepts.exp(), accepts - prior_accepts) + times(passes.exp(), passes - prior_passes);
    if kl < T::zero() { T::zero() } else { kl }
}

impl<T: Real> Fold<T> {
    fn new(wants: Wants, rows: usize, scaled: bool) -> Self {
        let zeros = |wanted: bool| vec![T::zero(); if wanted { rows } else { 0 }];
        Self {
            wants,
            log_none: zeros(true),
            mass: zeros(true),
            entropy: zeros(wants.log_probability),
            log_ratio: zeros(wants.log_ratio),
            log_scale: vec![T::neg_infinity(); if scaled { rows } else { 0 }],
        }
    }
}

impl<T: Real> RowFold<T> for Fold<T> {
    fn fold(
        &mut self,
        mut strip: Strip<'_, T>,
        rows: Range<usize>,
        rescale: &mut [T],
        _highest: Option<&mut [Candidate<T>]>,
    ) {
        rescale.fill(T::one());
        if self.log_scale.is_empty() && !self.wants.log_ratio {
            let entropy = &mut self.entropy;
            let state = StickBreaking {
                log_left: &mut self.log_none[rows.clone()],
                mass: Some(&mut self.mass[rows.clone()]),
                entropy: self.wants.log_probability.then(|| &mut entropy[rows]),
            };
            return stick_breaking_rows(InstructionSet::detect(), strip.scores, state);
        }
        let impossible = if self.log_scale.is_empty() { T::zero() } else { T::neg_infinity() };
        for (r, row) in rows.enumerate() {
            let mut log_none = self.log_none[row];
            let mut mass = T::zero();
            let scores = strip.scores.row_mut(r);
            for c in (0..scores.len()).rev() {
                let score = scores[c];
                if score == T::neg_infinity() {
                    scores[c] = impossible;
                    continue;
                }
                let (accepts, passes) = offer(score);
                if self.wants.log_probability {
                    let log_p = times(accepts.exp(), accepts) + times(passes.exp(), passes);
                    self.entropy[row] -= times(log_none.exp(), log_p);
                }
                if self.wants.log_ratio {
                    let weight = match strip.weights {
                        Weights::Tile(weights) => weights.row(r)[c],
                        Weights::Free | Weights::Unread => T::zero(),
                    };
                    self.log_ratio[row] += times(log_none.exp(), divergence(score, weight));
                }
                scores[c] = match self.log_scale.is_empty() {
                    true => (log_none + accepts).exp(),
                    false => log_none + accepts,
                };
                mass += scores[c];
                log_none += passes;
            }
            self.log_none[row] = log_none;
            if let Some(scale) = self.log_scale.get_mut(row) {
                let before = *scale;
                *scale = scores.iter().fold(before, |most, &x| most.max(x));
                if before < *scale && before > T::neg_infinity() {
                    rescale[r] = (before - *scale).exp();
                }
                // Relative to nothing there is nothing.
                let most = if *scale == T::neg_infinity() { T::zero() } else { *scale };
                scores.iter_mut().for_each(|x| *x = (*x - most).exp());
                mass = self.mass[row] * (rescale[r] - T::one()) + scores.iter().copied().sum();
            }
            self.mass[row] += mass;
        }
    }

    fn rank(&self, mut scores: TileMut<'_, T>, rows: Range<usize>) {
        for (r, row) in rows.enumerate() {
            let mut log_none = self.log_none[row];
            for score in scores.row_mut(r).iter_mut().rev() {
                if *score > T::neg_infinity() {
                    let (accepts, passes) = offer(*score);
                    *score = log_none + accepts;
                    log_none += passes;
                }
            }
        }
    }

    /// d log p_ij = (1 − σ_ij) dθ_ij − Σ_k>j σ_ik dθ_ik, the sum being −d log P(none of these).
    fn log_tangents(&self, scores: Tile<'_, T>, mut tangents: TileMut<'_, T>, none: &mut [T]) {
        for (r, none) in none.iter_mut().enumerate() {
            let scores = scores.row(r);
            for (tangent, &score) in tangents.row_mut(r).iter_mut().zip(scores).rev() {
                if score == T::neg_infinity() {
                    *tangent = T::zero();
                    continue;
                }
                let (accepts, passes) = offer(score);
                let own = *tangent;
                *tangent = times(passes.exp(), own) + *none;
                *none -= times(accepts.exp(), own);
            }
        }
    }

    fn finish(mut self: Box<Self>) -> Folded<T> {
        // A query without a possible edge has nothing to scale.
        let empty = self.log_scale.iter_mut().filter(|scale| **scale == T::neg_infinity());
        empty.for_each(|scale| *scale = T::zero());
        let zeros = |wanted: bool| vec![T::zero(); if wanted { self.mass.len() } else { 0 }];
        let normalisers = |wanted| Normalisers { max: zeros(wanted), log_sum: zeros(wanted) };
        Folded {
            normalisers: normalisers(true),
            prior: normalisers(self.wants.prior),
            log_probability: self.entropy.into_iter().map(|entropy| -entropy).collect(),
            log_ratio: self.log_ratio,
            log_none: self.log_none,
            mass: self.mass,
            log_scale: self.log_scale,
            factor: Vec::new(),
        }
    }
}

impl<T: Real> RowRule<T> for NearestAccepted {
    fn merge(&self) -> Merge {
        Merge::Sequence
    }

    fn order(&self) -> Order {
        Order::LastFirst
    }

    fn may_pick_none(&self) -> bool {
        true
    }

    fn fold(&self, wants: Wants, rows: usize) -> Box<dyn RowFold<T> + '_> {
        Box::new(Fold::new(wants, rows, false))
    }

    fn scaled_fold(&self, wants: Wants, rows: usize) -> Option<Box<dyn RowFold<T> + '_>> {
        Some(Box::new(Fold::new(wants, rows, true)))
    }

    fn complete(
        &self,
        request: &Request<'_, T>,
        finding: &mut Finding<T>,
        place: &dyn Fn(usize) -> ((usize, usize), usize),
    ) {
        finding.spread_by_none();
        let log_none = &finding.log_none;
        for (extremes, wanted) in finding.extremal.iter_mut().zip(&request.extremal) {
            match (extremes, *wanted) {
                (Extremes::Best { count, edges }, _) if *count > 0 => {
                    for (list, &score) in edges.chunks_exact_mut(*count).zip(log_none) {
                        insert(list, Candidate { score, index: -1 });
                    }
                }
                (Extremes::Draws { edges, .. }, Extremal::Draws { count, seed }) => {
                    for (index, best) in edges.iter_mut().enumerate() {
                        let (row, sample) = (index / count, index % count);
                        let (head, query) = place(row);
                        let noise = draw(seed, head, query, sample).noise(NULL_KEY);
                        let none = Candidate { score: log_none[row].f64() + noise, index: -1 };
                        if none.beats(best) {
                            *best = none;
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
        _normalisers: LogPartition<'_, T>,
        carry: &mut [T],
    ) {
        let state = StickBreaking { log_left: carry, mass: None, entropy: None };
        stick_breaking_rows(InstructionSet::detect(), scores, state);
    }

    /// With g_m = ∂L/∂θ_m and σ_m the probability of accepting,
    ///
    /// ```text
    /// g_m = p_m (1 − σ_m) f_m − σ_m Σ_j<m p_j f_j,
    /// ```
    ///
    /// the sum over what is offered later, having none included: E\[f\] less what has been seen.
    fn differentiate(
        &self,
        tile: BackwardTile<'_, T>,
        slopes: RowSlopes<'_, T>,
        carry: &mut [[T; 3]],
    ) {
        let scaled = slopes.log_scale.iter().any(|&scale| scale != T::zero());
        if slopes.log_ratio.is_empty() && !scaled {
            return differentiate_plainly(tile, slopes, carry);
        }
        let BackwardTile { mut scores, mut quantity, weights, mut direct, .. } = tile;
        for (r, [log_none, seen, log_prior_none]) in carry.iter_mut().enumerate() {
            let idle = slopes.normalisers.max[r] == T::neg_infinity();
            let (of_log_p, of_ratio) = (at(slopes.log_p, r), at(slopes.log_ratio, r));
            let of_none = at(slopes.log_none, r);
            for c in (0..scores.columns).rev() {
                let score = scores.row(r)[c];
                let (mut gradient, mut gathered, mut on_weight) = (T::zero(), T::zero(), T::zero());
                if !idle && score > T::neg_infinity() {
                    let (accepts, passes) = offer(score);
                    let log_p = *log_none + accepts;
                    let p = log_p.exp();
                    gathered = (log_p - at(slopes.log_scale, r)).exp();
                    let mut of_edge = T::zero();
                    if of_log_p != T::zero() {
                        of_edge += of_log_p * log_p;
                    }
                    if of_ratio != T::zero() {
                        let weight = weights.as_ref().map_or(T::zero(), |w| w.row(r)[c]);
                        let (prior_accepts, prior_passes) = offer(weight);
                        of_edge -= of_ratio * (*log_prior_none + prior_accepts);
                        *log_prior_none += prior_passes;
                        let after = (*log_none + passes).exp();
                        on_weight = of_ratio
                            * (times(prior_accepts.exp(), after) - times(prior_passes.exp(), p));
                    }
                    let own = times(gathered, quantity.row(r)[c]) + times(p, of_edge);
                    *seen += own;
                    let later = slopes.expected[r] - *seen;
                    gradient = times(passes.exp(), own) - times(accepts.exp(), later + of_none);
                    *log_none += passes;
                }
                scores.row_mut(r)[c] = gradient;
                quantity.row_mut(r)[c] = gathered;
                if let Some(direct) = &mut direct {
                    direct.row_mut(r)[c] = on_weight;
                }
            }
        }
    }

    fn log_probability(&self, _score: T, _max: T, _log_sum: T) -> Option<T> {
        None
    }
}

/// The backward step where nothing looks at log w and nothing is in a scale of its own.
fn differentiate_plainly<T: Real>(
    tile: BackwardTile<'_, T>,
    slopes: RowSlopes<'_, T>,
    carry: &mut [[T; 3]],
) {
    let BackwardTile { mut scores, mut quantity, .. } = tile;
    let rows = scores.rows;
    for r in (0..rows).filter(|&r| slopes.normalisers.max[r] == T::neg_infinity()) {
        // Passed over with nothing to gather, whatever the query holds.
        scores.row_mut(r).fill(T::neg_infinity());
        quantity.row_mut(r).fill(T::zero());
    }
    let (mut log_left, mut seen): (Vec<T>, Vec<T>) =
        carry[..rows].iter().map(|&[log_left, seen, _]| (log_left, seen)).unzip();
    let of_left: Vec<T> = (0..rows).map(|r| at(slopes.log_none, r)).collect();
    let state = StickBreakingBackward {
        log_left: &mut log_left,
        seen: &mut seen,
        expected: &slopes.expected[..rows],
        of_left: &of_left,
        score_weight: Some(slopes.log_p).filter(|list| !list.is_empty()),
    };
    stick_breaking_backward(InstructionSet::detect(), scores, quantity, state);
    for (carry, (log_left, seen)) in carry.iter_mut().zip(log_left.into_iter().zip(seen)) {
        (carry[0], carry[1]) = (log_left, seen);
    }
}
