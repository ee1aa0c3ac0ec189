//! Derivatives from function values alone.
//!
//! Central differences D(h) = (f(x + h) − f(x − h)) / 2h have an error that is a series in h²;
//! Richardson extrapolation over h, h/2, h/4, … removes one power after another (Ridders, Advances
//! in Engineering Software 4(2), 1982). The estimate kept is the one whose neighbours in the tableau
//! agree best, and their disagreement is its error, or the rounding of f over the step where that is
//! larger; f is taken to be a sum of terms of order 1 or of its own size.

use std::collections::HashMap;

/// A derivative and an estimate of how far off it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Derivative {
    /// df/dx.
    pub value: f64,
    /// Estimated |error|, same units.
    pub error: f64,
}

/// Rows of the tableau: the last step is 2⁻⁷ of the first.
const LEVELS: usize = 8;

/// When an extrapolation is worse than this (relative to the derivative or to 0.1) a smaller first
/// step is tried: a kink or a pole lies within reach of the present one.
const GOOD: f64 = 1e-9;

/// d/dt f(t) at 0, starting from steps of `first`.
fn derivative(mut f: impl FnMut(f64) -> f64, first: f64) -> Derivative {
    let mut best = Derivative { value: f64::NAN, error: f64::INFINITY };
    for shrink in [1.0, 1.0 / 16.0, 1.0 / 256.0] {
        let found = ridders(&mut f, first * shrink);
        if found.error < best.error || best.value.is_nan() {
            best = found;
        }
        if best.error <= GOOD * best.value.abs().max(0.1) {
            break;
        }
    }
    best
}

fn ridders(f: &mut impl FnMut(f64) -> f64, first: f64) -> Derivative {
    let mut best = Derivative { value: f64::NAN, error: f64::INFINITY };
    let mut previous: Vec<f64> = Vec::new();
    for level in 0..LEVELS {
        let h = first * 0.5f64.powi(level as i32);
        let (above, below) = (f(h), f(-h));
        let rounding = f64::EPSILON * above.abs().max(below.abs()).max(1.0) / h;
        let mut row = vec![(above - below) / (2.0 * h)];
        if level == 0 {
            best.value = row[0];
        }
        let mut power = 4.0;
        for k in 0..previous.len() {
            row.push((power * row[k] - previous[k]) / (power - 1.0));
            power *= 4.0;
            let error =
                (row[k + 1] - row[k]).abs().max((row[k + 1] - previous[k]).abs()).max(rounding);
            if error < best.error {
                best = Derivative { value: row[k + 1], error };
            }
        }
        // Rounding has taken over: smaller steps only add noise.
        if level > 1 && (row[level] - previous[level - 1]).abs() > 4.0 * best.error {
            break;
        }
        previous = row;
    }
    best
}

/// Root mean square of the finite entries; 1 if there are none or all are 0. Steps are a share of it,
/// since what is a small step for an entry depends on the tensor it belongs to.
fn typical(x: &[f64]) -> f64 {
    let finite = x.iter().filter(|x| x.is_finite());
    let (count, sum) = finite.fold((0, 0.0), |(count, sum), x| (count + 1, sum + x * x));
    if sum > 0.0 { (sum / f64::from(count)).sqrt() } else { 1.0 }
}

/// ∂f/∂x_i for every i, x being one tensor. Takes up to 48 evaluations of f per entry, usually 10 to
/// 14.
///
/// f may be infinite or constant where an entry is infinite (a masked weight): moving such an entry
/// moves nothing, and its derivative is 0.
pub fn gradient(x: &[f64], f: impl FnMut(&[f64]) -> f64) -> Vec<Derivative> {
    gradient_at(x, 0..x.len(), f)
}

