//! Medians and quartiles over seeds.

use serde::Serialize;

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
    /// Of those that are numbers; `None` where there are none. Between two of them quantiles are on the
    /// straight line (type 7 of Hyndman & Fan 1996, what NumPy does).
    pub fn of(list: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut list: Vec<f64> = list.into_iter().filter(|x| x.is_finite()).collect();
        list.sort_unstable_by(f64::total_cmp);
        let last = list.len().checked_sub(1)?;
        let quantile = |share: f64| {
            let place = share * last as f64;
            let below = place.floor() as usize;
            let above = (below + 1).min(last);
            list[below] + (place - below as f64) * (list[above] - list[below])
        };
        Some(Self { lower: quantile(0.25), median: quantile(0.5), upper: quantile(0.75) })
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
