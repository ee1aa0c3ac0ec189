//! The report's pictures, as inline SVG.
//!
//! Colours are class names only, so that one file serves light and dark themes: `q0`…`q9` for ten
//! steps of the ramp, a label's name for its colour. Marks that stand for a head carry
//! `data-head="LAYER.HEAD"`, which the page's script listens to.

use std::fmt::Write;

use super::catalogue::{Measure, Scale};
use super::measure::{HISTOGRAM_BINS, HeadMeasures};

const STEPS: usize = 10;
/// Width of a map's cells together, and what they share in height, in SVG units.
const MAP_WIDTH: f64 = 252.0;
const MAP_HEIGHT: f64 = 168.0;
const AXIS: f64 = 20.0;

/// A layer × head map of one measure: layers from left to right, heads from top to bottom.
///
/// Returns the picture and the values at the two ends of its ramp.
pub fn map(layers: &[Vec<HeadMeasures>], measure: &Measure) -> (String, [f64; 2]) {
    let values = layers.iter().flatten().map(measure.of);
    let ends = ramp(values, measure.scale);
    let picture = cells(layers, measure.title, |head| {
        let value = (measure.of)(head);
        let class = match place(value, ends, measure.scale) {
            Some(share) => format!("q{}", ((share * STEPS as f64) as usize).min(STEPS - 1)),
            None => "unknown".to_owned(),
        };
        (class, readable(value))
    });
    (picture, ends)
}

/// A layer × head map of the labels.
pub fn label_map(layers: &[Vec<HeadMeasures>]) -> String {
    cells(layers, "Labels", |head| {
        (format!("label {}", head.label.name()), head.label.name().to_owned())
    })
}

