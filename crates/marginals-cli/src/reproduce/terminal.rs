//! The results as tables for the terminal.

use std::fmt::Write;

use super::document::Document;
use super::spread::Spread;

/// Median and quartiles as `0.123 [0.100, 0.150]`.
pub fn spread(spread: Option<Spread>) -> String {
    match spread {
        None => "–".to_owned(),
        Some(Spread { lower, median, upper }) => {
            format!("{} [{}, {}]", number(median), number(lower), number(upper))
        }
    }
}

/// Three digits, in powers of ten where it takes more than a few places to have any.
pub fn number(x: f64) -> String {
    match x.abs() {
        m if m >= 100.0 => format!("{x:.0}"),
        m if m >= 10.0 => format!("{x:.1}"),
        m if m >= 1.0 => format!("{x:.2}"),
        m if m >= 1e-3 || m == 0.0 => format!("{x:.3}"),
        _ => format!("{x:.1e}"),
    }
}

/// p as the fraction it is in the settings.
pub fn fraction(p: f64) -> String {
    format!("1/{:.0}", 1.0 / p)
}

/// All of it.
pub fn table(document: &Document) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{} seeds{}. Medians [quartiles]; errors are shares of the targets' variance.",
        document.seeds,
        if document.quick { ", quick: too short to learn anything from" } else { "" }
    );
    if !document.multihop.is_empty() {
        let _ = writeln!(
            out,
            "\n{:<22}{:<26}{:<26}{:>7}{:>7}{:>7}{:>8}{:>10}",
            "multihop", "error", "hard", "x0", "x1", "x2", "others", "diverged"
        );
    }
    for row in &document.multihop {
        let share = |role: usize| {
            row.attention[role].map_or("–".to_owned(), |s| format!("{:.2}", s.median))
        };
        let _ = writeln!(
            out,
            "{:<22}{:<26}{:<26}{:>7}{:>7}{:>7}{:>8}{:>10}",
            row.mechanism.title(),
            spread(row.error),
            spread(row.error_hard),
            share(0),
            share(1),
            share(2),
            share(3),
            format!("{}/{}", row.diverged, row.runs),
        );
    }
    if !document.expanding.is_empty() {
        let _ = writeln!(
            out,
            "\n{:<22}{:>3} {:>5}  {:<24}{:<24}{:>7}{:>10}{:>7}{:>6}{:>10}",
            "expanding",
            "D",
            "p",
            "error",
            "hard",
            "needed",
            "certified",
            "steps",
            "cost",
            "diverged"
        );
    }
    for row in &document.expanding {
        let median = |s: Option<Spread>, places: usize| {
            s.map_or("–".to_owned(), |s| format!("{:.places$}", s.median))
        };
        let _ = writeln!(
            out,
            "{:<22}{:>3} {:>5}  {:<24}{:<24}{:>7}{:>10}{:>7}{:>6}{:>10}",
            row.mechanism.title(),
            row.setting.dimension,
            fraction(row.setting.p),
            spread(row.error),
            spread(row.error_hard),
            median(row.window_needed, 1),
            median(row.window_certified, 1),
            median(row.steps, 1),
            median(row.cost, 2),
            format!("{}/{}", row.diverged, row.runs),
        );
    }
    if document.quick {
        let _ = writeln!(
            out,
            "\nNo verdict on {} claims: a quick run is too short to judge them by.",
            document.claims.len()
        );
        return out;
    }
    let _ = writeln!(out, "\nSaid before, and how it turned out:");
    for claim in &document.claims {
        let found = claim.found.map_or("–".to_owned(), number);
        let _ = writeln!(
            out,
            "  {:<15} {found:>8}  {}: {}",
            claim.outcome.word(),
            claim.problem,
            claim.claim
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let cases = [
            (0.0, "0.000"),
            (0.1234, "0.123"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (1234.5, "1234"),
            (1.2e-7, "1.2e-7"),
        ];
        for (x, expected) in cases {
            assert_eq!(number(x), expected);
        }
        assert_eq!(spread(None), "–");
        assert_eq!(fraction(0.04), "1/25");
    }
}
