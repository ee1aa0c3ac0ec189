use serde::{Deserialize, Serialize};

use super::of_distance::{OfDistance, exponential_tail, prior_of_distance};
use crate::distance::AnyDistance;
use crate::model::part::{Number, Part, Sizes, within};
use crate::{Accumulator, PerHead, Real, number};

/// log w_ij = −slope · |d|, d the distance (Press, Smith & Lewis, arXiv 2108.12409).
///
/// This is [`Geometric`](super::Geometric) with ρ = 1 − e^−slope, in the parameter that is usually
/// learned or fixed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", from = "Written")]
pub struct Alibi {
    /// One slope per head; without, those of the paper, once the number of heads is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slopes: Option<PerHead>,
    /// The distance d.
    #[serde(skip_serializing_if = "AnyDistance::is_index")]
    pub distance: AnyDistance,
}

/// Settings of the prior in a file.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Written {
    slopes: Option<Vec<f64>>,
    /// The slopes of the paper, in so many words.
    #[serde(default, rename = "standard")]
    _standard: bool,
    #[serde(default)]
    distance: AnyDistance,
}

impl From<Written> for Alibi {
    fn from(written: Written) -> Self {
        Self { slopes: written.slopes.map(PerHead::Each), distance: written.distance }
    }
}

impl Alibi {
    /// One slope per head (or one for all).
    pub fn new(slopes: &[f64]) -> Self {
        Self { slopes: Some(slopes.into()), distance: AnyDistance::default() }
    }

    /// The slopes of the paper for this many heads: 2^(−8h/H), h = 1..H, when H is a power of two;
    /// otherwise those of the largest power of two below H, followed by every other one of twice
    /// that many.
    pub fn standard(heads: usize) -> Self {
        let powers = |n: usize| (1..=n).map(move |h| (-8.0 * h as f64 / n as f64).exp2());
        let below = if heads == 0 { 0 } else { 1 << heads.ilog2() };
        let rest = powers(2 * below).step_by(2).take(heads - below);
        Self::new(&powers(below).chain(rest).collect::<Vec<_>>())
    }

    fn slope_of(&self, head: usize) -> f64 {
        self.slopes.as_ref().map_or(f64::NAN, |slopes| slopes.of(head))
    }
}

impl Part for Alibi {
    const NAME: &'static str = "alibi";
    const MEANING: &'static str =
        "log w_ij = −m_h |d|, d the distance, with the slopes of the paper or given ones";
    const EXAMPLE: &'static str = "{ alibi = { slopes = [0.5, 0.25] } }";
    const NUMBERS: &'static [Number<Self>] = &[number!("alibi.slopes", Real, slopes)];
    within!(distance);

    fn settle(&mut self, sizes: &Sizes) {
        if self.slopes.is_none() {
            self.slopes = Self::standard(sizes.heads).slopes;
        }
    }
}

impl OfDistance for Alibi {
    fn distance(&self) -> &AnyDistance {
        &self.distance
    }
    fn log_weight(&self, head: usize, d: f64) -> f64 {
        -self.slope_of(head) * d.abs()
    }
    fn difference(&self, head: usize, d: f64, from: f64) -> Option<f64> {
        Some((from.abs() - d.abs()) * self.slope_of(head))
    }
    fn slope(&self, head: usize, d: f64) -> f64 {
        let slope = self.slope_of(head);
        if d >= 0.0 { -slope } else { slope }
    }
    fn gradient<T: Real>(&self, head: usize, d: f64, g: f64, into: &mut [Accumulator<'_, T>]) {
        let index = self.slopes.as_ref().map_or(0, |slopes| slopes.index(head));
        into[0].add(index, -g * d.abs());
    }
    fn upper_bound(&self, head: usize, near: f64, far: f64) -> Option<f64> {
        Some(self.log_weight(head, near).max(self.log_weight(head, far)))
    }
    fn log_tail(&self, head: usize, near: f64, far: f64) -> Option<f64> {
        Some(exponential_tail(self.slope_of(head), near, far))
    }
}

prior_of_distance!(Alibi);

#[cfg(test)]
mod tests {
    use super::Alibi;

    #[test]
    fn standard_slopes_are_those_of_the_paper() {
        let slopes = |heads| Alibi::standard(heads).slopes.expect("given").values().to_vec();
        assert_eq!(slopes(8)[..3], [0.5, 0.25, 0.125]);
        // Twelve heads: the eight above, then the odd ones of sixteen.
        let twelve = slopes(12);
        assert_eq!(twelve[8], (-0.5f64).exp2());
        assert_eq!(twelve[11], (-3.5f64).exp2());
        assert_eq!(twelve.len(), 12);
        assert!(slopes(0).is_empty());
    }
}
