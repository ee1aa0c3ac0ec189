//! Comparing two answers, and saying where they differ most.

use std::fmt::Display;

/// How far apart two numbers may be: |actual − expected| ≤ absolute + relative·|expected|.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Share of |expected|.
    pub relative: f64,
    /// Floor, for entries near zero.
    pub absolute: f64,
}

impl Tolerance {
    /// The same number for both.
    pub fn mixed(tolerance: f64) -> Self {
        Self { relative: tolerance, absolute: tolerance }
    }

    /// Relative to each entry, with a floor relative to the largest finite entry: what a sum of
    /// terms of that size can be held to.
    pub fn of_largest(tolerance: f64, expected: &[f64]) -> Self {
        let largest =
            expected.iter().filter(|x| x.is_finite()).fold(0.0, |a: f64, x| a.max(x.abs()));
        Self { relative: tolerance, absolute: tolerance * largest }
    }
}

/// The entry that misses its tolerance by the largest factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    /// Position in the flattened tensors.
    pub index: usize,
    /// What was computed.
    pub actual: f64,
    /// What it should be.
    pub expected: f64,
    /// |actual − expected| over what is allowed; above 1 is a failure, +∞ where one is NaN or only
    /// one is infinite.
    pub ratio: f64,
}

/// Compares entry by entry and returns the worst, or `None` for empty slices. Equal infinities
/// agree; NaN agrees with nothing.
///
/// # Panics
/// If the lengths differ.
pub fn worst(actual: &[f64], expected: &[f64], tolerance: Tolerance) -> Option<Worst> {
    assert_eq!(actual.len(), expected.len(), "lengths of actual and expected");
    let ratio = |a: f64, e: f64| {
        if a == e {
            return 0.0;
        }
        let gap = (a - e).abs();
        let allowed = tolerance.absolute + tolerance.relative * e.abs();
        // Infinite and NaN gaps would otherwise be excused by an infinite or zero allowance.
        if !gap.is_finite() || allowed == 0.0 { f64::INFINITY } else { gap / allowed }
    };
    (0..actual.len())
        .map(|index| {
            let (actual, expected) = (actual[index], expected[index]);
            Worst { index, actual, expected, ratio: ratio(actual, expected) }
        })
        .max_by(|a, b| a.ratio.total_cmp(&b.ratio))
}

/// `Err` with a line naming the worst entry if any misses its tolerance.
pub fn close(
    name: impl Display,
    actual: &[f64],
    expected: &[f64],
    tolerance: Tolerance,
) -> Result<(), String> {
    if actual.len() != expected.len() {
        return Err(format!("{name}: {} entries, expected {}", actual.len(), expected.len()));
    }
    match worst(actual, expected, tolerance) {
        Some(Worst { index, actual, expected, ratio }) if ratio > 1.0 => Err(format!(
            "{name}: worst entry {index} is {actual:e}, expected {expected:e}: off by {:e}, {ratio:.3e} \
             times what is allowed",
            (actual - expected).abs()
        )),
        _ => Ok(()),
    }
}

/// The same for the entries that are not `skipped`.
pub fn close_unless(
    name: impl Display,
    actual: &[f64],
    expected: &[f64],
    skipped: impl IntoIterator<Item = bool>,
    tolerance: Tolerance,
) -> Result<(), String> {
    let skipped: Vec<bool> = skipped.into_iter().collect();
    if actual.len() != expected.len() || skipped.len() != expected.len() {
        let lengths = (actual.len(), expected.len(), skipped.len());
        return Err(format!("{name}: entries, expected ones and those to skip: {lengths:?}"));
    }
    let kept =
        |x: &[f64]| -> Vec<f64> { x.iter().zip(&skipped).filter(|x| !x.1).map(|x| *x.0).collect() };
    close(name, &kept(actual), &kept(expected), tolerance)
}

/// Panics with the worst entry of the two tensors unless all agree; any two iterables of `f64`.
pub fn assert_close<'a>(
    name: impl Display,
    actual: impl IntoIterator<Item = &'a f64>,
    expected: impl IntoIterator<Item = &'a f64>,
    tolerance: Tolerance,
) {
    let actual: Vec<f64> = actual.into_iter().copied().collect();
    let expected: Vec<f64> = expected.into_iter().copied().collect();
    if let Err(message) = close(name, &actual, &expected, tolerance) {
        panic!("{message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_and_nan() {
        let t = Tolerance::mixed(1e-6);
        let inf = f64::INFINITY;
        assert!(close("x", &[-inf, 1.0], &[-inf, 1.0 + 1e-7], t).is_ok());
        assert!(close("x", &[inf], &[-inf], t).is_err());
        assert!(close("x", &[0.0], &[-inf], t).is_err());
        assert!(close("x", &[-inf], &[0.0], t).is_err());
        assert!(close("x", &[f64::NAN], &[f64::NAN], t).is_err());
        assert!(close("x", &[1.0], &[1.0, 2.0], t).is_err());
    }

    #[test]
    fn skipped_entries_may_be_anything() {
        let t = Tolerance::mixed(1e-6);
        let skipped = [true, false];
        assert!(close_unless("x", &[f64::NAN, 1.0], &[0.0, 1.0], skipped, t).is_ok());
        assert!(close_unless("x", &[0.0, f64::NAN], &[0.0, 1.0], skipped, t).is_err());
        assert!(close_unless("x", &[0.0, 1.0], &[0.0, 1.0], [true], t).is_err());
    }

    #[test]
    fn names_the_worst_entry() {
        let found = worst(&[1.0, 2.5, 3.1], &[1.0, 2.0, 3.0], Tolerance::mixed(0.1)).unwrap();
        assert_eq!(found.index, 1);
        assert!((found.ratio - 0.5 / 0.3).abs() < 1e-12);
    }
}
