//! The report's pictures, as inline SVG.
//!
//! Colours are class names only, so that one file serves light and dark themes: `q0`…`q9` for ten
//! steps of the ramp, a label's name for its colour. Marks that stand for a head carry
//! `data-head="LAYER.HEAD"`, and maps `data-grid`, which the page's script listens to.

use std::fmt::Write;

use super::catalogue::{Measure, Scale};
use super::measure::{HISTOGRAM_BINS, HeadMeasures};
use super::rule::is_close;
use crate::chart::{self, Axis, Frame, round_indices};

const STEPS: usize = 10;
/// Width of a map's cells together, and what they share in height, in SVG units.
const MAP_WIDTH: f64 = 252.0;
const MAP_HEIGHT: f64 = 168.0;
const AXIS: f64 = 20.0;
/// Margin that the map of labels leaves free around a head that is close to another label, as a share of its cell.
const CLOSE_INSET: f64 = 0.22;

/// A layer × head map of one measure: layers from left to right, heads from top to bottom. One path per
/// step of the ramp: a page has many maps of hundreds of heads.
///
/// Returns the picture and the values at the two ends of its ramp; `None` where the measure is known of no
/// head.
pub fn map(layers: &[Vec<HeadMeasures>], measure: &Measure) -> Option<(String, [f64; 2])> {
    let ends = ramp(layers.iter().flatten().map(measure.of), measure.scale);
    let axis = axis(measure.scale, ends, [0.0, 1.0]);
    let grid = Grid::of(layers);
    let mut steps = vec![String::new(); STEPS];
    let mut unknown = String::new();
    for (place, head) in heads(layers) {
        let path = match axis.share((measure.of)(head)) {
            Some(share) => &mut steps[((share * STEPS as f64) as usize).min(STEPS - 1)],
            None => &mut unknown,
        };
        let [x, y, width, height] = grid.cell(place);
        let _ = write!(path, "M{x:.1} {y:.1}h{width:.1}v{height:.1}h-{width:.1}z");
    }
    if steps.iter().all(String::is_empty) {
        return None;
    }
    let mut svg = grid.open(measure.title, "");
    for (step, path) in steps.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        let _ = write!(svg, r#"<path class="q{step}" d="{path}"/>"#);
    }
    if !unknown.is_empty() {
        let _ = write!(svg, r#"<path class="unknown" d="{unknown}"/>"#);
    }
    grid.close(&mut svg);
    Some((svg, ends))
}

/// A layer × head map of the labels, which keys move over. Heads that are close to another label are drawn
/// smaller.
pub fn label_map(layers: &[Vec<HeadMeasures>]) -> String {
    let grid = Grid::of(layers);
    let mut svg = grid.open("Labels", r#" tabindex="0""#);
    for (place, head) in heads(layers) {
        let [mut x, mut y, mut width, mut height] = grid.cell(place);
        if is_close(head) {
            let inset = CLOSE_INSET * width.min(height);
            (x, y) = (x + inset, y + inset);
            (width, height) = (width - 2.0 * inset, height - 2.0 * inset);
        }
        let _ = write!(
            svg,
            r#"<rect class="label {}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/>"#,
            head.label.name()
        );
    }
    grid.close(&mut svg);
    svg
}

fn heads(layers: &[Vec<HeadMeasures>]) -> impl Iterator<Item = ([usize; 2], &HeadMeasures)> {
    layers
        .iter()
        .enumerate()
        .flat_map(|(layer, row)| row.iter().enumerate().map(move |(head, m)| ([layer, head], m)))
}

/// Cells of a map.
struct Grid {
    layers: usize,
    heads: usize,
    width: f64,
    height: f64,
    gap: f64,
}

impl Grid {
    fn of(layers: &[Vec<HeadMeasures>]) -> Self {
        let heads = layers.first().map_or(0, Vec::len);
        let width = MAP_WIDTH / layers.len() as f64;
        let height = (MAP_HEIGHT / heads as f64).clamp(4.0, 14.0);
        let gap = (0.08 * width.min(height)).clamp(0.4, 1.5);
        Self { layers: layers.len(), heads, width, height, gap }
    }

    /// Corner and size of the cell of a head.
    fn cell(&self, [layer, head]: [usize; 2]) -> [f64; 4] {
        let x = AXIS + self.width * layer as f64 + self.gap / 2.0;
        let y = self.height * head as f64 + self.gap / 2.0;
        [x, y, self.width - self.gap, self.height - self.gap]
    }

    fn total_height(&self) -> f64 {
        self.height * self.heads as f64 + AXIS
    }

    /// Start of a map. The page's script finds heads by `data-grid`: where the first begins, and how far
    /// they are apart.
    fn open(&self, title: &str, more: &str) -> String {
        let more = format!(
            r#" data-grid="{AXIS} {:.3} {:.3} {} {}"{more}"#,
            self.width, self.height, self.layers, self.heads
        );
        let size = [AXIS + MAP_WIDTH + 2.0, self.total_height()];
        chart::open("chart map", size, &format!("{title}, by layer and head"), &more)
    }

    /// Numbers of layers and heads, and the end of the map.
    fn close(&self, svg: &mut String) {
        for layer in round_indices(self.layers, 8) {
            let x = AXIS + self.width * (layer as f64 + 0.5);
            let y = self.total_height() - 6.0;
            let _ =
                write!(svg, r#"<text class="tick middle" x="{x:.1}" y="{y:.1}">{layer}</text>"#);
        }
        for head in round_indices(self.heads, 8) {
            let (x, y) = (AXIS - 4.0, self.height * (head as f64 + 0.5) + 3.2);
            let _ = write!(svg, r#"<text class="tick end" x="{x:.1}" y="{y:.1}">{head}</text>"#);
        }
        svg.push_str("</svg>");
    }
}

/// One violin per layer: how H / log n is spread over the layer's heads and queries.
pub fn violins(layers: &[Vec<HeadMeasures>]) -> String {
    const HEIGHT: f64 = 220.0;
    const LEFT: f64 = 46.0;
    // Few layers keep the shape that many have.
    let slot = (1034.0 / layers.len() as f64).clamp(30.0, 90.0);
    let width = LEFT + slot * layers.len() as f64;
    let frame = Frame { left: LEFT, right: width, top: 8.0, bottom: HEIGHT - 26.0 };
    let axis = Axis::new(chart::Scale::Linear, [0.0, 1.0], [frame.bottom, frame.top]);
    let y = |share: f64| axis.at(share).unwrap_or(frame.bottom);
    let name = "Distribution of the entropy share in every layer";
    let mut svg = chart::open("chart", [width, HEIGHT], name, "");
    frame.grid_up(&mut svg, &axis, &[0.0, 0.25, 0.5, 0.75, 1.0]);
    let _ = write!(
        svg,
        r#"<text class="tick end" x="{:.1}" y="{:.1}">layer</text>"#,
        LEFT - 8.0,
        HEIGHT - 8.0
    );
    let labelled: Vec<usize> = round_indices(layers.len(), (width / 30.0) as usize).collect();
    for (layer, heads) in layers.iter().enumerate() {
        let mut counts = [0usize; HISTOGRAM_BINS];
        for head in heads {
            for (sum, count) in counts.iter_mut().zip(head.entropy_share_histogram) {
                *sum += count;
            }
        }
        let centre = LEFT + slot * (layer as f64 + 0.5);
        if let Some(path) = violin(&counts, centre, 0.46 * slot, y) {
            let _ = write!(
                svg,
                r#"<path class="violin" d="{path}"><title>layer {layer}</title></path>"#
            );
            let middle = y(median(&counts));
            let half = 0.3 * slot;
            let _ = write!(
                svg,
                r#"<line class="median" x1="{:.1}" x2="{:.1}" y1="{middle:.1}" y2="{middle:.1}"/>"#,
                centre - half,
                centre + half
            );
        }
        if labelled.contains(&layer) {
            let _ = write!(
                svg,
                r#"<text class="tick middle" x="{centre:.1}" y="{:.1}">{layer}</text>"#,
                HEIGHT - 8.0
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

/// The outline of a histogram and its mirror image; `None` for an empty one.
fn violin(
    counts: &[usize; HISTOGRAM_BINS],
    centre: f64,
    half_width: f64,
    y: impl Fn(f64) -> f64,
) -> Option<String> {
    let tallest = *counts.iter().max().filter(|count| **count > 0)? as f64;
    let first = counts.iter().position(|count| *count > 0)?;
    let last = counts.iter().rposition(|count| *count > 0)?;
    let edge = |bin: usize| y(bin as f64 / HISTOGRAM_BINS as f64);
    let middle = |bin: usize| y((bin as f64 + 0.5) / HISTOGRAM_BINS as f64);
    let reach = |bin: usize| half_width * counts[bin] as f64 / tallest;
    let mut path = format!("M{centre:.1} {:.1}", edge(first));
    for bin in first..=last {
        let _ = write!(path, "L{:.1} {:.1}", centre + reach(bin), middle(bin));
    }
    let _ = write!(path, "L{centre:.1} {:.1}", edge(last + 1));
    for bin in (first..=last).rev() {
        let _ = write!(path, "L{:.1} {:.1}", centre - reach(bin), middle(bin));
    }
    path.push('Z');
    Some(path)
}

fn median(counts: &[usize; HISTOGRAM_BINS]) -> f64 {
    let half = counts.iter().sum::<usize>() as f64 / 2.0;
    let mut below = 0.0;
    for (bin, count) in counts.iter().enumerate() {
        let inside = *count as f64;
        if inside > 0.0 && below + inside >= half {
            return (bin as f64 + (half - below) / inside) / HISTOGRAM_BINS as f64;
        }
        below += inside;
    }
    0.0
}

/// One dot per head, coloured by its label, over two measures.
pub fn scatter(layers: &[Vec<HeadMeasures>], across: &Measure, up: &Measure) -> String {
    // Legible on a phone without scrolling.
    const WIDTH: f64 = 416.0;
    const HEIGHT: f64 = 280.0;
    let frame = Frame { left: 56.0, right: WIDTH - 4.0, top: 6.0, bottom: HEIGHT - 40.0 };
    let axis_of = |measure: &Measure, stretch| {
        let values = layers.iter().flatten().map(measure.of);
        axis(measure.scale, ends(values, measure.scale), stretch)
    };
    let x = axis_of(across, [frame.left + 8.0, frame.right - 8.0]);
    let y = axis_of(up, [frame.bottom - 8.0, frame.top + 8.0]);
    let name = format!("{} against {}", up.title, across.title);
    let mut svg = chart::open("chart", [WIDTH, HEIGHT], &name, "");
    frame.grid_across(&mut svg, &x, &x.ticks());
    frame.grid_up(&mut svg, &y, &y.ticks());
    for (layer, heads) in layers.iter().enumerate() {
        for (head, measures) in heads.iter().enumerate() {
            let (across_value, up_value) = ((across.of)(measures), (up.of)(measures));
            let Some((x, y)) = x.at(across_value).zip(y.at(up_value)) else { continue };
            let _ = write!(
                svg,
                r#"<circle class="label {}" data-head="{layer}.{head}" cx="{x:.1}" cy="{y:.1}" r="4"/>"#,
                measures.label.name(),
            );
        }
    }
    frame.title_across(&mut svg, across.title);
    svg.push_str("</svg>");
    svg
}

/// The values that have a place on the scale, in ascending order.
fn placeable(values: impl Iterator<Item = f64>, scale: Scale) -> Vec<f64> {
    let usable = |value: &f64| value.is_finite() && (scale != Scale::Logarithmic || *value > 0.0);
    let mut values: Vec<f64> = values.filter(usable).collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The two ends of an axis; infinite, the lower above the upper, when nothing has a place on it.
fn ends(values: impl Iterator<Item = f64>, scale: Scale) -> [f64; 2] {
    let values = placeable(values, scale);
    let (Some(&low), Some(&high)) = (values.first(), values.last()) else {
        return [f64::INFINITY, f64::NEG_INFINITY];
    };
    match scale {
        Scale::FromZero => [0.0, high.max(0.0)],
        Scale::Range | Scale::Logarithmic => [low, high],
    }
}

/// The two ends of a map's ramp: an axis's, but without the outermost hundredth on either side
/// where the scale does not begin at 0. One outlier would leave most of the ramp unused.
fn ramp(values: impl Iterator<Item = f64>, scale: Scale) -> [f64; 2] {
    let values = placeable(values, scale);
    if scale == Scale::FromZero || values.is_empty() {
        return ends(values.into_iter(), scale);
    }
    let outermost = (values.len() / 100 + 1).min((values.len() - 1) / 2);
    [values[outermost], values[values.len() - 1 - outermost]]
}

/// The axis of a measure.
fn axis(scale: Scale, ends: [f64; 2], stretch: [f64; 2]) -> Axis {
    let scale = match scale {
        Scale::Logarithmic => chart::Scale::Logarithmic,
        Scale::FromZero | Scale::Range => chart::Scale::Linear,
    };
    Axis::new(scale, ends, stretch)
}
