//! The report's figures as SVG, which are also files of their own.

use std::fmt::Write;

use super::spread::Spread;
use crate::chart::{Axis, Frame, Scale, open};

/// How far apart the ends of a scale may be: one run that is as good as exact would leave no room for the
/// others.
const REACH: f64 = 1e4;

/// The scale of powers that holds `values` with a little room. What is less than a [`REACH`]th of the
/// largest lies at its end.
fn powers(values: impl Iterator<Item = f64> + Clone, stretch: [f64; 2]) -> Axis {
    let values = values.filter(|x| x.is_finite() && *x > 0.0);
    let high = values.clone().fold(0.0, f64::max);
    let low = values.fold(f64::INFINITY, f64::min).max(high / REACH);
    let (low, high) = if low < high { (low, high) } else { (0.1, 1.0) };
    let room = (high / low).powf(0.06);
    Axis::new(Scale::Logarithmic, [low / room, high * room], stretch)
}

/// Where a value lies on a scale of powers; 0 and what is below at its lower end.
fn at(axis: &Axis, value: f64) -> f64 {
    axis.at(value.max(axis.ends()[0])).unwrap_or(f64::NAN)
}

/// One row of a [`strips`] figure.
#[derive(Clone, Debug)]
pub struct Strip {
    /// Name at its left.
    pub title: String,
    /// Index of its colour.
    pub colour: usize,
    /// A mark for each.
    pub values: Vec<f64>,
    /// Fainter marks: the same seeds otherwise.
    pub others: Vec<f64>,
}

/// A mark per seed, one row per layer, with medians and quartiles; logarithmic.
pub fn strips(name: &str, axis_title: &str, rows: &[Strip]) -> String {
    const WIDTH: f64 = 760.0;
    const LEFT: f64 = 150.0;
    const ROW: f64 = 34.0;
    let bottom = 8.0 + ROW * rows.len() as f64;
    let values = rows.iter().flat_map(|row| row.values.iter().chain(&row.others).copied());
    let axis = powers(values, [LEFT + 8.0, WIDTH - 14.0]);
    let frame = Frame { left: LEFT, right: WIDTH, top: 4.0, bottom };
    let mut svg = open("chart", [WIDTH, bottom + 42.0], name, "");
    frame.grid_across(&mut svg, &axis, &axis.ticks());
    for (index, row) in rows.iter().enumerate() {
        let y = 8.0 + ROW * (index as f64 + 0.5);
        let _ = write!(
            svg,
            r#"<text class="end" x="{:.1}" y="{:.1}">{}</text>"#,
            LEFT - 6.0,
            y + 4.0,
            row.title
        );
        for (values, class, y) in [(&row.others, "hollow", y + 7.0), (&row.values, "mark", y - 3.0)]
        {
            for &value in values.iter().filter(|value| value.is_finite()) {
                let x = at(&axis, value);
                let _ = write!(
                    svg,
                    r#"<circle class="{class} c{}" cx="{x:.1}" cy="{y:.1}" r="3.4"><title>{value:.3e}</title></circle>"#,
                    row.colour
                );
            }
        }
        if let Some(Spread { lower, median, upper }) = Spread::of(row.values.iter().copied()) {
            let [from, to, middle] = [lower, upper, median].map(|value| at(&axis, value));
            let _ = write!(
                svg,
                r#"<path class="range" d="M{from:.1} {0:.1}H{to:.1}"/><path class="median" d="M{middle:.1} {1:.1}v14"/>"#,
                y - 3.0,
                y - 10.0
            );
        }
    }
    frame.title_across(&mut svg, axis_title);
    svg.push_str("</svg>");
    svg
}

/// Shares of a whole, one bar per row.
pub fn shares(name: &str, rows: &[(String, Vec<f64>)], parts: &[&str]) -> String {
    const WIDTH: f64 = 760.0;
    const LEFT: f64 = 150.0;
    const ROW: f64 = 26.0;
    let mut svg = open("chart", [WIDTH, 34.0 + ROW * rows.len() as f64], name, "");
    let mut x = LEFT;
    for (colour, part) in parts.iter().enumerate() {
        let _ = write!(
            svg,
            r#"<rect class="bar c{colour}" x="{x:.1}" y="6" width="11" height="11" rx="2"/><text x="{:.1}" y="16">{part}</text>"#,
            x + 16.0
        );
        x += 40.0 + 6.4 * part.chars().count() as f64;
    }
    for (index, (title, row)) in rows.iter().enumerate() {
        let y = 28.0 + ROW * index as f64;
        let _ = write!(
            svg,
            r#"<text class="end" x="{:.1}" y="{:.1}">{title}</text>"#,
            LEFT - 6.0,
            y + 14.0
        );
        let mut at = LEFT;
        for (colour, &share) in row.iter().enumerate() {
            let width = share.max(0.0) * (WIDTH - LEFT - 10.0);
            let _ = write!(
                svg,
                r#"<rect class="bar c{colour}" x="{at:.1}" y="{y:.1}" width="{width:.1}" height="18"><title>{}: {share:.3}</title></rect>"#,
                parts.get(colour).unwrap_or(&"")
            );
            if width > 34.0 {
                let _ = write!(
                    svg,
                    r#"<text class="on middle" x="{:.1}" y="{:.1}">{share:.2}</text>"#,
                    at + width / 2.0,
                    y + 13.0
                );
            }
            at += width;
        }
    }
    svg.push_str("</svg>");
    svg
}

