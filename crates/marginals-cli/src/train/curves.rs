//! Curves of bits per byte, on a page and on a terminal.

use marginals_burn::train::Training;
use plotters::prelude::*;

use super::document::Document;
use super::sparkline::{smoothed, sparkline};

/// Colours that stand for the names a theme gives them.
const INK: (RGBColor, &str) = (RGBColor(1, 2, 3), "ink");
const GRID: (RGBColor, &str) = (RGBColor(1, 2, 4), "grid");
const TRAIN: (RGBColor, &str) = (RGBColor(1, 2, 5), "train");
const HELD_OUT: (RGBColor, &str) = (RGBColor(1, 2, 6), "held");
const REFERENCE: (RGBColor, &str) = (RGBColor(1, 2, 7), "reference");

const STYLE: &str = "<style>
svg.curves { --ink: #222; --grid: #ddd; --train: #9bb8d8; --held: #1f5fa8; --reference: #b3541e; }
@media (prefers-color-scheme: dark) {
  svg.curves { --ink: #ddd; --grid: #3a3a3a; --train: #4c6a8c; --held: #8ec0ff; --reference: #f0a06a; }
}
svg.curves text { font-family: system-ui, sans-serif; }
</style>";

/// Points a curve is drawn with.
const POINTS: usize = 300;

/// Bits per byte over steps: each batch, smoothed, the held-out text, and what older means need.
pub fn svg(document: &Document) -> Result<String, Box<dyn std::error::Error>> {
    let steps = document.train.len().max(1);
    let train = smoothed(&document.train, POINTS);
    let held_out: Vec<(f64, f64)> =
        document.held_out.iter().map(|point| (point.step as f64, point.bits)).collect();
    let references =
        [("gzip", document.reference.gzip), ("three bytes before", document.reference.order_3)];
    let all = || {
        let points = train.iter().chain(&held_out).map(|point| point.1);
        points.chain(references.iter().map(|reference| reference.1))
    };
    let lowest = all().fold(f64::INFINITY, f64::min);
    let highest = all().fold(0.0, f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (760, 420)).into_drawing_area();
        let span = (highest - lowest).max(0.1);
        let mut chart = ChartBuilder::on(&area)
            .margin(14)
            .x_label_area_size(40)
            .y_label_area_size(52)
            .build_cartesian_2d(
                0.0..steps as f64,
                (lowest - 0.06 * span).max(0.0)..highest + 0.04 * span,
            )?;
        let text = |size: i32| ("sans-serif", size).into_font().color(&INK.0);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.0)
            .axis_style(INK.0)
            .label_style(text(13))
            .axis_desc_style(text(14))
            .x_desc("step")
            .y_desc("bits per byte")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.1}"))
            .draw()?;
        for (name, bits) in references {
            let ends = [(0.0, bits), (steps as f64, bits)];
            chart.draw_series(DashedLineSeries::new(ends, 6, 4, REFERENCE.0.stroke_width(1)))?;
            let place = (steps as f64 * 0.99, bits + 0.03 * span);
            let right = plotters::style::text_anchor::Pos::new(
                plotters::style::text_anchor::HPos::Right,
                plotters::style::text_anchor::VPos::Bottom,
            );
            let style = ("sans-serif", 13).into_font().color(&REFERENCE.0).pos(right);
            chart.draw_series([Text::new(format!("{name} {bits:.2}"), place, style)])?;
        }
        chart
            .draw_series(LineSeries::new(train, TRAIN.0.stroke_width(2)))?
            .label("trained on")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], TRAIN.0.stroke_width(2)));
        chart
            .draw_series(LineSeries::new(held_out, HELD_OUT.0.stroke_width(2)))?
            .label("held out")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], HELD_OUT.0.stroke_width(2)));
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .border_style(TRANSPARENT)
            .label_font(text(13))
            .draw()?;
        area.present()?;
    }
    for (RGBColor(r, g, b), name) in [INK, GRID, TRAIN, HELD_OUT, REFERENCE] {
        svg = svg.replace(&format!("#{r:02X}{g:02X}{b:02X}"), &format!("var(--{name})"));
    }
    let body = svg.find('>').map_or(0, |end| end + 1);
    svg.insert_str(body, STYLE);
    Ok(svg.replacen(
        "<svg ",
        "<svg class=\"curves\" role=\"img\" aria-label=\"Bits per byte over steps\" ",
        1,
    ))
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
}
