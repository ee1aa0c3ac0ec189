//! How much posterior mass a window can have lost, in closed form.
//!
//! Let a query have seen the keys at distances up to f − 1 of those at distances up to t, and let
//! no log-potential of the others be above s. Then what they add to the normaliser is at most
//!
//! ```text
//! U = e^s Σ_{d=f}^{t} w(d),        lost mass = R/(Z + R) ≤ U/(Z + U),
//! ```
//!
//! with Z the normaliser seen and R ≤ U the rest. The sums of the weights are known in closed form,
//!
//! ```text
//! Beta-geometric   Σ_{d ≥ f} w(d) = E[(1 − ρ)^f] = B(α, β + f)/B(α, β)       (it telescopes)
//! geometric        Σ_{d ≥ f} e^{−λd} = e^{−λf}/(1 − e^{−λ}),
//! ```
//!
//! each less the same from t + 1 on.

use ndarray::Axis;

use crate::infer::streaming::ALIGN;
use crate::special::ln_beta;
use crate::tensor::Stored;
use crate::{Error, Real, Shape, parallel};

/// Bound on the norms of the keys, from which Cauchy-Schwarz bounds scores unseen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum KeyNorms {
    /// They are computed, all of them, once: the largest before each place is what counts.
    #[default]
    Computed,
    /// The caller's word that none is longer. Keys outside the windows are then never read.
    AtMost(f64),
}

/// Bounds on the lengths of the keys before some place.
#[derive(Clone, Debug)]
pub(crate) struct NormBounds {
    /// By batch entry and key head, the longest of the first [`ALIGN`], 2 [`ALIGN`], … keys.
    prefixes: Vec<Vec<f64>>,
    everywhere: f64,
    key_heads: usize,
}

impl NormBounds {
    pub fn new<T: Real>(norms: KeyNorms, shape: &Shape, k: &Stored<'_, T>) -> Result<Self, Error> {
        let key_heads = shape.key_heads;
        match norms {
            KeyNorms::AtMost(bound) if !(bound.is_finite() && bound >= 0.0) => {
                Err(Error::value("expanding.key_norms", "a finite number of at least 0", bound))
            }
            KeyNorms::AtMost(everywhere) => {
                Ok(Self { prefixes: Vec::new(), everywhere, key_heads })
            }
            KeyNorms::Computed => {
                let of_head = |index: usize| {
                    let keys = k.rows((index / key_heads, index % key_heads), 0..shape.keys);
                    let mut longest = 0.0;
                    let chunks = keys.axis_chunks_iter(Axis(0), ALIGN);
                    chunks
                        .map(|chunk| {
                            for key in chunk.outer_iter() {
                                longest = f64::max(longest, length(key.iter().copied()));
                            }
                            longest
                        })
                        .collect()
                };
                let prefixes = parallel::map(shape.batch * key_heads, &of_head);
                Ok(Self { prefixes, everywhere: f64::INFINITY, key_heads })
            }
        }
    }

    /// No key before `start` of this batch entry and key head is longer.
    pub fn before(&self, (batch, key_head): (usize, usize), start: usize) -> f64 {
        match self.prefixes.get(batch * self.key_heads + key_head) {
            None => self.everywhere,
            Some(_) if start == 0 => 0.0,
            Some(longest) => longest[start.div_ceil(ALIGN) - 1],
        }
    }
}

/// |x|, rounded up; ∞ where an entry is NaN, since nothing is known then.
pub(crate) fn length<T: Real>(x: impl ExactSizeIterator<Item = T>) -> f64 {
    let count = x.len() as f64;
    let squares: f64 = x.map(|x| x.f64() * x.f64()).sum();
    if squares.is_nan() { f64::INFINITY } else { squares.sqrt() * (1.0 + count * f64::EPSILON) }
}

/// The weights of distances not seen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tail {
    BetaGeometric { alpha: f64, beta: f64 },
    Geometric { rate: f64 },
}

