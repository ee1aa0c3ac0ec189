//! Numbers as JSON files have them.

/// Measures by name; one that is not finite has no JSON form and becomes null.
pub type Numbers = serde_json::Map<String, serde_json::Value>;

/// Seven significant digits: all an `f32` holds, and files half the size.
pub fn tidy(number: f64) -> f64 {
    format!("{number:.6e}").parse().unwrap_or(number)
}
