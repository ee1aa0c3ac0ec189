//! Expanding attention of one query, from its definition.
//!
//! φ is one of the keys at or behind the query, ρ ~ Beta(α, β), and the joint weight of (φ = j, ρ) is
//! Beta(ρ; α, β) ρ (1 − ρ)^d_j ψ_j. Three routes that share nothing: sums over keys with the
//! weights as running products ([`by_enumeration`]), integrals over ρ by quadrature
//! ([`by_quadrature`]), and the mean field by coordinate ascent ([`MeanField`]) whose expectations
//! are integrals too.

/// One query: what it may pick from, and what is known of its ρ.
#[derive(Clone, Debug)]
pub struct Query {
    /// α > 0.
    pub alpha: f64,
    /// β > 0.
    pub beta: f64,
    /// How far behind the query each key lies.
    pub distance: Vec<f64>,
    /// log ψ of each key.
    pub log_potential: Vec<f64>,
}

/// The exact posterior of one query.
#[derive(Clone, Debug)]
pub struct Exact {
    /// p_j.
    pub marginals: Vec<f64>,
    /// log Σ_j w_j ψ_j, in nats.
    pub log_evidence: f64,
    /// E\[ρ\].
    pub rho_mean: f64,
    /// Var\[ρ\].
    pub rho_variance: f64,
}

/// log Σ e^x.
pub fn log_sum(x: &[f64]) -> f64 {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let log_z = log_sum(x);
    x.iter().map(|x| (x - log_z).exp()).collect()
}

/// log of E[ρ (1 − ρ)^d] for d = 0..=farthest: α/(α + β) at first, and from each distance to the
/// next (β + d)/(α + β + 1 + d).
pub fn log_weights(alpha: f64, beta: f64, farthest: usize) -> Vec<f64> {
    let mut weight = (alpha / (alpha + beta)).ln();
    (0..=farthest)
        .map(|d| {
            let own = weight;
            let d = d as f64;
            weight += ((beta + d) / (alpha + beta + 1.0 + d)).ln();
            own
        })
        .collect()
}

/// Sums over the keys; given the key ρ is Beta(α + 1, β + d).
pub fn by_enumeration(query: &Query) -> Exact {
    let &Query { alpha, beta, .. } = query;
    let farthest = query.distance.iter().copied().fold(0.0, f64::max) as usize;
    let weights = log_weights(alpha, beta, farthest);
    let pairs = query.distance.iter().zip(&query.log_potential);
    let scores: Vec<f64> = pairs.map(|(&d, s)| weights[d as usize] + s).collect();
    let marginals = softmax(&scores);
    let average = |f: &dyn Fn(f64) -> f64| -> f64 {
        marginals.iter().zip(&query.distance).map(|(p, &d)| p * f(d)).sum()
    };
    let mean = |d: f64| (alpha + 1.0) / (alpha + beta + 1.0 + d);
    let rho_mean = average(&mean);
    // The law of total variance.
    let within = |d: f64| mean(d) * (1.0 - mean(d)) / (alpha + beta + 2.0 + d);
    let rho_variance = average(&within) + average(&|d| (mean(d) - rho_mean).powi(2));
    Exact { log_evidence: log_sum(&scores), rho_mean, rho_variance, marginals }
}

/// Nodes of an integral over ρ in (0, 1): log ρ, log(1 − ρ) and the log of dρ/(ρ (1 − ρ)).
///
/// Tanh-sinh (Takahasi & Mori 1974): ρ = 1/(1 + e^(−π sinh t)), trapezoids in t. Powers of ρ and
/// 1 − ρ at the ends, however small, are harmless.
pub fn nodes() -> Vec<(f64, f64, f64)> {
    const STEP: f64 = 1.0 / 96.0;
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    (-680..=680)
        .map(|n| {
            let t = f64::from(n) * STEP;
            let logit = std::f64::consts::PI * t.sinh();
            let log_step = (STEP * std::f64::consts::PI * t.cosh()).ln();
            (-softplus(-logit), -softplus(logit), log_step)
        })
        .collect()
}

/// Integrals over ρ by quadrature, those that normalise Beta(α, β) included: no special function.
pub fn by_quadrature(query: &Query) -> Exact {
    let nodes = nodes();
    let &Query { alpha, beta, .. } = query;
    // log ∫ ρ^(a − 1) (1 − ρ)^(b − 1) dρ.
    let integral = |a: f64, b: f64| {
        log_sum(&nodes.iter().map(|(r, c, step)| a * r + b * c + step).collect::<Vec<_>>())
    };
    let prior = integral(alpha, beta);
    let scores = |power: f64| -> Vec<f64> {
        let pairs = query.distance.iter().zip(&query.log_potential);
        pairs.map(|(d, s)| integral(alpha + power, beta + d) - prior + s).collect()
    };
    let all = scores(1.0);
    let log_evidence = log_sum(&all);
    let rho_mean = (log_sum(&scores(2.0)) - log_evidence).exp();
    let rho_square = (log_sum(&scores(3.0)) - log_evidence).exp();
    let rho_variance = rho_square - rho_mean * rho_mean;
    Exact { marginals: softmax(&all), log_evidence, rho_mean, rho_variance }
}

/// log p(ρ | x), from the joint weight.
pub fn log_density(query: &Query, rho: f64) -> f64 {
    let &Query { alpha, beta, .. } = query;
    let joint = |log_rho: f64, log_rest: f64| {
        let pairs = query.distance.iter().zip(&query.log_potential);
        let keys: Vec<f64> = pairs.map(|(d, s)| s + d * log_rest).collect();
        alpha * log_rho + (beta - 1.0) * log_rest + log_sum(&keys)
    };
    // The nodes' measure has 1/(ρ (1 − ρ)) in it.
    let all: Vec<f64> = nodes().iter().map(|&(r, c, step)| joint(r, c) + r + c + step).collect();
    joint(rho.ln(), (-rho).ln_1p()) - log_sum(&all)
}

