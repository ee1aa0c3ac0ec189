//! Log-weights that fall with the distance between two nodes.

use ndarray::ArrayView1;

/// log w as a function f(r) of the position r of a key relative to the query, which need not be whole;
/// d = |r|.
pub(super) enum Decay<'a> {
    /// −slope · d: geometric, ALiBi and Laplace.
    Linear { slope: f64 },
    /// −(d / scale)^shape.
    Power { scale: f64, shape: f64 },
    /// log B(α + 1, β + d) − log B(α, β).
    BetaGeometric { alpha: f64, beta: f64 },
    /// The values of the buckets of ⌊d⌋ and ⌈d⌉, interpolated (Golovneva et al., arXiv 2405.18719,
    /// eq. 5).
    Buckets { values: ArrayView1<'a, f64>, max_distance: u64, bidirectional: bool },
}

impl Decay<'_> {
    /// f(r).
    pub fn at(&self, relative: f64) -> f64 {
        let d = relative.abs();
        match *self {
            // x⁰ is 1 whatever x.
            Self::Linear { slope } if slope.is_infinite() && d == 0.0 => 0.0,
            Self::Linear { slope } => -slope * d,
            Self::Power { scale, shape } => -(d / scale).powf(shape),
            // α/(α + β) · Γ(α + β + 1)/Γ(β) · Γ(β + d)/Γ(α + β + 1 + d).
            Self::BetaGeometric { alpha, beta } => {
                alpha.ln() + log_rising(beta, alpha) - log_rising(beta + d, alpha + 1.0)
            }
            Self::Buckets { ref values, max_distance, bidirectional } => {
                // All distances beyond the last bucket are alike.
                let d = d.min(1e15);
                let value = |steps: f64| {
                    let whole = if relative > 0.0 { steps } else { -steps } as i64;
                    values[relative_bucket(whole, values.len(), max_distance, bidirectional)]
                };
                let share = d - d.floor();
                match share == 0.0 {
                    true => value(d),
                    false => (1.0 - share) * value(d.floor()) + share * value(d.ceil()),
                }
            }
        }
    }

    /// What keys at least `nearest` away have in common, if it is worth taking out: f(nearest).
    pub fn common(&self, nearest: f64) -> Option<f64> {
        match self {
            Self::Buckets { .. } => None,
            _ => Some(self.at(nearest)).filter(|common| common.is_finite()),
        }
    }

    /// f(r) − f(nearest), from the difference of the distances.
    pub fn gain(&self, relative: f64, nearest: f64) -> f64 {
        let d = relative.abs();
        match *self {
            Self::Linear { slope } => -slope * (d - nearest),
            Self::Power { scale, shape } => {
                let growth = (shape * ((d - nearest) / nearest).ln_1p()).exp_m1();
                -(nearest / scale).powf(shape) * growth
            }
            Self::BetaGeometric { alpha, beta } => {
                log_rising(beta + nearest, alpha + 1.0) - log_rising(beta + d, alpha + 1.0)
            }
            Self::Buckets { .. } => unreachable!("buckets have nothing in common"),
        }
    }
}

/// log Γ(x + a) − log Γ(x), x > 0, a ≥ 0: moved to x ≥ 40, where four terms of Stirling's series are
/// exact in f64, and the difference of the leading ones formed by hand.
fn log_rising(mut x: f64, a: f64) -> f64 {
    let mut below = 0.0;
    while x < 40.0 {
        below -= (a / x).ln_1p();
        x += 1.0;
    }
    let series = |z: f64| {
        let y = z.powi(-2);
        (1.0 / 12.0 - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y / 1680.0))) / z
    };
    let leading = (x - 0.5) * (a / x).ln_1p() + a * ((x + a).ln() - 1.0);
    below + leading + series(x + a) - series(x)
}