/// One line of a panel.
#[derive(Clone, Debug)]
pub struct Line {
    /// Name in the legend.
    pub title: String,
    /// Index of its colour.
    pub colour: usize,
    /// Whether it is broken.
    pub dashed: bool,
    /// Where, and the spread there.
    pub points: Vec<(f64, Spread)>,
}

/// Panels beside each other with common scales, both logarithmic, and one legend.
pub fn lines(name: &str, axes: [&str; 2], panels: &[(String, Vec<Line>)]) -> String {
    const PANEL: f64 = 300.0;
    const HEIGHT: f64 = 250.0;
    const LEFT: f64 = 52.0;
    const TOP: f64 = 44.0;
    const BOTTOM: f64 = 44.0;
    let all = || panels.iter().flat_map(|(_, lines)| lines).flat_map(|line| &line.points);
    let places = || all().map(|(x, _)| *x);
    let values = || all().flat_map(|(_, spread)| [spread.lower, spread.median, spread.upper]);
    let mut svg = open("chart", [PANEL * panels.len() as f64, HEIGHT], name, "");
    let mut x = LEFT;
    for line in panels.first().map_or(&[][..], |(_, lines)| lines) {
        let dashed = if line.dashed { " dashed" } else { "" };
        let _ = write!(
            svg,
            r#"<path class="line c{}{dashed}" d="M{x:.1} 11h20"/><text x="{:.1}" y="15">{}</text>"#,
            line.colour,
            x + 25.0,
            line.title
        );
        x += 46.0 + 6.4 * line.title.chars().count() as f64;
    }
    for (index, (title, lines)) in panels.iter().enumerate() {
        let left = PANEL * index as f64 + LEFT;
        let right = PANEL * (index + 1) as f64 - 12.0;
        let frame = Frame { left, right, top: TOP, bottom: HEIGHT - BOTTOM };
        let across = powers(places(), [left, right]);
        let up = powers(values(), [frame.bottom, frame.top]);
        let _ =
            write!(svg, r#"<text class="title" x="{left:.1}" y="{:.1}">{title}</text>"#, TOP - 8.0);
        frame.grid_up(&mut svg, &up, &up.ticks());
        let mut ticks: Vec<f64> = places().collect();
        ticks.sort_unstable_by(f64::total_cmp);
        ticks.dedup();
        frame.grid_across(&mut svg, &across, &ticks);
        for (order, line) in lines.iter().enumerate() {
            // Bars of different lines would hide each other.
            let aside = 3.0 * (order as f64 - 0.5 * (lines.len() as f64 - 1.0));
            let place =
                |(x, spread): &(f64, Spread)| (at(&across, *x) + aside, at(&up, spread.median));
            let path: Vec<String> = line
                .points
                .iter()
                .map(|point| {
                    let (x, y) = place(point);
                    format!("{x:.1} {y:.1}")
                })
                .collect();
            let dashed = if line.dashed { " dashed" } else { "" };
            let colour = line.colour;
            if !path.is_empty() {
                let _ = write!(
                    svg,
                    r#"<path class="line c{colour}{dashed}" d="M{}"/>"#,
                    path.join("L")
                );
            }
            for point in &line.points {
                let ((x, y), spread) = (place(point), point.1);
                let _ = write!(
                    svg,
                    r#"<path class="whisker c{colour}" d="M{x:.1} {:.1}V{:.1}"/><circle class="mark c{colour}" cx="{x:.1}" cy="{y:.1}" r="3"><title>{}: {:.3}</title></circle>"#,
                    at(&up, spread.lower),
                    at(&up, spread.upper),
                    line.title,
                    spread.median
                );
            }
        }
        frame.title_across(&mut svg, axes[0]);
        if index == 0 {
            frame.title_up(&mut svg, 12.0, axes[1]);
        }
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_lie_between_the_ends_whatever_the_numbers() {
        let axis = powers([1e-9, 3.0, f64::NAN, 0.0].into_iter(), [10.0, 50.0]);
        let at = |value| super::at(&axis, value);
        for value in [0.0, 1e-30, 1e-9, 0.1, 3.0, 1e9] {
            assert!((10.0..=50.0).contains(&at(value)), "{value}");
        }
        assert!(at(0.1) > at(0.01) && at(1e-9) == at(1e-30));
        assert!(axis.ticks().contains(&1.0));
        assert!(super::at(&powers([].into_iter(), [0.0, 1.0]), 0.3).is_finite());
    }

    #[test]
    fn figures_hold_numbers_only() {
        let values = vec![0.1, 0.2, f64::NAN, f64::INFINITY];
        let row = Strip { title: "one".into(), colour: 0, values, others: vec![] };
        let svg = strips("errors", "error", &[row]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
