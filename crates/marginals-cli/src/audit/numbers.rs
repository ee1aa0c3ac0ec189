//! Numbers as JSON files have them, and as columns do.

/// Measures by name; one that is not finite has no JSON form and becomes null.
pub type Numbers = serde_json::Map<String, serde_json::Value>;

/// Seven significant digits: all an `f32` holds, and files half the size. Zeros have no sign.
pub fn tidy(number: f64) -> f64 {
    format!("{number:.6e}").parse().unwrap_or(number) + 0.0
}

/// A number with so many digits after the point; one that they round to zero has no sign.
pub fn fixed(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$}");
    match text.strip_prefix('-') {
        Some(zero) if zero.bytes().all(|byte| matches!(byte, b'0' | b'.')) => zero.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_have_no_sign() {
        let cases = [
            (-0.0, 3, "0.000"),
            (-0.0004, 3, "0.000"),
            (-0.0006, 3, "-0.001"),
            (0.0004, 3, "0.000"),
            (-0.4, 0, "0"),
            (-12.5, 1, "-12.5"),
            (f64::NAN, 2, "NaN"),
            (f64::NEG_INFINITY, 2, "-inf"),
        ];
        for (number, digits, expected) in cases {
            assert_eq!(fixed(number, digits), expected);
        }
        assert!(tidy(-0.0).is_sign_positive() && tidy(-1e-9) == -1e-9);
    }
}
