//! Quantiles of a sample.

/// The number below which a `share` of some sorted numbers lies; between two of them on the straight
/// line (type 7 of Hyndman & Fan 1996, what NumPy does).
///
/// # Panics
/// Of no numbers there is none.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len() - 1;
    let place = share * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.quantile([1, 2, 3, 10], …)`.
    #[test]
    fn quantiles_are_those_of_numpy() {
        let sorted = [1.0, 2.0, 3.0, 10.0];
        for (share, expected) in
            [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (0.75, 4.75), (0.9, 7.9), (1.0, 10.0)]
        {
            assert!((quantile(&sorted, share) - expected).abs() < 1e-12, "{share}");
        }
        assert_eq!(quantile(&[5.0], 0.3), 5.0);
    }
}