/// ψ₀(x): shifted to x ≥ 40, where five terms of the asymptotic series are exact in f64.
pub fn digamma(mut x: f64) -> f64 {
    let mut below = 0.0;
    while x < 40.0 {
        below -= 1.0 / x;
        x += 1.0;
    }
    let y = x.powi(-2);
    below + x.ln() - 0.5 / x - y / 12.0 + y * y / 120.0 - y * y * y / 252.0 + y.powi(4) / 240.0
}

/// The mean field q(φ) q(ρ), q(ρ) = Beta(α + 1, β′), as dense vectors.
#[derive(Clone, Debug)]
pub struct MeanField {
    /// β′.
    pub after: f64,
    /// q(φ = j), the best one given q(ρ).
    pub marginals: Vec<f64>,
    /// E_q\[d\].
    pub distance: f64,
}

impl MeanField {
    /// q(ρ) with this β′, and the best q(φ).
    pub fn at(query: &Query, after: f64) -> Self {
        let log_rest = digamma(after) - digamma(query.alpha + 1.0 + after);
        Self::given(query, after, log_rest)
    }

    /// The same with E[log(1 − ρ)] by quadrature.
    pub fn at_by_quadrature(query: &Query, after: f64) -> Self {
        let (_, log_rest, _) = expectations(query.alpha + 1.0, after, |_, _| 0.0);
        Self::given(query, after, log_rest)
    }

    fn given(query: &Query, after: f64, log_rest: f64) -> Self {
        let pairs = query.distance.iter().zip(&query.log_potential);
        let scores: Vec<f64> = pairs.map(|(d, s)| s + d * log_rest).collect();
        let marginals = softmax(&scores);
        let distance = marginals.iter().zip(&query.distance).map(|(p, d)| p * d).sum();
        Self { after, marginals, distance }
    }

    /// The β′ that is best given q(φ).
    pub fn next(&self, query: &Query) -> f64 {
        query.beta + self.distance
    }

    /// E_q[log p(φ, ρ, x)] − E_q[log q], term by term as it is defined.
    pub fn bound(&self, query: &Query) -> f64 {
        let &Query { alpha, beta, .. } = query;
        let nodes = nodes();
        let log_beta = |a: f64, b: f64| {
            log_sum(&nodes.iter().map(|(r, c, step)| a * r + b * c + step).collect::<Vec<_>>())
        };
        let (prior, own) = (log_beta(alpha, beta), log_beta(alpha + 1.0, self.after));
        let after = self.after;
        let (log_rho, log_rest, divergence) = expectations(alpha + 1.0, after, |r, c| {
            let log_p = (alpha - 1.0) * r + (beta - 1.0) * c - prior;
            let log_q = alpha * r + (after - 1.0) * c - own;
            log_p - log_q
        });
        let content: f64 = self
            .marginals
            .iter()
            .zip(&query.log_potential)
            .filter(|(p, _)| **p > 0.0)
            .map(|(p, s)| p * (s - p.ln()))
            .sum();
        divergence + log_rho + self.distance * log_rest + content
    }
}

/// E[log ρ], E[log(1 − ρ)] and E[f(log ρ, log(1 − ρ))] under Beta(a, b), by quadrature.
fn expectations(a: f64, b: f64, f: impl Fn(f64, f64) -> f64) -> (f64, f64, f64) {
    let nodes = nodes();
    let logs: Vec<f64> = nodes.iter().map(|(r, c, step)| a * r + b * c + step).collect();
    let shares = softmax(&logs);
    let mut sums = (0.0, 0.0, 0.0);
    for (share, (r, c, _)) in shares.iter().zip(&nodes).filter(|(share, _)| **share > 0.0) {
        sums.0 += share * r;
        sums.1 += share * c;
        sums.2 += share * f(*r, *c);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Integrals with known answers: B(1, b) = 1/b, B(½, ½) = π; ψ₀ by E[log ρ] under Beta(a, 1)
    /// = −1/a and by integers.
    #[test]
    fn integrals_are_known_ones() {
        let nodes = nodes();
        let log_beta = |a: f64, b: f64| {
            log_sum(&nodes.iter().map(|(r, c, step)| a * r + b * c + step).collect::<Vec<_>>())
        };
        for b in [0.05f64, 0.5, 3.0, 700.0] {
            assert!((log_beta(1.0, b) + b.ln()).abs() < 1e-12, "{b}");
            let (log_rho, log_rest, one) = expectations(b, 1.0, |_, _| 1.0);
            assert!((log_rho * b + 1.0).abs() < 1e-11, "{b} {log_rho}");
            let known = digamma(1.0) - digamma(b + 1.0);
            assert!((log_rest - known).abs() < 1e-11 * known.abs().max(1.0), "{b}");
            assert!((one - 1.0).abs() < 1e-12);
        }
        assert!((log_beta(0.5, 0.5) - std::f64::consts::PI.ln()).abs() < 1e-12);
        assert!((digamma(1.0) + 0.577_215_664_901_532_9).abs() < 1e-14);
    }

    #[test]
    fn weights_add_up_to_one() {
        let weights = log_weights(6.0, 2.0, 20_000);
        assert!(log_sum(&weights).abs() < 1e-12);
    }
}
