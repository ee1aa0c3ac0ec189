//! Special functions the priors need.

use crate::Real;

/// log(e^a + e^b).
pub(crate) fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if high == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// log(1 + e^x).
pub(crate) fn softplus<T: Real>(x: T) -> T {
    x.max(T::zero()) + (-x.abs()).exp().ln_1p()
}

/// log Γ(x) for x > 0.
pub fn ln_gamma(x: f64) -> f64 {
    libm::lgamma(x)
}

/// log B(a, b) = log Γ(a) + log Γ(b) − log Γ(a + b) for a, b > 0.
///
/// When one argument is large the leading terms cancel; there the difference of the two large
/// log Γ is taken inside Stirling's formula instead, so that B(α + 1, β + d) keeps its digits at
/// d in the millions.
pub fn ln_beta(a: f64, b: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    if large < 10.0 {
        return ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
    }
    // log Γ(L) − log Γ(L + s) = −(L − ½) log(1 + s/L) − s log(L + s) + s + tail(L) − tail(L + s)
    let tail = |x: f64| {
        let square = 1.0 / (x * x);
        (1.0 / 12.0
            + square
                * (-1.0 / 360.0
                    + square
                        * (1.0 / 1260.0
                            + square
                                * (-1.0 / 1680.0
                                    + square * (1.0 / 1188.0 - square * 691.0 / 360_360.0)))))
            / x
    };
    let ratio = -(large - 0.5) * (small / large).ln_1p() - small * (large + small).ln() + small;
    ln_gamma(small) + ratio + tail(large) - tail(large + small)
}

