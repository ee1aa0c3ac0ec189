//! Line charts and small images as SVG, readable on light and dark backgrounds.

use std::fmt::Write;

/// (x, y, half the height of the error bar).
pub type Points = Vec<(f64, f64, f64)>;

/// One line of a chart.
pub struct Line {
    pub name: String,
    pub points: Points,
    /// Index of its colour.
    pub colour: usize,
    pub style: Style,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Style {
    Solid,
    Dashed,
    /// Circles alone.
    Marks,
}

/// A chart.
pub struct Chart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
}

pub struct Axis {
    pub name: String,
    pub logarithmic: bool,
    pub from: f64,
    pub to: f64,
    pub ticks: Vec<f64>,
}

impl Axis {
    /// Share of the way along.
    fn place(&self, x: f64) -> f64 {
        let scale = |x: f64| if self.logarithmic { x.ln() } else { x };
        (scale(x) - scale(self.from)) / (scale(self.to) - scale(self.from))
    }
}

/// Colours that hold on both backgrounds (after Okabe & Ito, lightness evened out).
const COLOURS: [&str; 7] =
    ["#2f7fc1", "#d9682b", "#1f9d74", "#b65fa6", "#a98600", "#c8414b", "#7f7f7f"];

const WIDTH: f64 = 430.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;

