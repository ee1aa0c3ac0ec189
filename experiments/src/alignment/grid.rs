//! Posteriors of one verse as grids of words, readable on light and dark backgrounds.

use std::fmt::Write;

use super::runs::Shown;

/// A grid: its title, and the alignment that it shows.
pub struct Grid<'s> {
    pub title: String,
    pub shown: &'s Shown,
}

const CELL: f64 = 26.0;
const GAP: f64 = 34.0;
const MARGIN: f64 = 16.0;
/// Width of a letter.
const LETTER: f64 = 7.4;
const TITLE: f64 = 30.0;
const LEGEND: f64 = 34.0;
/// Probabilities that are written into their cells.
const WRITTEN: f64 = 0.1;

/// Grids beside each other: a column for each target word, a row for each source word and one for none.
pub fn draw(grids: &[Grid<'_>], source: &[&str], target: &[&str]) -> String {
    let rows: Vec<&str> = source.iter().copied().chain(["(no word)"]).collect();
    let widest = |words: &[&str]| {
        LETTER * words.iter().map(|word| word.chars().count()).max().unwrap_or(0) as f64 + 10.0
    };
    let (left, top) = (MARGIN + widest(&rows), TITLE + widest(target));
    let (across, down) = (CELL * target.len() as f64, CELL * rows.len() as f64);
    let width = left + (across + GAP) * grids.len() as f64 + MARGIN;
    let height = top + down + LEGEND;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n<style>\n\
         .ink {{ fill: #222; }} .page {{ fill: #fff; }} .faint {{ stroke: #d8d8d8; fill: none; }}\n\
         .best {{ stroke: #d9682b; stroke-width: 2; fill: none; }} .mass {{ fill: #2f7fc1; }}\n\
         @media (prefers-color-scheme: dark) {{ .ink {{ fill: #e4e4e4; }} .page {{ fill: #16181c; }}\n\
         .faint {{ stroke: #3c3c3c; }} }}\n</style>\n\
         <rect class=\"page\" width=\"{width:.0}\" height=\"{height:.0}\"/>\n"
    );
    for (number, Grid { title, shown }) in grids.iter().enumerate() {
        let x = left + (across + GAP) * number as f64;
        let _ = writeln!(
            svg,
            "<text class=\"ink\" x=\"{x:.1}\" y=\"20\" font-weight=\"600\">{title}</text>"
        );
        for (column, word) in target.iter().enumerate() {
            let at = x + CELL * (column as f64 + 0.5) + 4.0;
            let _ = writeln!(
                svg,
                "<text class=\"ink\" transform=\"translate({at:.1} {:.1}) rotate(-90)\">{word}</text>",
                top - 6.0
            );
        }
        let lines = (0..=rows.len())
            .map(|row| format!("M{x:.1} {:.1}h{across:.1}", top + CELL * row as f64));
        let bars =
            (0..=target.len()).map(|c| format!("M{:.1} {top:.1}v{down:.1}", x + CELL * c as f64));
        let path: String = lines.chain(bars).collect();
        let _ = writeln!(svg, "<path class=\"faint\" d=\"{path}\"/>");
        for (column, probabilities) in shown.marginals.iter().enumerate() {
            let at = x + CELL * column as f64;
            for (row, &p) in probabilities.iter().enumerate().filter(|(_, p)| **p >= 0.005) {
                cell(&mut svg, (at, top + CELL * row as f64), p);
            }
            let best = shown.best[column].unwrap_or(source.len());
            let _ = writeln!(
                svg,
                "<rect class=\"best\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                at + 1.5,
                top + CELL * best as f64 + 1.5,
                CELL - 3.0,
                CELL - 3.0
            );
        }
    }
    for (row, word) in rows.iter().enumerate() {
        let y = top + CELL * (row as f64 + 0.5) + 4.5;
        let _ = writeln!(
            svg,
            "<text class=\"ink\" x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{word}</text>",
            left - 8.0
        );
    }
    let y = top + down + 22.0;
    let _ = writeln!(
        svg,
        "<rect class=\"mass\" x=\"{left:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\"/>\
         <text class=\"ink\" x=\"{:.1}\" y=\"{y:.1}\">probability, in %</text>\
         <rect class=\"best\" x=\"{:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\"/>\
         <text class=\"ink\" x=\"{:.1}\" y=\"{y:.1}\">most probable alignment</text>\n</svg>",
        y - 10.5,
        left + 18.0,
        left + 150.0,
        y - 10.5,
        left + 168.0
    );
    svg
}

/// A cell as full as it is probable.
fn cell(svg: &mut String, (x, y): (f64, f64), p: f64) {
    let _ = writeln!(
        svg,
        "<rect class=\"mass\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{CELL}\" height=\"{CELL}\" fill-opacity=\"{:.2}\"/>",
        0.1 + 0.8 * p
    );
    if p >= WRITTEN {
        let _ = writeln!(
            svg,
            "<text class=\"ink\" x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\" text-anchor=\"middle\">{:.0}</text>",
            x + CELL / 2.0,
            y + CELL / 2.0 + 3.5,
            100.0 * p
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likely_cells_are_filled_and_numbered_and_picks_framed() {
        let shown = Shown {
            marginals: vec![vec![0.9, 0.1, 0.0], vec![0.001, 0.049, 0.95]],
            best: vec![Some(0), None],
        };
        let grid = Grid { title: "a verse".into(), shown: &shown };
        let svg = draw(&[grid], &["the", "light"], &["la", "luz"]);
        let count = |what: &str| svg.matches(what).count();
        // Four cells of half a percent or more, and the legend's; a frame a column, and the legend's.
        assert_eq!((count("class=\"mass\""), count("class=\"best\"")), (5, 3));
        assert_eq!(count("font-size=\"10\""), 3);
        assert!(
            [">90<", ">10<", ">95<", ">(no word)<", ">luz<"].iter().all(|own| svg.contains(own))
        );
    }
}
