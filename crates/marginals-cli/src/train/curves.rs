//! Curves of bits per byte, on a page and on a terminal.

use std::fmt::Write;

use marginals_burn::train::Training;

use super::document::Document;
use super::sparkline::{smoothed, sparkline};
use crate::chart::{self, Axis, Frame, Scale};

/// Points a curve is drawn with.
const POINTS: usize = 300;
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 320.0;

/// Bits per byte over steps: each batch, smoothed, the held-out text, and what older means need.
pub fn svg(document: &Document) -> String {
    let train = smoothed(&document.train, POINTS);
    let held_out: Vec<(f64, f64)> =
        document.held_out.iter().map(|point| (point.step as f64, point.bits)).collect();
    let references =
        [("gzip", document.reference.gzip), ("three bytes before", document.reference.order_3)];
    picture(document.train.len(), &train, &held_out, &references)
}

fn picture(
    steps: usize,
    train: &[(f64, f64)],
    held_out: &[(f64, f64)],
    references: &[(&str, f64)],
) -> String {
    let all = || {
        let points = train.iter().chain(held_out).map(|point| point.1);
        points.chain(references.iter().map(|reference| reference.1)).filter(|bits| bits.is_finite())
    };
    let highest = all().fold(0.0, f64::max);
    let lowest = all().fold(highest, f64::min);
    let span = (highest - lowest).max(0.1);
    let ends = [(lowest - 0.06 * span).max(0.0), highest + 0.06 * span];
    let frame = Frame { left: 52.0, right: WIDTH - 12.0, top: 34.0, bottom: HEIGHT - 42.0 };
    let across = Axis::new(Scale::Linear, [0.0, steps.max(1) as f64], [frame.left, frame.right]);
    let up = Axis::new(Scale::Linear, ends, [frame.bottom, frame.top]);

    let mut svg = chart::open("chart", [WIDTH, HEIGHT], "Bits per byte over steps", "");
    frame.grid_across(&mut svg, &across, &across.ticks());
    frame.grid_up(&mut svg, &up, &up.ticks());
    let mut lowest_free = frame.bottom;
    // From the lowest up, so that names of lines that are close do not lie on each other.
    let mut references: Vec<&(&str, f64)> = references.iter().collect();
    references.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
    for (name, bits) in references {
        let Some(y) = up.at(*bits) else { continue };
        let written = (y - 4.0).min(lowest_free);
        lowest_free = written - 13.0;
        let _ = write!(
            svg,
            r#"<path class="line thin c1 dashed" d="M{:.1} {y:.1}H{:.1}"/><text class="end" x="{:.1}" y="{written:.1}">{name} {bits:.2}</text>"#,
            frame.left, frame.right, frame.right
        );
    }
    let mut legend = frame.left;
    for (name, class, points) in
        [("trained on", "line faint c0", train), ("held out", "line c0", held_out)]
    {
        let places = points.iter().filter_map(|&(step, bits)| across.at(step).zip(up.at(bits)));
        let path: Vec<String> = places.map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        if !path.is_empty() {
            let _ = write!(svg, r#"<path class="{class}" d="M{}"/>"#, path.join("L"));
        }
        let _ = write!(
            svg,
            r#"<path class="{class}" d="M{legend:.1} 15h20"/><text x="{:.1}" y="19">{name}</text>"#,
            legend + 26.0
        );
        legend += 110.0;
    }
    frame.title_across(&mut svg, "step");
    frame.title_up(&mut svg, 12.0, "bits per byte");
    svg.push_str("</svg>");
    svg
}

/// Where a run is, for the progress bar.
pub fn progress(training: &Training) -> String {
    let losses = training.losses();
    let recent = &losses[losses.len().saturating_sub(50)..];
    let mean = recent.iter().sum::<f64>() / recent.len().max(1) as f64;
    let held_out = match training.held_out().last() {
        Some(point) => format!(", held out {:.3}", point.bits),
        None => String::new(),
    };
    // What is cut first on a narrow terminal comes last.
    format!("{mean:.3} bits/byte{held_out} {}", sparkline(losses, 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_averaged_over_runs_and_drawn_between_their_ends() {
        assert_eq!(smoothed(&[1.0, 3.0, 5.0, 7.0, 9.0], 3), [(1.0, 2.0), (3.0, 6.0), (4.5, 9.0)]);
        assert_eq!(smoothed(&[], 3), []);
        assert_eq!(sparkline(&[8.0, 4.0, 1.0], 10), "█▄▁");
        assert_eq!(sparkline(&[2.0, 2.0], 10), "▁▁");
        assert_eq!(sparkline(&[], 10), "");
    }

    #[test]
    fn what_is_drawn_is_numbers() {
        let point = |bits| vec![(1.0, bits)];
        for bits in [2.0, 0.0, f64::NAN, f64::INFINITY] {
            let svg = picture(2, &point(bits), &point(3.0), &[("gzip", 4.0), ("older", 4.0)]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(svg.contains("gzip 4.00"));
        }
        assert!(!picture(0, &[], &[], &[]).contains("NaN"));
    }
}
