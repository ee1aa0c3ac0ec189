//! Upstream gradients turned into what the tiles multiply by.

use std::borrow::Cow;

use marginals_kernels::{InstructionSet, Tile, dot_rows};
use ndarray::{ArrayView, Dimension};
use rayon::prelude::*;

use super::super::request::Request;
use super::super::second_pass;
use super::super::summary::Summary;
use super::Upstream;
use crate::model::{self, structure::Factorisation};
use crate::{Posterior, Real, Shape, Value};

/// Adds to `request` what the backward pass of `upstream` reads from the summary. Returns whether
/// anything was missing.
pub(crate) fn needs<T: Real>(request: &mut Request<'_, T>, upstream: &Upstream<'_, T>) -> bool {
    let variance = upstream.value_variance.is_some();
    let values = upstream.mean.is_some() || variance;
    let mut missing = false;
    let mut want = |flag: &mut bool, wanted: bool| {
        missing |= wanted && !*flag;
        *flag |= wanted;
    };
    want(&mut request.mean, values);
    want(&mut request.second_moment, variance);
    want(&mut request.entropy, upstream.entropy.is_some() || upstream.kl.is_some());
    want(&mut request.expected_log_weight, upstream.kl.is_some());
    want(
        &mut request.prior_log_partition,
        upstream.kl.is_some() || upstream.log_evidence.is_some(),
    );
    want(&mut request.distance, upstream.expected_distance.is_some());
    missing |= upstream.expected_of.is_some() && request.functions.is_none();
    missing
}

/// What tiles multiply by, flat; factor coefficients over [B, H, factors], query coefficients over
/// [B, H, N] and [B, H, N, D_v].
pub(super) struct Coefficients<'a, T: Clone> {
    /// On log p in f: −entropy's + KL's. By factor; empty when neither was asked.
    pub log_p: Vec<T>,
    /// On the log-partition and the log-evidence together: what multiplies p itself. By factor.
    pub partition: Vec<T>,
    /// KL's, on −log w in f. By factor; empty when not asked.
    pub kl: Vec<T>,
    /// What multiplies the prior's own marginals π: KL's − evidence's. By factor; empty likewise.
    pub prior: Vec<T>,
    /// On v. By query and coordinate; empty when no value was asked.
    pub mean: Cow<'a, [T]>,
    /// On v². The same; empty when no variance was asked.
    pub second: Cow<'a, [T]>,
    /// On |i − j|. By query; empty when not asked.
    pub distance: Vec<T>,
    /// On the edge functions. By query and function; empty when not asked.
    pub functions: Vec<T>,
    /// On p itself: the query mass's own, and what comes through the mass that an average is divided
    /// by. By query; empty when there is neither.
    pub mass: Vec<T>,
    /// On the column mass, [B, H, M]; empty when not asked.
    pub column: Vec<T>,
    /// E_i[f] of queries that choose, less `partition` and `mass`: what is subtracted from f in a
    /// row. Empty elsewhere.
    pub centre: Vec<T>,
    /// E_i[f] alone.
    expected: Vec<T>,
}