/// Charts beside and below each other, `columns` to a row, and then rows of grey images.
pub fn draw(charts: &[Chart], columns: usize, images: &[Vec<Vec<f64>>]) -> String {
    let rows = charts.len().div_ceil(columns);
    let side = 66.0;
    // One legend for all: the lines of every chart are the same. Names are about this wide.
    let lines = charts.first().map_or(&[][..], |chart| &chart.lines);
    let (mut keys, mut at) = (Vec::new(), (LEFT, 0.0));
    for line in lines.iter().filter(|line| !line.name.is_empty()) {
        let room = 42.0 + 6.6 * line.name.chars().count() as f64;
        if at.0 + room > WIDTH * columns as f64 && at.0 > LEFT {
            at = (LEFT, at.1 + 20.0);
        }
        keys.push((line, at));
        at.0 += room;
    }
    let legend = 30.0 + at.1;
    let bottom = if images.is_empty() { 0.0 } else { 8.0 + side * images.len() as f64 };
    let (width, height) = (WIDTH * columns as f64, HEIGHT * rows as f64 + legend + bottom);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<style>\n\
         .ink {{ fill: #222; }} .line {{ stroke: #222; }} .faint {{ stroke: #d8d8d8; }}\n\
         .page {{ fill: #fff; }}\n\
         @media (prefers-color-scheme: dark) {{ .ink {{ fill: #e4e4e4; }} .line {{ stroke: #e4e4e4; }}\n\
         .faint {{ stroke: #3c3c3c; }} .page {{ fill: #16181c; }} }}\n</style>\n\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n"
    );
    for (index, chart) in charts.iter().enumerate() {
        let (x, y) = ((index % columns) as f64 * WIDTH, (index / columns) as f64 * HEIGHT);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        chart.draw(&mut svg);
        svg.push_str("</g>\n");
    }
    for (line, (x, below)) in keys {
        let y = HEIGHT * rows as f64 + 14.0 + below;
        let colour = COLOURS[line.colour % COLOURS.len()];
        let _ = match line.style {
            Style::Marks => {
                writeln!(
                    svg,
                    "<circle cx=\"{}\" cy=\"{y}\" r=\"3.5\" fill=\"none\" stroke=\"{colour}\"/>",
                    x + 11.0
                )
            }
            style => writeln!(
                svg,
                "<path d=\"M{x} {y}h22\" stroke=\"{colour}\" stroke-width=\"2\"{}/>",
                dashes(style)
            ),
        };
        let _ = writeln!(
            svg,
            "<text class=\"ink\" x=\"{}\" y=\"{}\">{}</text>",
            x + 27.0,
            y + 4.0,
            line.name
        );
    }
    for (row, images) in images.iter().enumerate() {
        for (column, image) in images.iter().enumerate() {
            let left = LEFT + column as f64 * side;
            let top = HEIGHT * rows as f64 + legend + row as f64 * side;
            pixels(&mut svg, image, (left, top), side - 6.0);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn dashes(style: Style) -> &'static str {
    if style == Style::Dashed { " stroke-dasharray=\"5 4\"" } else { "" }
}

fn pixels(svg: &mut String, image: &[f64], (left, top): (f64, f64), size: f64) {
    let side = (image.len() as f64).sqrt() as usize;
    let cell = size / side as f64;
    let largest = image.iter().fold(1e-12, |a: f64, &x| a.max(x));
    let least = image.iter().fold(0.0, |a: f64, &x| a.min(x));
    for (index, value) in image.iter().enumerate() {
        let grey = (255.0 * (value - least) / (largest - least)) as u8;
        let (x, y) = ((index % side) as f64 * cell, (index / side) as f64 * cell);
        let _ = writeln!(
            svg,
            "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{cell:.2}\" height=\"{cell:.2}\" fill=\"rgb({grey},{grey},{grey})\"/>",
            left + x,
            top + y
        );
    }
}

impl Chart {
    fn draw(&self, svg: &mut String) {
        let x = |value: f64| LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM);
        let _ = writeln!(
            svg,
            "<text class=\"ink\" x=\"{LEFT}\" y=\"20\" font-weight=\"600\">{}</text>",
            self.title
        );
        for &tick in &self.y.ticks {
            let _ = writeln!(
                svg,
                "<path class=\"faint\" d=\"M{LEFT} {:.1}H{}\"/><text class=\"ink\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
                y(tick),
                WIDTH - RIGHT,
                LEFT - 6.0,
                y(tick) + 4.0
            );
        }
        for &tick in &self.x.ticks {
            let _ = writeln!(
                svg,
                "<text class=\"ink\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>",
                x(tick),
                HEIGHT - BOTTOM + 17.0
            );
        }
        let _ = writeln!(
            svg,
            "<path class=\"line\" fill=\"none\" d=\"M{LEFT} {TOP}V{}H{}\"/>",
            HEIGHT - BOTTOM,
            WIDTH - RIGHT
        );
        let _ = writeln!(
            svg,
            "<text class=\"ink\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text class=\"ink\" transform=\"translate(14 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 10.0,
            self.x.name,
            (TOP + HEIGHT - BOTTOM) / 2.0,
            self.y.name
        );
        for line in &self.lines {
            let colour = COLOURS[line.colour % COLOURS.len()];
            // A line of one point would not be seen.
            if line.style == Style::Marks || line.points.len() == 1 {
                for &(at, value, _) in &line.points {
                    let _ = writeln!(
                        svg,
                        "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"none\" stroke=\"{colour}\"/>",
                        x(at),
                        y(value)
                    );
                }
                continue;
            }
            let path: Vec<String> =
                line.points.iter().map(|&(at, v, _)| format!("{:.1} {:.1}", x(at), y(v))).collect();
            let _ = writeln!(
                svg,
                "<path fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{} d=\"M{}\"/>",
                dashes(line.style),
                path.join("L")
            );
            // Bars end where the chart does.
            let within = |value: f64| value.clamp(self.y.from, self.y.to);
            for &(at, v, error) in line.points.iter().filter(|p| p.2 > 0.0) {
                let _ = writeln!(
                    svg,
                    "<path stroke=\"{colour}\" d=\"M{:.1} {:.1}V{:.1}\"/>",
                    x(at),
                    y(within(v - error)),
                    y(within(v + error))
                );
            }
        }
    }
}

/// Where an axis begins and ends, and its ticks.
pub fn span(lines: &[Line], logarithmic: bool) -> (f64, f64, Vec<f64>) {
    let ends = lines.iter().flat_map(|line| &line.points).flat_map(|(_, y, e)| [y - e, y + e]);
    let (least, most) = ends
        .filter(|y| !logarithmic || *y > 0.0)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), y| (a.min(y), b.max(y)));
    if logarithmic {
        let (from, to) = (least.log10().floor() as i32, most.log10().ceil() as i32);
        return (10f64.powi(from), 10f64.powi(to), (from..=to).map(|p| 10f64.powi(p)).collect());
    }
    // One value alone has room around it.
    let rough = if most > least { (most - least) / 5.0 } else { 0.1 };
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|&s| s >= rough);
    let step = step.unwrap_or(rough);
    let (from, to) = ((least / step).floor(), (most / step).ceil());
    let digits = (-step.log10().floor()).max(0.0) as i32;
    let round = |x: f64| (x * 10f64.powi(digits)).round() / 10f64.powi(digits);
    let ticks = (from as i64..=to as i64).map(|tick| round(tick as f64 * step)).collect();
    (from * step, to * step, ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[f64]) -> Line {
        let points = points.iter().map(|&y| (1.0, y, 0.0)).collect();
        Line { name: String::new(), points, colour: 0, style: Style::Solid }
    }

    #[test]
    fn axes_hold_what_is_drawn_and_have_round_ticks() {
        let (from, to, ticks) = span(&[line(&[2.03, 2.41]), line(&[2.2])], false);
        assert_eq!((from, to), (2.0, 2.5));
        assert_eq!(ticks, [2.0, 2.1, 2.2, 2.3, 2.4, 2.5]);
        let (from, to, ticks) = span(&[line(&[0.95])], false);
        assert!(from < 0.95 && to > 0.95 && ticks == [0.9, 1.0], "{from} {to} {ticks:?}");
        let (from, to, ticks) = span(&[line(&[0.4, 31.0])], true);
        assert_eq!((from, to), (0.1, 100.0));
        assert_eq!(ticks, [0.1, 1.0, 10.0, 100.0]);
    }
}
