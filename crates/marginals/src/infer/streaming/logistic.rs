//! Every edge by itself: the logistic function.

use std::ops::Range;

use marginals_kernels::{InstructionSet, LogPartition, TileMut, logistic_rows};

use super::rule::{BackwardTile, Folded, RowFold, RowRule, RowSlopes, Strip, Wants, Weights};
use crate::Real;
use crate::infer::finding::{Candidate, Merge, Normalisers, at};
use crate::special::softplus;

/// The rule of independent edges: p_ij = σ(θ_ij), log Z_i = Σ_j log(1 + e^θ_ij).
#[derive(Clone, Copy, Debug)]
pub struct Logistic;

/// Running sums over the edges of each query.
struct Fold<T> {
    wants: Wants,
    log_partition: Vec<T>,
    prior: Vec<T>,
    log_probability: Vec<T>,
    log_ratio: Vec<T>,
    mass: Vec<T>,
    /// The largest log p of each row, which its weights are relative to; empty where they are not.
    log_scale: Vec<T>,
}

/// θ → 1 − σ(θ) = σ(−θ).
pub(super) fn absences<T: Real>(mut scores: TileMut<'_, T>) {
    for r in 0..scores.rows {
        scores.row_mut(r).iter_mut().for_each(|x| *x = -*x);
    }
    let mut log_partition = vec![T::zero(); scores.rows];
    logistic_rows(InstructionSet::detect(), scores, &mut log_partition);
}

/// −p log p − (1 − p) log(1 − p) for p = σ(θ), as a sum of positive terms: with e = e^−|θ|,
/// log(1 + e) + |θ| e/(1 + e).
fn edge_entropy<T: Real>(score: T) -> T {
    let size = score.abs();
    if size == T::infinity() {
        return T::zero();
    }
    let e = (-size).exp();
    e.ln_1p() + size * e / (T::one() + e)
}

/// KL of σ(θ) from σ(w): p log(p/π) + (1 − p) log((1 − p)/(1 − π)), each logarithm by itself, so that
/// scores of any size leave it its digits. An impossible edge differs in nothing.
fn edge_kl<T: Real>(score: T, weight: T) -> T {
    if score == T::neg_infinity() {
        return T::zero();
    }
    let (p, absent) = ((-softplus(-score)).exp(), (-softplus(score)).exp());
    let term = |p: T, of: T, from: T| if p == T::zero() { p } else { p * (from - of) };
    let kl = term(p, softplus(-score), softplus(-weight))
        + term(absent, softplus(score), softplus(weight));
    if kl < T::zero() { T::zero() } else { kl }
}

impl<T: Real> RowFold<T> for Fold<T> {
    fn fold(
        &mut self,
        mut strip: Strip<'_, T>,
        rows: Range<usize>,
        rescale: &mut [T],
        highest: Option<&mut [Candidate<T>]>,
    ) {
        rescale.fill(T::one());
        let columns = strip.scores.columns;
        for (r, row) in rows.clone().enumerate() {
            let scores = strip.scores.row(r);
            if self.wants.prior {
                self.prior[row] += match strip.weights {
                    Weights::Tile(weights) => weights.row(r).iter().map(|&w| softplus(w)).sum(),
                    _ => T::of(columns as f64) * softplus(T::zero()),
                };
            }
            if self.wants.log_ratio {
                self.log_ratio[row] += match strip.weights {
                    Weights::Tile(weights) => {
                        let pairs = scores.iter().zip(weights.row(r));
                        pairs.map(|(&score, &weight)| edge_kl(score, weight)).sum()
                    }
                    _ => scores.iter().map(|&score| edge_kl(score, T::zero())).sum(),
                };
            }
            if self.wants.log_probability {
                self.log_probability[row] -= scores.iter().map(|&x| edge_entropy(x)).sum();
            }
        }
        if let Some(highest) = highest {
            for (r, best) in highest.iter_mut().enumerate() {
                for (j, &score) in strip.block.keys.clone().zip(strip.scores.row(r)) {
                    let candidate = Candidate { score, index: strip.block.number(j) };
                    if candidate.beats(best) {
                        *best = candidate;
                    }
                }
            }
        }
        let set = InstructionSet::detect();
        if !self.log_scale.is_empty() {
            return self.fold_scaled(strip.scores, rows, rescale);
        }
        logistic_rows(set, strip.scores.reborrow(), &mut self.log_partition[rows.clone()]);
        for (r, mass) in self.mass[rows].iter_mut().enumerate() {
            *mass += strip.scores.row(r).iter().copied().sum();
        }
    }