/// The entries in order; those of an answer's size are borrowed where they lie so.
fn flat<T: Real, D: Dimension>(array: Option<ArrayView<'_, T, D>>) -> Cow<'_, [T]> {
    let Some(array) = array else { return Cow::Borrowed(&[]) };
    match array.to_slice() {
        Some(slice) => Cow::Borrowed(slice),
        None => Cow::Owned(array.iter().copied().collect()),
    }
}

/// Entry of a vector that is empty when its question was not asked.
fn at<T: Real>(values: &[T], index: usize) -> T {
    values.get(index).copied().unwrap_or(T::zero())
}

/// `sums[i] += Σ_c weights[i, c] · values[i, c]`, by every thread.
fn add_dots<T: Real>(weights: &[T], values: &[T], width: usize, sums: &mut [T]) {
    const ROWS: usize = 512;
    let set = InstructionSet::detect();
    let size = ROWS * width.max(1);
    let rows = weights.par_chunks(size).zip(values.par_chunks(size));
    sums.par_chunks_mut(ROWS).zip(rows).for_each(|(sums, (weights, values))| {
        let tile = |data| Tile::new(data, sums.len(), width, width);
        let (weights, values) = (tile(weights), tile(values));
        dot_rows(set, weights, values, sums);
    });
}

impl<'a, T: Real> Coefficients<'a, T> {
    pub fn new(
        posterior: &Posterior<'_, T>,
        summary: &Summary<T>,
        upstream: &Upstream<'a, T>,
        width: usize,
    ) -> Self {
        let shape = &posterior.shape;
        let factors = summary.log_partition.len();
        let queries = shape.batch * shape.heads * shape.queries;
        let choosing = matches!(posterior.factorisation, Factorisation::PerQuery { .. });

        let entropy = flat(upstream.entropy);
        let kl = flat(upstream.kl).into_owned();
        let evidence = flat(upstream.log_evidence);
        let log_partition = flat(upstream.log_partition);
        let over = |n: usize, asked: bool, f: &dyn Fn(usize) -> T| -> Vec<T> {
            if asked { (0..n).map(f).collect() } else { Vec::new() }
        };
        let asked = |list: &[T]| !list.is_empty();
        let log_p = over(factors, asked(&entropy) || asked(&kl), &|r| at(&kl, r) - at(&entropy, r));
        let partition = over(factors, true, &|r| at(&log_partition, r) + at(&evidence, r));
        let prior =
            over(factors, asked(&kl) || asked(&evidence), &|r| at(&kl, r) - at(&evidence, r));

        // An average is a gathered sum over the mass: g/m on the sum, and the rest on the mass.
        let mut mean = flat(upstream.mean);
        let mut second = flat(upstream.value_variance);
        let mut mass = flat(upstream.query_mass).into_owned();
        if posterior.value == Value::Average && (asked(&mean) || asked(&second)) {
            mass.resize(queries, T::zero());
            let (mean, second) = (mean.to_mut(), second.to_mut());
            for (i, through) in mass.iter_mut().enumerate() {
                let m = summary.mass[i];
                if m == T::zero() {
                    mean.iter_mut().skip(i * width).take(width).for_each(|g| *g = T::zero());
                    second.iter_mut().skip(i * width).take(width).for_each(|g| *g = T::zero());
                    continue;
                }
                for c in i * width..(i + 1) * width {
                    if let Some(g) = mean.get_mut(c) {
                        *g /= m;
                        *through -= *g * summary.mean[c] / m;
                    }
                    if let Some(g) = second.get_mut(c) {
                        let variance = match choosing {
                            true => summary.second[c] - summary.mean[c] * summary.mean[c],
                            false => summary.second[c],
                        };
                        // The square of a small mass is 0 long before the mass is.
                        *g = *g / m / m;
                        *through -= (*g + *g) * variance / m;
                    }
                }
            }
        }
        // Var = E[v²] − E[v]² where a query has one edge: the second term is linear in p too.
        if choosing && asked(&second) {
            let mean = mean.to_mut();
            mean.resize(queries * width, T::zero());
            for (c, g) in mean.iter_mut().enumerate() {
                *g -= (second[c] + second[c]) * summary.mean[c];
            }
        }
        let distance = flat(upstream.expected_distance).into_owned();
        let functions = flat(upstream.expected_of).into_owned();
        let count = functions.len() / queries.max(1);
        let column = flat(upstream.column_mass).into_owned();

        let mut expected = Vec::new();
        let mut centre = Vec::new();
        if choosing {
            expected = match upstream.column_mass {
                Some(weights) => second_pass::expected_over_keys(posterior, summary, weights),
                None => vec![T::zero(); queries],
            };
            for (weights, values) in [(&mean, &summary.mean), (&second, &summary.second)] {
                if asked(weights) {
                    add_dots(weights, values, width, &mut expected);
                }
            }
            for (i, expected) in expected.iter_mut().enumerate() {
                let mut sum = *expected;
                sum += at(&distance, i) * at(&summary.distance, i);
                for c in i * count..(i + 1) * count {
                    sum += at(&functions, c) * at(&summary.functions, c);
                }
                sum += at(&mass, i) * at(&summary.mass, i);
                // E[log p] = −entropy.
                sum -= at(&log_p, i) * at(&summary.entropy, i);
                sum -= at(&kl, i) * at(&summary.expected_log_weight, i);
                *expected = sum;
            }
            centre = over(queries, true, &|i| expected[i] - partition[i] - at(&mass, i));
        }
        Self {
            log_p,
            partition,
            kl,
            prior,
            mean,
            second,
            distance,
            functions,
            mass,
            column,
            centre,
            expected,
        }
    }

    /// Gradient of the null log-weight: that of an edge whose log-potential is 0.
    pub fn null_gradient(&self, shape: &Shape, summary: &Summary<T>, null: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; null.len()];
        for i in 0..summary.log_partition.len() {
            let head = i / shape.queries.max(1) % shape.heads;
            let weight = model::of_head(null, head);
            if weight == f64::NEG_INFINITY {
                continue;
            }
            let log_p = summary.normalisers.log_p(i, T::of(weight)).f64();
            let p = log_p.exp();
            let f = at(&self.log_p, i).f64() * log_p - at(&self.kl, i).f64() * weight;
            let mut gradient = p * (f - self.expected[i].f64() + self.partition[i].f64());
            if !self.prior.is_empty() {
                let pi = (weight - summary.prior_log_partition[i].f64()).exp();
                gradient += self.prior[i].f64() * pi - at(&self.kl, i).f64() * p;
            }
            sum[model::head_index(null.len(), head)] += gradient;
        }
        sum
    }
}