/// log B(α + 1, β + d) − log B(α, β) for d = 0..=`reach`, as the log of the finite product
/// α/(α + β) · Π_{t<d} (β + t)/(α + β + 1 + t), which needs no gamma function.
pub fn log_beta_geometric(alpha: f64, beta: f64, reach: usize) -> Vec<f64> {
    let mut table = vec![alpha.ln() - (alpha + beta).ln()];
    for t in 0..reach {
        let t_next = t as f64;
        table.push(table[t] + ((beta + t_next) / (alpha + beta + 1.0 + t_next)).ln());
    }
    table
}

/// T5's bucket of a relative position (key − query): one bucket per distance up to half of them, then
/// logarithmically wider ones up to `max_distance`. Bidirectional splits the buckets in two, keys
/// ahead in the upper half; otherwise keys ahead share bucket 0 with the query's own position.
///
/// The logarithm is compared at bucket boundaries, where it is an integer up to rounding; the slack
/// puts a boundary distance into the upper bucket, as exact arithmetic does.
pub fn relative_bucket(
    relative: i64,
    buckets: usize,
    max_distance: u64,
    bidirectional: bool,
) -> usize {
    let (base, distance, buckets) = if bidirectional {
        let half = buckets / 2;
        (if relative > 0 { half } else { 0 }, relative.unsigned_abs(), half)
    } else {
        (0, (-relative).max(0) as u64, buckets)
    };
    let exact = (buckets / 2) as u64;
    if distance < exact {
        return base + distance as usize;
    }
    let share = (distance as f64 / exact as f64).ln() / (max_distance as f64 / exact as f64).ln();
    let wide = (share * (buckets as u64 - exact) as f64 + 1e-9).floor() as usize;
    base + (exact as usize + wide).min(buckets - 1)
}

