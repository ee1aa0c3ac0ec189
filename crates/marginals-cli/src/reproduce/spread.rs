//! Medians and quartiles over seeds.

use serde::Serialize;

use crate::quantile::quantile;

/// Median and quartiles of some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// A quarter lies below.
    pub lower: f64,
    /// Half of them.
    pub median: f64,
    /// A quarter lies above.
    pub upper: f64,
}

impl Spread {
    /// Of those that are numbers; `None` where there are none.
    pub fn of(list: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut list: Vec<f64> = list.into_iter().filter(|x| x.is_finite()).collect();
        list.sort_unstable_by(f64::total_cmp);
        let [lower, median, upper] =
            (!list.is_empty()).then(|| [0.25, 0.5, 0.75].map(|share| quantile(&list, share)))?;
        Some(Self { lower, median, upper })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.quantile(x, [0.25, 0.5, 0.75])`.
    #[test]
    fn quartiles_are_those_of_numpy() {
        let of = |list: &[f64]| Spread::of(list.iter().copied());
        let spread = |lower, median, upper| Some(Spread { lower, median, upper });
        assert_eq!(of(&[3.0, 1.0, 2.0, 10.0]), spread(1.75, 2.5, 4.75));
        assert_eq!(of(&[5.0]), spread(5.0, 5.0, 5.0));
        assert_eq!(of(&[2.0, f64::NAN, 1.0, f64::INFINITY, 3.0]), spread(1.5, 2.0, 2.5));
        assert_eq!(of(&[]), None);
    }
}