    fn finish(mut self: Box<Self>) -> Folded<T> {
        let zeros = |list: &[T]| vec![T::zero(); list.len()];
        // A query without a possible edge has nothing to scale.
        let empty = self.log_scale.iter_mut().filter(|scale| **scale == T::neg_infinity());
        empty.for_each(|scale| *scale = T::zero());
        Folded {
            log_scale: self.log_scale,
            log_none: self.log_partition.iter().map(|&log_z| -log_z).collect(),
            prior: Normalisers { max: zeros(&self.prior), log_sum: self.prior },
            normalisers: Normalisers {
                max: zeros(&self.log_partition),
                log_sum: self.log_partition,
            },
            log_probability: self.log_probability,
            log_ratio: self.log_ratio,
            mass: self.mass,
            factor: Vec::new(),
        }
    }
}

impl<T: Real> Fold<T> {
    /// Weights relative to the largest of their row: p = e^log p by log p = −log(1 + e^−θ).
    fn fold_scaled(&mut self, mut scores: TileMut<'_, T>, rows: Range<usize>, rescale: &mut [T]) {
        for (r, row) in rows.enumerate() {
            let scores = scores.row_mut(r);
            self.log_partition[row] += scores.iter().map(|&score| softplus(score)).sum();
            scores.iter_mut().for_each(|x| *x = -softplus(-*x));
            let before = self.log_scale[row];
            let largest = scores.iter().fold(before, |most, &x| most.max(x));
            for x in scores.iter_mut() {
                *x = if *x == T::neg_infinity() { T::zero() } else { (*x - largest).exp() };
            }
            if before < largest && before > T::neg_infinity() {
                rescale[r] = (before - largest).exp();
            }
            self.log_scale[row] = largest;
            self.mass[row] = self.mass[row] * rescale[r] + scores.iter().copied().sum();
        }
    }
}

impl Logistic {
    fn fold_of<T: Real>(wants: Wants, rows: usize, scaled: bool) -> Fold<T> {
        let zeros = |wanted: bool| vec![T::zero(); if wanted { rows } else { 0 }];
        Fold {
            wants,
            log_partition: zeros(true),
            prior: zeros(wants.prior),
            log_probability: zeros(wants.log_probability),
            log_ratio: zeros(wants.log_ratio),
            mass: zeros(true),
            log_scale: vec![T::neg_infinity(); if scaled { rows } else { 0 }],
        }
    }
}

impl<T: Real> RowRule<T> for Logistic {
    fn merge(&self) -> Merge {
        Merge::Sum
    }

    fn has_many_edges(&self) -> bool {
        true
    }

    fn may_pick_none(&self) -> bool {
        true
    }

    fn fold(&self, wants: Wants, rows: usize) -> Box<dyn RowFold<T> + '_> {
        Box::new(Self::fold_of(wants, rows, false))
    }

    fn scaled_fold(&self, wants: Wants, rows: usize) -> Option<Box<dyn RowFold<T> + '_>> {
        Some(Box::new(Self::fold_of(wants, rows, true)))
    }

    fn probabilities(
        &self,
        scores: TileMut<'_, T>,
        _normalisers: LogPartition<'_, T>,
        carry: &mut [T],
    ) {
        let rows = scores.rows;
        logistic_rows(InstructionSet::detect(), scores, &mut carry[..rows]);
    }

    /// ∂L/∂θ = p ((1 − p) f + the gradient in log Z): E\[log p\] and the KL have slopes p (1 − p) θ and
    /// p (1 − p) (θ − log w), which is f with log p in the place of θ.
    fn differentiate(
        &self,
        tile: BackwardTile<'_, T>,
        slopes: RowSlopes<'_, T>,
        _carry: &mut [[T; 3]],
    ) {
        let BackwardTile { mut scores, mut quantity, quadratic, .. } = tile;
        for r in 0..scores.rows {
            if slopes.normalisers.max[r] == T::neg_infinity() {
                scores.row_mut(r).fill(T::zero());
                quantity.row_mut(r).fill(T::zero());
                continue;
            }
            let (of_log_p, of_partition) = (at(slopes.log_p, r), slopes.log_partition[r]);
            let of_partition = of_partition - at(slopes.log_none, r);
            let scale = at(slopes.log_scale, r);
            for c in 0..scores.columns {
                let score = scores.row(r)[c];
                let (log_p, absent) = (-softplus(-score), (-softplus(score)).exp());
                let (p, scaled) = (log_p.exp(), (log_p - scale).exp());
                let mut gradient = scaled;
                if scaled != T::zero() {
                    let mut f = quantity.row(r)[c];
                    if let Some(quadratic) = &quadratic {
                        f += (T::one() - p - p) * quadratic.row(r)[c];
                    }
                    gradient = if absent == T::zero() { absent } else { scaled * absent * f };
                    if of_log_p != T::zero() && p != T::zero() && absent != T::zero() {
                        gradient += p * absent * of_log_p * score;
                    }
                    gradient += p * of_partition;
                }
                scores.row_mut(r)[c] = gradient;
                quantity.row_mut(r)[c] = scaled;
            }
        }
    }

    fn log_probability(&self, score: T, _max: T, _log_sum: T) -> Option<T> {
        Some(-softplus(-score))
    }
}