impl Tail {
    /// log Σ_{d=from}^{to} w(d); −∞ where there is no such distance.
    pub fn log_mass(&self, from: f64, to: f64) -> f64 {
        if to < from {
            return f64::NEG_INFINITY;
        }
        match *self {
            Self::BetaGeometric { alpha, beta } => {
                let beyond = |d: f64| ln_beta(alpha, beta + d) - ln_beta(alpha, beta);
                let (all, rest) = (beyond(from), beyond(to + 1.0));
                // Each is right to about 1e-14 of itself: that much is added back.
                let share = (-(rest - all).exp_m1()).max(0.0) + 1e-13 * (1.0 + all.abs());
                all + share.min(1.0).ln()
            }
            Self::Geometric { rate } => {
                let count = to - from + 1.0;
                if rate == 0.0 {
                    return count.ln();
                }
                -rate * from + (-(-rate * count).exp_m1()).ln() - (-(-rate).exp_m1()).ln()
            }
        }
    }

    /// How far behind the last distance seen, on average, those not seen lie from `mean`: an upper
    /// bound of Σ (d − mean) w(d)/Σ w(d) over `from`..=`to`.
    pub fn excess(&self, from: f64, to: f64, mean: f64) -> f64 {
        let farthest = to - mean;
        match *self {
            Self::Geometric { rate } => (from + 1.0 / rate.exp_m1() - mean).min(farthest),
            Self::BetaGeometric { .. } => farthest,
        }
    }
}

/// U/(Z + U), from logarithms; 0 only where U is, and NaN where Z is.
pub(crate) fn lost(log_seen: f64, log_unseen: f64) -> f64 {
    if log_unseen == f64::NEG_INFINITY && !log_seen.is_nan() {
        return 0.0;
    }
    if log_unseen == f64::INFINITY && !log_seen.is_nan() {
        return 1.0;
    }
    // However little is left, it is not nothing.
    let share = 1.0 / (1.0 + (log_seen - log_unseen).exp());
    if share < f64::MIN_POSITIVE { f64::MIN_POSITIVE } else { share }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_sums_of_weights() {
        for (alpha, beta) in [(0.4, 0.3), (2.0, 7.0), (30.0, 400.0)] {
            let rate = 1.0 / (alpha + beta);
            for (from, to) in [(0, 0), (0, 50), (1, 1), (17, 4000), (5, 4)] {
                let sum = |w: &dyn Fn(f64) -> f64| -> f64 {
                    (from..=to).rev().map(|d| w(f64::from(d)).exp()).sum()
                };
                let exact = sum(&|d| ln_beta(alpha + 1.0, beta + d) - ln_beta(alpha, beta));
                let (from, to) = (f64::from(from), f64::from(to));
                let tail = Tail::BetaGeometric { alpha, beta }.log_mass(from, to).exp();
                assert!(
                    tail >= exact * (1.0 - 1e-13) && tail <= exact * (1.0 + 1e-9),
                    "{tail} {exact}"
                );
                let exact = sum(&|d| -rate * d);
                let tail = Tail::Geometric { rate }.log_mass(from, to).exp();
                assert!((tail - exact).abs() <= 1e-12 * exact, "{tail} {exact}");
            }
        }
        // Of a few distances far out the difference keeps few digits, and must not fall short.
        for alpha in [0.4, 2.0, 30.0] {
            for from in [1_000, 10_000, 100_000].into_iter().flat_map(|d| d..d + 50) {
                let from = f64::from(from);
                let log_weight = ln_beta(alpha + 1.0, 0.3 + from) - ln_beta(alpha, 0.3);
                let found = Tail::BetaGeometric { alpha, beta: 0.3 }.log_mass(from, from);
                let above = found - log_weight;
                assert!((-1e-12..1e-6).contains(&above), "{alpha} {from}: {above:e}");
            }
        }
        assert_eq!(lost(0.0, f64::NEG_INFINITY), 0.0);
        assert_eq!(lost(0.0, f64::INFINITY), 1.0);
        assert_eq!(lost(0.0, 0.0), 0.5);
        assert!(lost(f64::NAN, f64::NEG_INFINITY).is_nan());
    }

    #[test]
    fn prefixes_hold_the_longest_key_before_a_place() {
        let keys = 3 * ALIGN + 5;
        let k = ndarray::Array4::from_shape_fn((1, 1, keys, 1), |(_, _, j, _)| j as f64);
        let shape = Shape::of(&k.view(), &k.view(), 0).unwrap();
        let stored = crate::Element::store(k.view());
        let bounds = NormBounds::new(KeyNorms::Computed, &shape, &stored).unwrap();
        for start in [0, ALIGN, 2 * ALIGN, 3 * ALIGN] {
            let longest = start.saturating_sub(1) as f64;
            assert!((bounds.before((0, 0), start) - longest).abs() <= 1e-12 * longest);
        }
    }
}