fn cells(
    layers: &[Vec<HeadMeasures>],
    title: &str,
    cell: impl Fn(&HeadMeasures) -> (String, String),
) -> String {
    let heads = layers.first().map_or(0, Vec::len);
    let width = MAP_WIDTH / layers.len() as f64;
    let height = (MAP_HEIGHT / heads as f64).clamp(4.0, 14.0);
    let gap = (0.08 * width.min(height)).clamp(0.4, 1.5);
    let (total_width, total_height) = (AXIS + MAP_WIDTH + 2.0, height * heads as f64 + AXIS);
    let mut svg = format!(
        r#"<svg class="map" viewBox="0 0 {total_width:.1} {total_height:.1}" role="img" aria-label="{title}, by layer and head">"#
    );
    for (layer, row) in layers.iter().enumerate() {
        for (head, measures) in row.iter().enumerate() {
            let (class, value) = cell(measures);
            let _ = write!(
                svg,
                r#"<rect class="{class}" data-head="{layer}.{head}" x="{:.2}" y="{:.2}" width="{:.2}" height="{:.2}" rx="{:.1}"><title>layer {layer}, head {head}: {value}</title></rect>"#,
                AXIS + width * layer as f64 + gap / 2.0,
                height * head as f64 + gap / 2.0,
                width - gap,
                height - gap,
                gap,
            );
        }
    }
    for layer in ticks(layers.len()) {
        let x = AXIS + width * (layer as f64 + 0.5);
        let y = total_height - 6.0;
        let _ = write!(svg, r#"<text class="tick middle" x="{x:.1}" y="{y:.1}">{layer}</text>"#);
    }
    for head in ticks(heads) {
        let y = height * (head as f64 + 0.5) + 3.2;
        let _ =
            write!(svg, r#"<text class="tick end" x="{:.1}" y="{y:.1}">{head}</text>"#, AXIS - 4.0);
    }
    svg.push_str("</svg>");
    svg
}

/// Indices to label on an axis of `count` places: all of few, and round steps of many.
fn ticks(count: usize) -> impl Iterator<Item = usize> {
    let step = [1, 2, 5, 10, 20, 50].into_iter().find(|step| count <= 8 * step).unwrap_or(100);
    (0..count).step_by(step)
}

/// One violin per layer: how H / log n is spread over the layer's heads and queries.
pub fn violins(layers: &[Vec<HeadMeasures>]) -> String {
    const WIDTH: f64 = 1080.0;
    const HEIGHT: f64 = 220.0;
    const LEFT: f64 = 46.0;
    const BOTTOM: f64 = 26.0;
    let slot = (WIDTH - LEFT) / layers.len() as f64;
    let y = |share: f64| 8.0 + (HEIGHT - BOTTOM - 8.0) * (1.0 - share);
    let mut svg = format!(
        r#"<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Distribution of the entropy share in every layer">"#
    );
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{0:.1}" y2="{0:.1}"/><text class="tick end" x="{1:.1}" y="{2:.1}">{share}</text>"#,
            y(share),
            LEFT - 8.0,
            y(share) + 3.5
        );
    }
    let _ = write!(
        svg,
        r#"<text class="tick end" x="{:.1}" y="{:.1}">layer</text>"#,
        LEFT - 8.0,
        HEIGHT - 8.0
    );
    let labelled: Vec<usize> = ticks(layers.len().div_ceil(4)).map(|tick| tick * 4).collect();
    for (layer, heads) in layers.iter().enumerate() {
        let mut counts = [0usize; HISTOGRAM_BINS];
        for head in heads {
            for (sum, count) in counts.iter_mut().zip(head.entropy_share_histogram) {
                *sum += count;
            }
        }
        let centre = LEFT + slot * (layer as f64 + 0.5);
        if let Some(path) = violin(&counts, centre, 0.46 * slot.min(120.0), y) {
            let _ = write!(
                svg,
                r#"<path class="violin" d="{path}"><title>layer {layer}</title></path>"#
            );
            let middle = y(median(&counts));
            let half = 0.3 * slot.min(120.0);
            let _ = write!(
                svg,
                r#"<line class="median" x1="{:.1}" x2="{:.1}" y1="{middle:.1}" y2="{middle:.1}"/>"#,
                centre - half,
                centre + half
            );
        }
        if layers.len() <= 12 || labelled.contains(&layer) {
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
    const WIDTH: f64 = 520.0;
    const HEIGHT: f64 = 300.0;
    const LEFT: f64 = 58.0;
    const BOTTOM: f64 = 42.0;
    let all = |measure: &Measure| ends(layers.iter().flatten().map(measure.of), measure.scale);
    let (x_ends, y_ends) = (all(across), all(up));
    let x = |share: f64| LEFT + 10.0 + (WIDTH - LEFT - 22.0) * share;
    let y = |share: f64| 10.0 + (HEIGHT - BOTTOM - 20.0) * (1.0 - share);
    let mut svg = format!(
        r#"<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{} against {}">"#,
        up.title, across.title
    );
    for value in round_values(x_ends, across.scale) {
        let Some(share) = place(value, x_ends, across.scale) else { continue };
        let (at, bottom) = (x(share), HEIGHT - BOTTOM);
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="6" y2="{bottom:.1}"/><text class="tick middle" x="{at:.1}" y="{:.1}">{}</text>"#,
            bottom + 15.0,
            readable(value)
        );
    }
    for value in round_values(y_ends, up.scale) {
        let Some(share) = place(value, y_ends, up.scale) else { continue };
        let at = y(share);
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{at:.1}" y2="{at:.1}"/><text class="tick end" x="{:.1}" y="{:.1}">{}</text>"#,
            LEFT - 7.0,
            at + 3.5,
            readable(value)
        );
    }
    for (layer, heads) in layers.iter().enumerate() {
        for (head, measures) in heads.iter().enumerate() {
            let (across_value, up_value) = ((across.of)(measures), (up.of)(measures));
            let places =
                place(across_value, x_ends, across.scale).zip(place(up_value, y_ends, up.scale));
            let Some((across_share, up_share)) = places else { continue };
            let _ = write!(
                svg,
                r#"<circle class="label {}" data-head="{layer}.{head}" cx="{:.1}" cy="{:.1}" r="4.5"><title>layer {layer}, head {head}: {}, {}</title></circle>"#,
                measures.label.name(),
                x(across_share),
                y(up_share),
                readable(across_value),
                readable(up_value)
            );
        }
    }
    let _ = write!(
        svg,
        r#"<text class="axis middle" x="{:.1}" y="{:.1}">{}</text></svg>"#,
        f64::midpoint(LEFT, WIDTH),
        HEIGHT - 6.0,
        across.title
    );
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

/// Where a value lies between the ends, from 0 to 1; `None` where it has no place.
fn place(value: f64, [low, high]: [f64; 2], scale: Scale) -> Option<f64> {
    let share = match scale {
        Scale::Logarithmic => (value / low).ln() / (high / low).ln(),
        _ => (value - low) / (high - low),
    };
    match share.is_finite() {
        true => Some(share.clamp(0.0, 1.0)),
        // All values equal: the middle of the ramp.
        false if value.is_finite() && low == high => Some(0.5),
        false => None,
    }
}

/// Round numbers between the ends, for an axis.
fn round_values([low, high]: [f64; 2], scale: Scale) -> Vec<f64> {
    if !(low.is_finite() && high.is_finite()) || low >= high {
        return Vec::new();
    }
    if scale == Scale::Logarithmic {
        let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
        let steps: &[f64] = if (high / low).log10() > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        return decades
            .flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)))
            .filter(|value| (low..=high).contains(value))
            .collect();
    }
    let raw = (high - low) / 5.0;
    let magnitude = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * magnitude)
        .find(|step| *step >= raw)
        .unwrap_or(10.0 * magnitude);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last).map(|multiple| multiple as f64 * step).collect()
}

/// A number with about three significant digits, as a reader wants it.
pub fn readable(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() {
        "not finite".to_owned()
    } else if magnitude >= 1e6 || (magnitude > 0.0 && magnitude < 1e-3) {
        format!("{value:.1e}")
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
            (0.000_12, "1.2e-4"),
            (0.0045, "0.0045"),
            (f64::NAN, "not finite"),
        ];
        for (value, expected) in cases {
            assert_eq!(readable(value), expected);
        }
    }

    #[test]
    fn axes_carry_round_numbers_within_their_ends() {
        assert_eq!(
            round_values([0.0, 1.0], Scale::FromZero),
            [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
        );
        assert_eq!(round_values([3.0, 60.0], Scale::Logarithmic), [5.0, 10.0, 20.0, 50.0]);
        assert_eq!(round_values([1.0, 1.0], Scale::Range), [0.0; 0]);
        assert_eq!(round_values([f64::INFINITY, f64::NEG_INFINITY], Scale::Range), [0.0; 0]);
    }

    #[test]
    fn a_map_of_equal_values_is_drawn_in_the_middle_of_the_ramp() {
        assert_eq!(place(2.0, [2.0, 2.0], Scale::Range), Some(0.5));
        assert_eq!(place(2.0, [2.0, 2.0], Scale::Logarithmic), Some(0.5));
        assert_eq!(place(f64::NAN, [0.0, 1.0], Scale::FromZero), None);
        assert_eq!(place(0.0, [1.0, 2.0], Scale::Logarithmic), None);
    }
}
