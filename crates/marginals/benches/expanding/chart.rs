//! Two log-log charts as one SVG that serves light and dark pages.

use std::fmt::Write;

/// A line through points, named where it ends.
pub struct Curve {
    pub name: &'static str,
    /// Class of its colour.
    pub class: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// One chart.
pub struct Chart {
    pub title: String,
    pub x: &'static str,
    pub y: &'static str,
    pub curves: Vec<Curve>,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 320.0;
/// Left, right, top and bottom margins of a chart.
const MARGINS: [f64; 4] = [58.0, 18.0, 62.0, 46.0];

const STYLE: &str = "
svg{font:12px system-ui,sans-serif;background:#fcfcfb}
text{fill:#0b0b0b}.quiet{fill:#52514e}.grid{stroke:#e1e0d9;stroke-width:1}
.axis{stroke:#c3c2b7;stroke-width:1}.line{fill:none;stroke-width:2;stroke-linejoin:round}
.title{font-weight:600}.end{text-anchor:end}.middle{text-anchor:middle}
.line.a{stroke:#eda100}.line.b{stroke:#1baf7a}.line.c{stroke:#2a78d6}
circle{stroke:#fcfcfb;stroke-width:2}
circle.a{fill:#eda100}circle.b{fill:#1baf7a}circle.c{fill:#2a78d6}
@media (prefers-color-scheme:dark){
svg{background:#1a1a19}text{fill:#fff}.quiet{fill:#c3c2b7}.grid{stroke:#2c2c2a}.axis{stroke:#383835}
.line.a{stroke:#c98500}.line.b{stroke:#199e70}.line.c{stroke:#3987e5}circle{stroke:#1a1a19}
circle.a{fill:#c98500}circle.b{fill:#199e70}circle.c{fill:#3987e5}}
";

/// Powers of two or ten that enclose the values, in logarithms to base 10.
fn ends(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let low = values.clone().fold(f64::INFINITY, f64::min).log10();
    let high = values.fold(f64::NEG_INFINITY, f64::max).log10();
    let room = 0.06 * (high - low).max(0.5);
    (low - room, high + room)
}

/// 1, 2 and 5 times the powers of ten within the ends, thinned to at most eight.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let all = |steps: &[f64]| -> Vec<f64> {
        (low.floor() as i32..=high.ceil() as i32)
            .flat_map(|power| steps.iter().map(move |s| s * 10f64.powi(power)))
            .filter(|x| (low..=high).contains(&x.log10()))
            .collect()
    };
    let fine = all(&[1.0, 2.0, 5.0]);
    if fine.len() <= 8 { fine } else { all(&[1.0]) }
}

fn readable(x: f64) -> String {
    match x {
        x if x >= 1e6 => format!("{}M", x / 1e6),
        x if x >= 1e3 => format!("{}k", x / 1e3),
        x => format!("{}", (x * 1e6).round() / 1e6),
    }
}

/// The charts side by side.
pub fn page(charts: &[Chart]) -> String {
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {HEIGHT}" width="{}" role="img" aria-label="Time of expanding attention by context length and by window"><style>{STYLE}</style>"#,
        WIDTH * charts.len() as f64,
        WIDTH * charts.len() as f64,
    );
    for (index, chart) in charts.iter().enumerate() {
        let _ = write!(svg, r#"<g transform="translate({},0)">"#, WIDTH * index as f64);
        draw(&mut svg, chart);
        svg.push_str("</g>");
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, chart: &Chart) {
    let [left, right, top, bottom] = MARGINS;
    let points = || chart.curves.iter().flat_map(|curve| curve.points.iter());
    let across = ends(points().map(|p| p.0));
    let up = ends(points().map(|p| p.1));
    let share = |value: f64, (low, high): (f64, f64)| (value.log10() - low) / (high - low);
    let x = |value| left + share(value, across) * (WIDTH - left - right);
    let y = |value| HEIGHT - bottom - share(value, up) * (HEIGHT - top - bottom);
    let _ = write!(
        svg,
        r#"<text class="title" x="{left}" y="20">{}</text><text class="quiet middle" x="{:.0}" y="{:.0}">{}</text><text class="quiet" x="{:.0}" y="{:.0}">{}</text>"#,
        chart.title,
        (left + WIDTH - right) / 2.0,
        HEIGHT - 8.0,
        chart.x,
        6.0,
        top - 8.0,
        chart.y,
    );
    for tick in ticks(up) {
        let at = y(tick);
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{left}" x2="{:.0}" y1="{at:.1}" y2="{at:.1}"/><text class="quiet end" x="{:.0}" y="{:.1}">{}</text>"#,
            WIDTH - right,
            left - 6.0,
            at + 4.0,
            readable(tick),
        );
    }
    for tick in ticks(across) {
        let at = x(tick);
        let _ = write!(
            svg,
            r#"<text class="quiet middle" x="{at:.1}" y="{:.0}">{}</text>"#,
            HEIGHT - bottom + 16.0,
            readable(tick),
        );
    }
    let floor = HEIGHT - bottom;
    let _ = write!(
        svg,
        r#"<line class="axis" x1="{left}" x2="{:.0}" y1="{floor}" y2="{floor}"/>"#,
        WIDTH - right
    );
    // The legend runs along the top: lines may end close together.
    let mut along = left;
    for curve in &chart.curves {
        let _ = write!(
            svg,
            r#"<line class="line {}" x1="{along:.0}" x2="{:.0}" y1="36" y2="36"/><text x="{:.0}" y="40">{}</text>"#,
            curve.class,
            along + 16.0,
            along + 21.0,
            curve.name,
        );
        along += 36.0 + 5.9 * curve.name.len() as f64;
    }
    for curve in &chart.curves {
        let path: Vec<String> =
            curve.points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
        let _ =
            write!(svg, r#"<polyline class="line {}" points="{}"/>"#, curve.class, path.join(" "));
        for &point in &curve.points {
            let _ = write!(
                svg,
                r#"<circle class="{}" cx="{:.1}" cy="{:.1}" r="4.5"><title>{}: {} {}, {:.3} {}</title></circle>"#,
                curve.class,
                x(point.0),
                y(point.1),
                curve.name,
                readable(point.0.round()),
                chart.x,
                point.1,
                chart.y,
            );
        }
    }
}