/// ∂f/∂x_i for the given entries only.
pub fn gradient_at(
    x: &[f64],
    entries: impl IntoIterator<Item = usize>,
    mut f: impl FnMut(&[f64]) -> f64,
) -> Vec<Derivative> {
    let mut at = x.to_vec();
    let typical = typical(x);
    let mut of_entry = |i: usize| {
        if x[i].is_infinite() {
            return Derivative { value: 0.0, error: 0.0 };
        }
        let moved = |h| {
            at[i] = x[i] + h;
            f(&at)
        };
        let found = derivative(moved, 1e-2 * x[i].abs().max(0.1 * typical));
        at[i] = x[i];
        found
    };
    entries.into_iter().map(&mut of_entry).collect()
}

/// The derivative along a direction, Σ_i direction_i ∂f/∂x_i: one number whatever the size
/// of x.
/// Entries with a direction of 0 stay as they are, infinite ones included.
pub fn along(x: &[f64], direction: &[f64], mut f: impl FnMut(&[f64]) -> f64) -> Derivative {
    assert_eq!(x.len(), direction.len(), "one direction entry per variable");
    let largest = direction.iter().fold(0.0, |a: f64, d| a.max(d.abs()));
    if largest == 0.0 {
        return Derivative { value: 0.0, error: 0.0 };
    }
    let mut at = x.to_vec();
    derivative(
        |h| {
            for i in 0..x.len() {
                at[i] = if direction[i] == 0.0 { x[i] } else { x[i] + h * direction[i] };
            }
            f(&at)
        },
        1e-3 * typical(x) / largest,
    )
}

/// The derivative at t = 0 of every entry of a vector of `entries` numbers that moves with t. Each point
/// of the curve is evaluated once; the first step is `first`.
pub fn of_curve(first: f64, entries: usize, mut f: impl FnMut(f64) -> Vec<f64>) -> Vec<Derivative> {
    let mut points: HashMap<u64, Vec<f64>> = HashMap::new();
    let mut of_entry = |entry: usize| {
        derivative(|t| points.entry(t.to_bits()).or_insert_with(|| f(t))[entry], first)
    };
    (0..entries).map(&mut of_entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_of_known_functions() {
        let x: [f64; 4] = [0.3, -1.2, 2.5, 0.0];
        let f = |x: &[f64]| x[0].exp() * x[1].sin() + x[2].powi(5) + x[3] * x[1];
        let exact =
            [x[0].exp() * x[1].sin(), x[0].exp() * x[1].cos() + x[3], 5.0 * x[2].powi(4), x[1]];
        let found = gradient(&x, f);
        for (d, e) in found.iter().zip(exact) {
            assert!((d.value - e).abs() <= 1e-9 * e.abs().max(1.0), "{d:?} for {e}");
            assert!(d.error <= 1e-8 * e.abs().max(1.0), "{d:?} for {e}");
        }
        let direction = [1.0, -0.5, 0.25, 2.0];
        let slope: f64 = exact.iter().zip(direction).map(|(e, d)| e * d).sum();
        let d = along(&x, &direction, f);
        assert!((d.value - slope).abs() <= 1e-8 * slope.abs(), "{d:?} for {slope}");
    }

    #[test]
    fn a_kink_nearby_is_stepped_around() {
        for gap in [3e-3, 3e-4, 3e-5] {
            let d = gradient(&[gap], |x| x[0].abs() + x[0].sin())[0];
            assert!((d.value - (1.0 + gap.cos())).abs() < 1e-6, "kink {gap} away: {d:?}");
        }
    }

    #[test]
    fn the_error_estimate_covers_the_error() {
        let mut x = 0.1;
        while x < 3.0 {
            let d = gradient(&[x], |x| (x[0] * x[0]).sin() / x[0])[0];
            let exact = 2.0 * (x * x).cos() - (x * x).sin() / (x * x);
            assert!((d.value - exact).abs() <= 10.0 * d.error + 1e-10, "at {x}: {d:?}, {exact}");
            x += 0.173;
        }
    }

    #[test]
    fn masked_entries_have_no_slope() {
        let f = |x: &[f64]| x.iter().map(|x| x.exp()).sum::<f64>().ln();
        let found = gradient(&[0.0, f64::NEG_INFINITY], f);
        assert_eq!(found[1].value, 0.0);
        assert!((found[0].value - 1.0).abs() < 1e-9);
    }
}
