//! Parts that the charts of every page share: axes with round numbers, their grid, and how numbers are written.
//!
//! Charts are SVG with a view box, so that they keep their shape at any size. Colours are class names of
//! `templates/chart.css` (`c0` … `c4` for series), so that one chart serves light and dark themes.

use std::fmt::Write;

/// Style of a chart where no page gives it one.
pub const STYLE: &str = include_str!("../templates/chart.css");

/// How far a chart may be drawn larger than its view box, and smaller before it is scrolled: letters stay
/// between 9 and 14 pixels.
const LARGEST: f64 = 1.25;
const SMALLEST: f64 = 0.84;

/// How numbers are laid along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// In proportion to their differences.
    Linear,
    /// In proportion to the differences of their logarithms.
    Logarithmic,
}

/// A scale of numbers between two ends, drawn along a stretch of a chart.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    scale: Scale,
    ends: [f64; 2],
    stretch: [f64; 2],
}

impl Axis {
    /// The axis that has the first of `ends` at the first of `stretch`, and the second at the second.
    pub fn new(scale: Scale, ends: [f64; 2], stretch: [f64; 2]) -> Self {
        Self { scale, ends, stretch }
    }

    /// The two ends.
    pub fn ends(&self) -> [f64; 2] {
        self.ends
    }

    /// Where a value lies between the ends, from 0 to 1: those beyond an end lie at it. `None` for what
    /// has no place, a number that is not finite or has no logarithm.
    pub fn share(&self, value: f64) -> Option<f64> {
        let [low, high] = self.ends;
        let share = match self.scale {
            Scale::Logarithmic => (value / low).ln() / (high / low).ln(),
            Scale::Linear => (value - low) / (high - low),
        };
        match share.is_finite() {
            true => Some(share.clamp(0.0, 1.0)),
            // All values equal: the middle.
            false if value.is_finite() && low == high => Some(0.5),
            false => None,
        }
    }

    /// Where a value is drawn.
    pub fn at(&self, value: f64) -> Option<f64> {
        let [from, to] = self.stretch;
        self.share(value).map(|share| from + share * (to - from))
    }

    /// Round numbers between the ends: about five, or powers of ten with what divides them well.
    pub fn ticks(&self) -> Vec<f64> {
        let [low, high] = self.ends;
        if !(low.is_finite() && high.is_finite()) || low >= high {
            return Vec::new();
        }
        match self.scale {
            Scale::Linear => {
                let step = round_above((high - low) / 5.0);
                let multiples = (low / step).ceil() as i64..=(high / step).floor() as i64;
                multiples.map(|multiple| multiple as f64 * step).collect()
            }
            Scale::Logarithmic => {
                let span = (high / low).log10();
                let factors: &[f64] = match span {
                    span if span > 4.5 => &[1.0],
                    span if span > 2.0 => &[1.0, 3.0],
                    _ => &[1.0, 2.0, 5.0],
                };
                let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
                decades
                    .step_by((span / 8.0).ceil().max(1.0) as usize)
                    .flat_map(|decade| {
                        factors.iter().map(move |factor| factor * 10f64.powi(decade))
                    })
                    .filter(|tick| (low..=high).contains(tick))
                    .collect()
            }
        }
    }
}

/// The least of 1, 2, 2.5, 5 and their tenfolds that is not below `value`.
fn round_above(value: f64) -> f64 {
    let magnitude = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0].map(|factor| factor * magnitude);
    steps.into_iter().find(|step| *step >= value).unwrap_or(10.0 * magnitude)
}

/// Indices to label on an axis of `count` places: all of few, and round steps of many.
pub fn round_indices(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let fits = |step: &usize| count <= most * step;
    let step = [1, 2, 5, 10, 20, 50].into_iter().find(fits).unwrap_or(100);
    (0..count).step_by(step)
}

/// Area of a chart that marks are drawn in.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Frame {
    /// Draws lines up from an axis at its bottom, with their numbers below.
    pub fn grid_across(&self, svg: &mut String, axis: &Axis, ticks: &[f64]) {
        let Frame { top, bottom, .. } = self;
        for &tick in ticks {
            let Some(x) = axis.at(tick) else { continue };
            let _ = write!(
                svg,
                r#"<path class="grid" d="M{x:.1} {top:.1}V{bottom:.1}"/><text class="tick middle" x="{x:.1}" y="{:.1}">{}</text>"#,
                bottom + 15.0,
                readable(tick)
            );
        }
    }

    /// Draws lines across from an axis at its left, with their numbers beside.
    pub fn grid_up(&self, svg: &mut String, axis: &Axis, ticks: &[f64]) {
        let Frame { left, right, .. } = self;
        for &tick in ticks {
            let Some(y) = axis.at(tick) else { continue };
            let _ = write!(
                svg,
                r#"<path class="grid" d="M{left:.1} {y:.1}H{right:.1}"/><text class="tick end" x="{:.1}" y="{:.1}">{}</text>"#,
                left - 6.0,
                y + 4.0,
                readable(tick)
            );
        }
    }

    /// Writes what an axis at the bottom shows.
    pub fn title_across(&self, svg: &mut String, title: &str) {
        let (x, y) = (f64::midpoint(self.left, self.right), self.bottom + 34.0);
        let _ = write!(svg, r#"<text class="axis middle" x="{x:.1}" y="{y:.1}">{title}</text>"#);
    }

    /// Writes what an axis at the left shows, along it, at `x`.
    pub fn title_up(&self, svg: &mut String, x: f64, title: &str) {
        let y = f64::midpoint(self.top, self.bottom);
        let _ = write!(
            svg,
            r#"<text class="axis middle" transform="translate({x:.1} {y:.1}) rotate(-90)">{title}</text>"#
        );
    }
}

