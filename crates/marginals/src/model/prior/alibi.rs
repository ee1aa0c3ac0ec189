use super::{Stationary, stationary::stationary_prior};
use crate::{Accumulator, Error, Parameter, Real, model};

/// log w_ij = −slope · |d|, d the relative position (Press, Smith & Lewis, arXiv 2108.12409).
///
/// This is [`Geometric`](super::Geometric) with ρ = 1 − e^−slope, in the parameter that is usually
/// learned or fixed.
#[derive(Clone, Debug, PartialEq)]
pub struct Alibi {
    slopes: Vec<f64>,
}

impl Alibi {
    /// One slope per head (or one for all).
    pub fn new(slopes: &[f64]) -> Self {
        Self { slopes: slopes.to_vec() }
    }

    /// The slopes of the paper for this many heads: 2^(−8h/H), h = 1..H, when H is a power of two;
    /// otherwise those of the largest power of two below H, followed by every other one of twice
    /// that many.
    pub fn standard(heads: usize) -> Self {
        let powers = |n: usize| (1..=n).map(move |h| (-8.0 * h as f64 / n as f64).exp2());
        let below = if heads == 0 { 0 } else { 1 << heads.ilog2() };
        let rest = powers(2 * below).step_by(2).take(heads - below);
        Self { slopes: powers(below).chain(rest).collect() }
    }

    /// The slopes.
    pub fn slopes(&self) -> &[f64] {
        &self.slopes
    }
}

impl Stationary for Alibi {
    fn log_weight(&self, head: usize, d: i64) -> f64 {
        -model::of_head(&self.slopes, head) * d.unsigned_abs() as f64
    }
    fn gradient<T: Real>(&self, head: usize, d: i64, g: f64, into: &mut [Accumulator<'_, T>]) {
        let index = model::head_index(self.slopes.len(), head);
        into[0].add(index, -g * d.unsigned_abs() as f64);
    }
}

stationary_prior!(
    Alibi,
    "alibi",
    |prior, shape| {
        model::check_per_head("alibi.slopes", &prior.slopes, shape)?;
        match prior.slopes.iter().find(|slope| !slope.is_finite()) {
            None => Ok(()),
            Some(slope) => Err(Error::value("alibi.slopes", "finite numbers", slope)),
        }
    },
    |prior| vec![Parameter::new("alibi.slopes", &[prior.slopes.len()])]
);

#[cfg(test)]
mod tests {
    use super::Alibi;

    #[test]
    fn standard_slopes_are_those_of_the_paper() {
        assert_eq!(Alibi::standard(8).slopes[..3], [0.5, 0.25, 0.125]);
        // Twelve heads: the eight above, then the odd ones of sixteen.
        let twelve = Alibi::standard(12).slopes;
        assert_eq!(twelve[8], (-0.5f64).exp2());
        assert_eq!(twelve[11], (-3.5f64).exp2());
        assert_eq!(twelve.len(), 12);
        assert!(Alibi::standard(0).slopes.is_empty());
    }
}
