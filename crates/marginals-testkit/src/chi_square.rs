//! Whether counts follow a distribution: Pearson's chi-square test.

/// The probability that counts this far from `expected` or further arise by chance.
///
/// X² = Σ (observed − expected)² / expected over cells; cells with fewer than 5 expected are pooled,
/// as the approximation asks. `probabilities` sum to 1. A count where the probability is 0 gives 0.
///
/// The tail of the χ² distribution is Q(k/2, X²/2), the regularised upper incomplete gamma function.
pub fn p_value(observed: &[u64], probabilities: &[f64]) -> f64 {
    assert_eq!(observed.len(), probabilities.len(), "cells observed and expected");
    if observed.iter().zip(probabilities).any(|(&o, &p)| o > 0 && p == 0.0) {
        return 0.0;
    }
    let total: u64 = observed.iter().sum();
    let (mut cells, mut statistic, mut pool) = (0, 0.0, (0.0, 0.0));
    for (&o, &p) in observed.iter().zip(probabilities) {
        let (o, e) = (o as f64, p * total as f64);
        if e < 5.0 {
            pool = (pool.0 + o, pool.1 + e);
        } else {
            cells += 1;
            statistic += (o - e) * (o - e) / e;
        }
    }
    if pool.1 >= 1.0 {
        cells += 1;
        statistic += (pool.0 - pool.1) * (pool.0 - pool.1) / pool.1;
    }
    if cells < 2 {
        return 1.0;
    }
    upper_gamma(f64::from(cells - 1) / 2.0, statistic / 2.0)
}

/// Q(a, x) for a a positive multiple of ½: start from Q(½, x) = erfc(√x) or Q(1, x) = e⁻ˣ and climb
/// by Q(a + 1, x) = Q(a, x) + xᵃ e⁻ˣ / Γ(a + 1).
fn upper_gamma(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let half = (a.fract() - 0.5).abs() < 1e-9;
    // (current a, Q, log Γ(a + 1))
    let (mut at, mut q, mut log_gamma) = if half {
        (0.5, erfc(x.sqrt()), 0.5 * std::f64::consts::PI.ln() - 2f64.ln())
    } else {
        (1.0, (-x).exp(), 0.0)
    };
    while at + 0.5 < a {
        q += (at * x.ln() - x - log_gamma).exp();
        at += 1.0;
        log_gamma += at.ln();
    }
    q.min(1.0)
}

/// 1 − erf(x) for x ≥ 0: the series of erf below 2, the continued fraction of Laplace above.
fn erfc(x: f64) -> f64 {
    let scale = (-x * x).exp() / std::f64::consts::PI.sqrt();
    if x < 2.0 {
        // erf(x) = 2/√π e^{−x²} Σ 2ⁿ x^{2n+1} / (2n+1)!!
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term > 1e-18 * sum && n < 200.0 {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        1.0 - 2.0 * scale * sum
    } else {
        let fraction = (1..60).rev().fold(x, |tail, k| x + f64::from(k) / 2.0 / tail);
        scale / fraction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles printed in every table of the χ² distribution.
    #[test]
    fn tails_match_the_tables() {
        for (freedom, x, p) in [
            (1.0, 3.841459, 0.05),
            (2.0, 5.991465, 0.05),
            (5.0, 15.08627, 0.01),
            (10.0, 29.58830, 0.001),
            (1.0, 10.82757, 0.001),
        ] {
            let q = upper_gamma(freedom / 2.0, x / 2.0);
            assert!((q - p).abs() < 1e-6 * p + 1e-8, "{freedom} degrees at {x}: {q}, not {p}");
        }
    }

    #[test]
    fn fair_and_loaded_dice() {
        assert!(p_value(&[1003, 1010, 985, 1000, 990, 1012], &[1.0 / 6.0; 6]) > 0.5);
        assert!(p_value(&[1103, 1010, 985, 1000, 890, 1012], &[1.0 / 6.0; 6]) < 1e-3);
        assert_eq!(p_value(&[5, 1], &[1.0, 0.0]), 0.0);
    }
}
