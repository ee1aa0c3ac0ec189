//! Numbers as JSON files have them, and as tables show them.

/// Measures by name; one that is not finite has no JSON form and becomes null.
pub type Numbers = serde_json::Map<String, serde_json::Value>;

/// Seven significant digits: all an `f32` holds, and files half the size.
pub fn tidy(number: f64) -> f64 {
    format!("{number:.6e}").parse().unwrap_or(number)
}

/// Decimals of a difference; one that is 0 in all of them has no sign.
pub fn decimals(number: f64, places: usize) -> String {
    let written = format!("{number:.places$}");
    let is_zero = written.chars().all(|c| matches!(c, '-' | '0' | '.'));
    match is_zero {
        true => written.trim_start_matches('-').to_owned(),
        false => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_has_no_sign() {
        let written = [-0.0004, 0.0004, -0.0005001, -0.0, 12.3456, -10.0, f64::NAN];
        let written = written.map(|number| decimals(number, 3));
        assert_eq!(written, ["0.000", "0.000", "-0.001", "0.000", "12.346", "-10.000", "NaN"]);
        assert_eq!(decimals(-0.4, 0), "0");
    }
}
