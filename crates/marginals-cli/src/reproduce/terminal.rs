//! The results as tables for the terminal.

use super::document::Document;
use super::spread::Spread;
use crate::explain::page::Page;

/// Columns that everything keeps to.
const WIDTH: usize = 80;

/// Median and quartiles as `0.123 [0.100, 0.150]`.
pub fn spread(spread: Option<Spread>) -> String {
    match spread {
        None => "–".to_owned(),
        Some(Spread { lower, median, upper }) => {
            format!("{} [{}, {}]", number(median), number(lower), number(upper))
        }
    }
}

fn median(spread: Option<Spread>) -> String {
    spread.map_or("–".to_owned(), |spread| number(spread.median))
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

/// All of it, within 80 columns.
pub fn table(document: &Document) -> String {
    let mut page = Page::new(WIDTH, false);
    page.line(&format!(
        "{} seed{}{}",
        document.seeds,
        if document.seeds == 1 { "" } else { "s" },
        if document.quick { ", quick: too short to learn anything from" } else { "" }
    ));
    page.line("Medians [quartiles]; errors are shares of the targets' variance, div. are runs");
    page.line("that diverged.");
    let diverged = |diverged: usize, runs: usize| format!("{diverged}/{runs}");
    if !document.multihop.is_empty() {
        page.line(&format!(
            "\n{:<21}{:<22}{:>6}{:>6}{:>6}{:>6}{:>7}{:>6}",
            "multihop", "error", "hard", "x0", "x1", "x2", "others", "div."
        ));
    }
    for row in &document.multihop {
        let share = |role: usize| {
            row.attention[role].map_or("–".to_owned(), |s| format!("{:.2}", s.median))
        };
        page.line(&format!(
            "{:<21}{:<22}{:>6}{:>6}{:>6}{:>6}{:>7}{:>6}",
            row.mechanism.title(),
            spread(row.error),
            median(row.error_hard),
            share(0),
            share(1),
            share(2),
            share(3),
            diverged(row.diverged, row.runs),
        ));
    }
    if !document.expanding.is_empty() {
        page.line(&format!(
            "\n{:<22}{:>3}{:>5}{:>8}{:>8}{:>7}{:>10}{:>6}{:>5}{:>6}",
            "expanding", "D", "p", "error", "hard", "needed", "certified", "steps", "cost", "div."
        ));
    }
    for row in &document.expanding {
        let places = |s: Option<Spread>, places: usize| {
            s.map_or("–".to_owned(), |s| format!("{:.places$}", s.median))
        };
        page.line(&format!(
            "{:<22}{:>3}{:>5}{:>8}{:>8}{:>7}{:>10}{:>6}{:>5}{:>6}",
            row.mechanism.title(),
            row.setting.dimension,
            fraction(row.setting.p),
            median(row.error),
            median(row.error_hard),
            places(row.window_needed, 1),
            places(row.window_certified, 1),
            places(row.steps, 1),
            places(row.cost, 2),
            diverged(row.diverged, row.runs),
        ));
    }
    page.line("");
    if document.quick {
        page.line(&format!(
            "No verdict on {} claims: a quick run is too short to judge them by.",
            document.claims.len()
        ));
        return page.into_text();
    }
    page.line("Said before, and how it turned out:");
    for claim in &document.claims {
        let found = claim.found.map_or("–".to_owned(), number);
        let outcome = format!("{:<15} {found:>8}", claim.outcome.word());
        page.field(&outcome, 24, &format!("{}: {}", claim.problem, claim.claim));
    }
    page.into_text()
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