/// The slopes of Press et al.: 2^(−8h/H), h = 1..H, for a power of two; otherwise those of the power
/// of two below H followed by every other one of the power of two above.
pub fn alibi_slopes(heads: usize) -> Vec<f64> {
    let power_of_two = |n: usize| (1..=n).map(move |h| 2f64.powf(-8.0 * h as f64 / n as f64));
    if heads.is_power_of_two() {
        return power_of_two(heads).collect();
    }
    let below = heads.next_power_of_two() / 2;
    power_of_two(below).chain(power_of_two(2 * below).step_by(2)).take(heads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expanding;

    /// The closed form against the integral it comes from: ∫ ρ(1−ρ)^d Beta(ρ; α, β) dρ by the
    /// midpoint rule, for shapes without poles at the ends.
    #[test]
    fn beta_geometric_is_the_integral_over_rho() {
        for (alpha, beta) in [(1.0, 1.0), (2.0, 5.0), (3.5, 2.5)] {
            let table = log_beta_geometric(alpha, beta, 12);
            let steps = 400_000;
            // Σ ρᵃ (1−ρ)ᵇ over the midpoints.
            let integral = |a: f64, b: f64| {
                (0..steps)
                    .map(|s| (f64::from(s) + 0.5) / f64::from(steps))
                    .map(|rho| rho.powf(a) * (1.0 - rho).powf(b))
                    .sum::<f64>()
            };
            let normaliser = integral(alpha - 1.0, beta - 1.0);
            for d in [0, 1, 5, 12] {
                let expected = (integral(alpha, beta - 1.0 + f64::from(d)) / normaliser).ln();
                assert!(
                    (table[d as usize] - expected).abs() < 1e-6,
                    "{alpha} {beta} {d}: {} {expected}",
                    table[d as usize]
                );
            }
        }
    }

    /// Whole distances are those of the finite product, and the others lie on the same integral.
    #[test]
    fn beta_geometric_at_any_distance() {
        for (alpha, beta) in [(0.3, 0.4), (1.0, 1.0), (6.0, 2.0), (3.5, 40.0)] {
            let decay = Decay::BetaGeometric { alpha, beta };
            let table = log_beta_geometric(alpha, beta, 5_000);
            for (d, expected) in table.iter().enumerate() {
                let found = decay.at(-(d as f64));
                assert!((found - expected).abs() < 1e-12 * expected.abs().max(1.0), "{d}: {found}");
            }
            for distance in [0.25, 1.5, 7.75, 400.1] {
                let query = expanding::Query {
                    alpha,
                    beta,
                    distance: vec![distance],
                    log_potential: vec![0.0],
                };
                let expected = expanding::by_quadrature(&query).log_evidence;
                let found = decay.at(-distance);
                assert!((found - expected).abs() < 1e-11, "{distance}: {found} {expected}");
            }
        }
    }

    /// Differences between keys 10⁷ and more away, against products term by term and whole numbers.
    #[test]
    fn differences_far_away_keep_their_digits() {
        let close = |found: f64, expected: f64, what: &str| {
            assert!(
                (found - expected).abs() <= 1e-13 * expected.abs(),
                "{what} {found} {expected}"
            );
        };
        for nearest in [10_000_000i64, 123_456_789, 1_000_000_000] {
            let start = nearest as f64;
            for steps in [1i64, 3, 400] {
                let relative = -((nearest + steps) as f64);
                let (alpha, beta) = (2.5, 0.7);
                let product: f64 = (0..steps)
                    .map(|t| (-(alpha + 1.0) / (alpha + beta + 1.0 + start + t as f64)).ln_1p())
                    .sum();
                let found = Decay::BetaGeometric { alpha, beta }.gain(relative, start);
                assert!((found - product).abs() < 1e-13, "{found} {product}");
                let linear = Decay::Linear { slope: 0.3 }.gain(relative, start);
                close(linear, -0.3 * steps as f64, "linear");
                let squares = (nearest + steps).pow(2) - nearest.pow(2);
                let square = Decay::Power { scale: 1.0, shape: 2.0 }.gain(relative, start);
                close(square, -(squares as f64), "squares");
                let power = Decay::Power { scale: 4.0, shape: 1.0 }.gain(relative, start);
                close(power, -(steps as f64) / 4.0, "first power");
            }
        }
    }

    #[test]
    fn certain_stops_are_impossible_to_pass() {
        let decay = Decay::Linear { slope: f64::INFINITY };
        assert_eq!([decay.at(0.0), decay.at(-1.0)], [0.0, f64::NEG_INFINITY]);
        assert_eq!(decay.common(3.0), None);
    }

    /// Buckets printed by the implementation that accompanies the paper for 32 buckets, 128 apart.
    #[test]
    fn buckets_of_t5() {
        let both = |relative| relative_bucket(relative, 32, 128, true);
        let back = |relative| relative_bucket(relative, 32, 128, false);
        let got: Vec<_> =
            [0, -1, -7, -8, -11, -12, -16, -23, -32, -64, -127, -128, -9999].map(both).to_vec();
        assert_eq!(got, [0, 1, 7, 8, 8, 9, 10, 11, 12, 14, 15, 15, 15]);
        assert_eq!([1, 7, 8, 128].map(both), [17, 23, 24, 31]);
        assert_eq!(
            [5, 0, -1, -15, -16, -32, -64, -128, -500].map(back),
            [0, 0, 1, 15, 16, 21, 26, 31, 31]
        );
    }

    #[test]
    fn slopes_of_alibi() {
        assert_eq!(alibi_slopes(8)[0], 0.5);
        assert_eq!(alibi_slopes(8)[7], 1.0 / 256.0);
        let twelve = alibi_slopes(12);
        assert_eq!(twelve[..8], alibi_slopes(8)[..]);
        assert!((twelve[8] - 2f64.powf(-0.5)).abs() < 1e-15);
        assert!((twelve[11] - 2f64.powf(-3.5)).abs() < 1e-15);
        assert_eq!(alibi_slopes(3).len(), 3);
        assert_eq!(alibi_slopes(1), [1.0 / 256.0]);
    }
}
