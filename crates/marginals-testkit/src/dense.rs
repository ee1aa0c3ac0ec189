//! The textbook formulas on the full N×M matrix, for sizes beyond enumeration.
//!
//! Written for reading: softmax with the maximum subtracted, softplus, and the closed forms of
//! exponential families (entropy = log Z − E\[θ\], KL = E\[log ψ\] − evidence), none of which
//! [`crate::enumerate`] uses. Generic over the number type: in f32 it is the plain arithmetic that a
//! streaming pass is compared with. O(N·M) memory, O(N·M·(d_v + log M)) time.

use ndarray::{Array1, Array2, NdFloat};

use crate::{Answers, Head, Structure, ValueKind, distance};

/// Every answer of one head.
pub fn answer<T: NdFloat>(head: &Head<T>) -> Answers<T> {
    let mut out = Answers::degenerate(head);
    match head.structure {
        Structure::Independent => independent(head, &mut out),
        _ => (0..head.factors()).for_each(|factor| categorical(head, factor, &mut out)),
    }
    values(head, &mut out);
    for ((i, j), &p) in out.marginals.indexed_iter() {
        let steps = T::from(distance(i, j, head.query_offset)).expect("a distance is a number");
        out.column_mass[j] += p;
        out.expected_distance[i] += p * steps;
    }
    if head.value_kind == ValueKind::Average {
        out.average();
    }
    out
}

/// One softmax: over the keys of query `factor` (and the null edge), or the queries of key `factor`.
fn categorical<T: NdFloat>(head: &Head<T>, factor: usize, out: &mut Answers<T>) {
    let by_key = head.structure == Structure::EachKeyPicksOne;
    let site = |c: usize| if by_key { [c, factor] } else { [factor, c] };
    let count = if by_key { head.queries() } else { head.keys() };
    let mut theta: Vec<T> = (0..count).map(|c| head.theta(site(c)[0], site(c)[1])).collect();
    let mut log_weight: Vec<T> = (0..count).map(|c| head.log_weight[site(c)]).collect();
    if head.structure == Structure::EachQueryPicksAtMostOne {
        theta.push(head.null_log_weight);
        log_weight.push(head.null_log_weight);
    }
    let log_partition = log_sum_exp(&theta);
    out.log_partition[factor] = log_partition;
    if log_partition == T::neg_infinity() {
        return;
    }
    out.log_evidence[factor] = log_partition - log_sum_exp(&log_weight);
    // Normalised by the sum itself: exp(θ − log Z) would carry the rounding of a large log Z into
    // every probability.
    let max = theta.iter().copied().fold(T::neg_infinity(), T::max);
    let sum = theta.iter().fold(T::zero(), |sum, &x| sum + (x - max).exp());
    let p: Vec<T> = theta.iter().map(|&x| (x - max).exp() / sum).collect();
    let mut expected_potential = T::zero();
    for c in 0..theta.len() {
        if theta[c] == T::neg_infinity() {
            continue;
        }
        out.entropy[factor] -= p[c] * (theta[c] - max - sum.ln());
        if c < count {
            out.marginals[site(c)] = p[c];
            expected_potential += p[c] * head.log_potential[site(c)];
        }
    }
    out.kl[factor] = expected_potential - out.log_evidence[factor];
    let index = |c: usize| if c == count { -1 } else { c as i64 };
    out.ranking[factor] = ranked((0..theta.len()).map(|c| (index(c), theta[c], p[c])));
}

/// Logistic edges, each on its own.
fn independent<T: NdFloat>(head: &Head<T>, out: &mut Answers<T>) {
    for i in 0..head.queries() {
        let (mut partition, mut prior_partition) = (T::zero(), T::zero());
        let mut choices = Vec::new();
        for j in 0..head.keys() {
            prior_partition += softplus(head.log_weight[[i, j]]);
            let theta = head.theta(i, j);
            if theta == T::neg_infinity() {
                continue;
            }
            let p = logistic(theta);
            out.marginals[[i, j]] = p;
            partition += softplus(theta);
            // Both halves of the binary entropy in the form that keeps small numbers.
            out.entropy[i] += softplus(-theta.abs()) + theta.abs() * logistic(-theta.abs());
            out.kl[i] += p * head.log_potential[[i, j]];
            choices.push((j as i64, theta, p));
        }
        out.log_partition[i] = partition;
        out.log_evidence[i] = partition - prior_partition;
        out.kl[i] -= out.log_evidence[i];
        out.ranking[i] = ranked(choices.into_iter());
    }
}