/// Start of a chart of this size. Pages may draw it somewhat smaller or larger, never out of shape.
pub fn open(class: &str, [width, height]: [f64; 2], name: &str, more: &str) -> String {
    format!(
        r#"<svg class="{class}" viewBox="0 0 {width:.1} {height:.1}" style="min-width:{:.0}px;max-width:{:.0}px" role="img" aria-label="{name}"{more}>"#,
        SMALLEST * width,
        LARGEST * width
    )
}

/// A chart as a file: with its own namespace, style and ground, which a page gives it otherwise.
pub fn alone(svg: &str) -> String {
    match svg.split_once('>') {
        Some((tag, rest)) => {
            let tag = tag.replacen("<svg", r#"<svg xmlns="http://www.w3.org/2000/svg""#, 1);
            format!(
                "{tag}><style>{STYLE}</style><rect class=\"ground\" width=\"100%\" height=\"100%\"/>{rest}\n"
            )
        }
        None => svg.to_owned(),
    }
}

/// A number with about three significant digits, as a reader wants it. NaN is what was not measured.
pub fn readable(value: f64) -> String {
    // No reader wants a zero with a sign.
    let value = value + 0.0;
    let magnitude = value.abs();
    if value.is_nan() {
        "not measured".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "∞" } else { "−∞" }.to_owned()
    } else if magnitude >= 1e6 || (magnitude > 0.0 && magnitude < 1e-3) {
        format!("{value:.1e}").replace(".0e", "e")
    } else if magnitude >= 1000.0 {
        let mut digits = format!("{value:.0}");
        digits.insert(digits.len() - 3, ',');
        digits
    } else {
        let places = match magnitude {
            m if m >= 100.0 => 0,
            m if m >= 10.0 => 1,
            m if m >= 0.1 || m == 0.0 => 2,
            m if m >= 0.01 => 3,
            _ => 4,
        };
        let text = format!("{value:.places$}");
        match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let cases = [
            (0.0, "0"),
            (0.5, "0.5"),
            (1.0 / 3.0, "0.33"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.5, "1,234"),
            (100.0, "100"),
            (-2.0, "-2"),
            (2.5e7, "2.5e7"),
            (3e-4, "3e-4"),
            (0.000_12, "1.2e-4"),
            (0.0045, "0.0045"),
            (-0.0, "0"),
            (f64::NAN, "not measured"),
            (f64::INFINITY, "∞"),
            (f64::NEG_INFINITY, "−∞"),
        ];
        for (value, expected) in cases {
            assert_eq!(readable(value), expected);
        }
    }

    #[test]
    fn axes_carry_round_numbers_within_their_ends() {
        let ticks = |scale, ends| Axis::new(scale, ends, [0.0, 1.0]).ticks();
        let linear: Vec<String> =
            ticks(Scale::Linear, [0.0, 1.0]).into_iter().map(readable).collect();
        assert_eq!(linear, ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(ticks(Scale::Logarithmic, [3.0, 60.0]), [5.0, 10.0, 20.0, 50.0]);
        assert_eq!(ticks(Scale::Linear, [1.0, 1.0]), [0.0; 0]);
        assert_eq!(ticks(Scale::Linear, [f64::INFINITY, f64::NEG_INFINITY]), [0.0; 0]);
        for ends in [[1e-9, 3.0], [1e-30, 1e30], [0.9, 1e5], [2.0, 2.1]] {
            assert!(ticks(Scale::Logarithmic, ends).len() <= 10, "{ends:?}");
        }
    }

    #[test]
    fn places_lie_between_the_ends() {
        let axis = Axis::new(Scale::Logarithmic, [0.1, 10.0], [50.0, 10.0]);
        let places = [0.01, 0.1, 1.0, 1e9].map(|value| axis.at(value).map(f64::round));
        assert_eq!(places, [Some(50.0), Some(50.0), Some(30.0), Some(10.0)]);
        assert_eq!([0.0, -1.0, f64::NAN].map(|value| axis.at(value)), [None; 3]);
        let equal = |scale| Axis::new(scale, [2.0, 2.0], [0.0, 1.0]).share(2.0);
        assert_eq!([equal(Scale::Linear), equal(Scale::Logarithmic)], [Some(0.5); 2]);
    }

    #[test]
    fn a_chart_stands_alone() {
        let svg = alone(&format!("{}</svg>", open("chart", [200.0, 100.0], "errors", "")));
        assert!(
            svg.starts_with("<svg xmlns") && svg.contains("<style>") && svg.ends_with("</svg>\n")
        );
    }
}