/// ψ₀(x) = d log Γ(x)/dx for x > 0 (Abramowitz & Stegun 6.3.18, shifted up to x ≥ 10).
pub fn digamma(mut x: f64) -> f64 {
    const SERIES: [f64; 7] = [
        1.0 / 12.0,
        -1.0 / 120.0,
        1.0 / 252.0,
        -1.0 / 240.0,
        1.0 / 132.0,
        -691.0 / 32_760.0,
        1.0 / 12.0,
    ];
    let mut below = 0.0;
    while x < 10.0 {
        below += 1.0 / x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let tail = SERIES.iter().rev().fold(0.0, |sum, c| (sum + c) * square);
    x.ln() - 0.5 / x - tail - below
}

/// B_2k/x^(2k) summed: what the asymptotic series of ψ₀ has behind log x − 1/(2x), negated.
fn digamma_tail(x: f64) -> f64 {
    let square = 1.0 / (x * x);
    square
        * (1.0 / 12.0
            + square
                * (-1.0 / 120.0
                    + square
                        * (1.0 / 252.0
                            + square
                                * (-1.0 / 240.0
                                    + square * (1.0 / 132.0 - square * 691.0 / 32_760.0)))))
}

/// ψ₀(x + s) − ψ₀(x) for x, s > 0, to full relative precision: at x in the millions the two differ
/// by less than either's last digits.
pub fn digamma_rise(mut x: f64, s: f64) -> f64 {
    let mut sum = 0.0;
    while x < 15.0 {
        sum += s / (x * (x + s));
        x += 1.0;
    }
    sum + (s / x).ln_1p() + 0.5 * s / (x * (x + s)) + digamma_tail(x) - digamma_tail(x + s)
}

/// ψ₁(x) = dψ₀(x)/dx for x > 0 (Abramowitz & Stegun 6.4.12, shifted up to x ≥ 15).
pub fn trigamma(mut x: f64) -> f64 {
    let mut sum = 0.0;
    while x < 15.0 {
        sum += 1.0 / (x * x);
        x += 1.0;
    }
    sum + 1.0 / x + 0.5 / (x * x) + trigamma_tail(x)
}

/// Tail of the asymptotic series of ψ₁, behind 1/x + 1/(2x²).
fn trigamma_tail(x: f64) -> f64 {
    let square = 1.0 / (x * x);
    square / x
        * (1.0 / 6.0
            + square
                * (-1.0 / 30.0
                    + square
                        * (1.0 / 42.0
                            + square
                                * (-1.0 / 30.0 + square * (5.0 / 66.0 - square * 691.0 / 2730.0)))))
}

/// ψ₁(x) − ψ₁(x + s) for x, s > 0, to full relative precision.
pub fn trigamma_fall(mut x: f64, s: f64) -> f64 {
    let mut sum = 0.0;
    while x < 15.0 {
        let above = x + s;
        sum += s * (x + above) / (x * x * above * above);
        x += 1.0;
    }
    let above = x + s;
    let first = s / (x * above);
    let second = 0.5 * s * (x + above) / (x * x * above * above);
    sum + first + second + trigamma_tail(x) - trigamma_tail(above)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Closed forms: ψ₀(x + n) − ψ₀(x) = Σ_k 1/(x + k), and likewise with squares for ψ₁;
    /// ψ₁(1) = π²/6, ψ₁(½) = π²/2.
    #[test]
    fn rises_keep_their_digits_far_out() {
        for x in [1e-3, 0.4, 1.0, 7.7, 14.9, 15.1, 300.0, 1e6, 1e9] {
            for n in [1u32, 2, 5, 40] {
                // Smallest terms first.
                let terms =
                    |f: fn(f64) -> f64| -> f64 { (0..n).rev().map(|k| f(x + f64::from(k))).sum() };
                let (one, two) = (terms(|y| 1.0 / y), terms(|y| 1.0 / (y * y)));
                let got = digamma_rise(x, f64::from(n));
                assert!((got / one - 1.0).abs() < 4e-15, "{x} {n}: {got} {one}");
                let got = trigamma_fall(x, f64::from(n));
                assert!((got / two - 1.0).abs() < 8e-15, "{x} {n}: {got} {two}");
            }
            let step = trigamma(x) - trigamma(x + 0.3) - trigamma_fall(x, 0.3);
            assert!(step.abs() < 4e-15 * trigamma(x), "{x}: {step}");
        }
        let square = std::f64::consts::PI.powi(2);
        assert!((trigamma(1.0) - square / 6.0).abs() < 1e-15);
        assert!((trigamma(0.5) - square / 2.0).abs() < 4e-15);
    }

    /// Values to 17 digits from closed forms: factorials, √π, Euler's constant.
    #[test]
    fn closed_forms() {
        let mut factorial = 0.0;
        for n in 1..170u32 {
            let got = ln_gamma(f64::from(n));
            assert!((got - factorial).abs() <= 2e-15 * f64::max(1.0, factorial), "{n}: {got}");
            factorial += f64::from(n).ln();
        }
        let half = 0.5 * std::f64::consts::PI.ln();
        assert!((ln_gamma(0.5) - half).abs() < 1e-15);
        let euler = 0.577_215_664_901_532_9;
        assert!((digamma(1.0) + euler).abs() < 2e-15);
        assert!((digamma(0.5) + euler + 2.0 * 2f64.ln()).abs() < 4e-15);
        let harmonic: f64 = (1..50).map(|n| 1.0 / f64::from(n)).sum();
        assert!((digamma(50.0) - (harmonic - euler)).abs() < 4e-15);
    }

    /// B(1, b) = 1/b, B(2, b) = 1/(b(b+1)), symmetric, and the recurrence B(a+1, b) = B(a, b) a/(a+b).
    #[test]
    fn beta_keeps_its_digits_far_out() {
        for b in [0.3, 1.0, 9.9, 10.1, 1e3, 1e6, 1e9] {
            assert!(
                (ln_beta(1.0, b) + f64::ln(b)).abs() < 1e-14 * f64::max(1.0, f64::ln(b).abs()),
                "{b}"
            );
            let two = -(b.ln() + (b + 1.0).ln());
            assert!((ln_beta(b, 2.0) - two).abs() < 2e-14 * two.abs().max(1.0), "{b}");
            for a in [0.2, 3.7, 25.0] {
                let step = ln_beta(a + 1.0, b) - ln_beta(a, b) - (a / (a + b)).ln();
                assert!(step.abs() < 1e-13 * ln_beta(a, b).abs().max(1.0), "{a} {b}: {step}");
            }
        }
    }
}