/// E\[v\] and Var\[v\] of the gathered value from the marginals.
fn values<T: NdFloat>(head: &Head<T>, out: &mut Answers<T>) {
    let one_edge =
        matches!(head.structure, Structure::EachQueryPicksOne | Structure::EachQueryPicksAtMostOne);
    out.mean = out.marginals.dot(&head.value);
    if one_edge {
        // Σ p (v − E v)², and the deviation of "no edge" where that has probability.
        for i in 0..head.queries() {
            let no_edge = match head.structure {
                Structure::EachQueryPicksAtMostOne if head.null_log_weight > T::neg_infinity() => {
                    (head.null_log_weight - out.log_partition[i]).exp()
                }
                _ => T::zero(),
            };
            for c in 0..head.value.ncols() {
                let mean = out.mean[[i, c]];
                let mut variance = no_edge * mean * mean;
                for j in 0..head.keys() {
                    let deviation = head.value[[j, c]] - mean;
                    variance += out.marginals[[i, j]] * deviation * deviation;
                }
                out.value_variance[[i, c]] = variance;
            }
        }
    } else {
        // A query's edges are independent: Σ p (1 − p) v².
        let spread = Array2::from_shape_fn(out.marginals.dim(), |(i, j)| {
            let p = out.marginals[[i, j]];
            let complement = match head.structure {
                Structure::Independent => logistic(-head.theta(i, j)),
                _ => T::one() - p,
            };
            if p == T::zero() { T::zero() } else { p * complement }
        });
        out.value_variance = spread.dot(&head.value.mapv(|v| v * v));
    }
}

/// Orders (index, θ, p) by θ, ties by index.
fn ranked<T: NdFloat>(choices: impl Iterator<Item = (i64, T, T)>) -> Vec<(i64, T)> {
    let mut choices: Vec<_> = choices.filter(|c| c.1 > T::neg_infinity()).collect();
    choices.sort_by(|a, b| b.1.partial_cmp(&a.1).expect("scores are numbers").then(a.0.cmp(&b.0)));
    choices.into_iter().map(|(index, _, p)| (index, p)).collect()
}

fn log_sum_exp<T: NdFloat>(x: &[T]) -> T {
    let max = x.iter().copied().fold(T::neg_infinity(), T::max);
    if max == T::neg_infinity() {
        return max;
    }
    max + x.iter().map(|&x| (x - max).exp()).fold(T::zero(), |a, b| a + b).ln()
}

/// log(1 + eˣ).
fn softplus<T: NdFloat>(x: T) -> T {
    x.max(T::zero()) + (-x.abs()).exp().ln_1p()
}

/// 1 / (1 + e⁻ˣ), by the side that does not overflow.
fn logistic<T: NdFloat>(x: T) -> T {
    if x >= T::zero() { T::one() / (T::one() + (-x).exp()) } else { x.exp() / (T::one() + x.exp()) }
}

/// −E_p[log p′(φ)] per factor, from the closed form of the structure.
pub fn cross_entropy(p: &Head, other: &Head) -> Array1<f64> {
    let (a, b) = (answer(p), answer(other));
    let mut out = Array1::zeros(p.factors());
    for ((i, j), &edge) in a.marginals.indexed_iter() {
        let factor = if p.structure == Structure::EachKeyPicksOne { j } else { i };
        if edge > 0.0 {
            out[factor] -= edge * other.theta(i, j);
        }
    }
    for f in 0..out.len() {
        if a.log_partition[f] == f64::NEG_INFINITY {
            continue;
        }
        if b.log_partition[f] == f64::NEG_INFINITY {
            out[f] = f64::INFINITY;
            continue;
        }
        out[f] += b.log_partition[f];
        if p.structure == Structure::EachQueryPicksAtMostOne {
            let null = (p.null_log_weight - a.log_partition[f]).exp();
            if null > 0.0 {
                out[f] -= null * other.null_log_weight;
            }
        }
    }
    out
}
