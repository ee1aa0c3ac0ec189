//! Activations: functions that a prediction applies to every number of the layer above.

use serde::{Deserialize, Serialize};

use crate::Real;

/// Function a(h) of one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "activation", rename_all = "kebab-case")]
pub enum Activation {
    /// h.
    #[default]
    Identity,
    /// max(h, 0); its derivative at 0 is 0.
    Relu,
    /// tanh h.
    Tanh,
    /// 1/(1 + e^−h).
    Logistic,
    /// log(1 + e^h).
    Softplus,
}

impl Activation {
    /// a(h), a′(h) and a″(h).
    pub(super) fn derivatives<T: Real>(self, h: T) -> [T; 3] {
        let (zero, one) = (T::zero(), T::one());
        let two = one + one;
        // From the side where the exponential is small.
        let logistic = || {
            let small = (-h.abs()).exp();
            let share = one / (one + small);
            if h >= zero { share } else { small * share }
        };
        match self {
            Self::Identity => [h, one, zero],
            // As it is where h is NaN: max would hide it.
            Self::Relu if h <= zero => [zero; 3],
            Self::Relu => [h, one, zero],
            Self::Tanh => {
                let t = h.tanh();
                let slope = one - t * t;
                [t, slope, -two * t * slope]
            }
            Self::Logistic => {
                let s = logistic();
                let slope = s * (one - s);
                [s, slope, slope * (one - two * s)]
            }
            Self::Softplus => {
                let s = logistic();
                let value = if h > zero { h } else { zero } + (-h.abs()).exp().ln_1p();
                [value, s, s * (one - s)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_those_of_the_function() {
        use Activation::*;
        for activation in [Identity, Relu, Tanh, Logistic, Softplus] {
            for h in [-800.0, -31.0, -2.0, -0.3, 0.4, 1.7, 25.0, 700.0f64] {
                let step = 1e-5 * h.abs().max(1.0);
                let at = |h: f64| activation.derivatives(h);
                let [value, slope, curvature] = at(h);
                let (up, down) = (at(h + step), at(h - step));
                let error = |found: f64, expected: f64| (found - expected).abs();
                assert!(value.is_finite());
                assert!(
                    error(slope, (up[0] - down[0]) / (2.0 * step)) < 1e-9,
                    "{activation:?} {h}"
                );
                assert!(
                    error(curvature, (up[1] - down[1]) / (2.0 * step)) < 1e-9,
                    "{activation:?} {h}"
                );
            }
        }
    }
}
