//! A sentence with its edges as arcs, readable on light and dark backgrounds.

use std::fmt::Write;

use super::conllu::Sentence;
use super::measure::Shown;

/// Least probability of an edge that is drawn beside the predicted ones.
const DRAWN: f64 = 0.05;

const MARGIN: f64 = 24.0;
const TOP: f64 = 52.0;
/// Heights of the lowest arc and of each one over another.
const LOWEST: f64 = 26.0;
const STEP: f64 = 24.0;
/// From the line of the words to where arcs begin.
const ABOVE: f64 = 18.0;
const BELOW: f64 = 10.0;
const LEGEND: f64 = 56.0;

/// An edge, from a word to its head, by number; 0 is the root.
#[derive(Clone, Copy)]
struct Arc {
    word: usize,
    head: usize,
    probability: f64,
    is_true: bool,
}

impl Arc {
    fn ends(&self) -> (usize, usize) {
        (self.word.min(self.head), self.word.max(self.head))
    }
}

/// Heights of arcs by which none runs through another that lies under it.
fn levels(arcs: &[Arc]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..arcs.len()).collect();
    let length = |arc: &Arc| arc.ends().1 - arc.ends().0;
    order.sort_by_key(|&arc| length(&arcs[arc]));
    let mut levels = vec![0; arcs.len()];
    for (place, &arc) in order.iter().enumerate() {
        let (from, to) = arcs[arc].ends();
        let meets = |other: &usize| {
            let (a, b) = arcs[*other].ends();
            a < to && from < b
        };
        let under = order[..place].iter().filter(|other| meets(other));
        levels[arc] = under.map(|&other| levels[other] + 1).max().unwrap_or(0);
    }
    levels
}

/// The predicted edges above the words, other likely ones below, each with its probability.
pub fn draw(title: &str, sentence: &Sentence, shown: &Shown) -> String {
    let forms = || ["root"].into_iter().chain(sentence.words.iter().map(|w| w.form.as_str()));
    let (mut places, mut x) = (Vec::new(), MARGIN);
    for form in forms() {
        let room = (8.2 * form.chars().count() as f64 + 16.0).max(48.0);
        places.push(x + room / 2.0);
        x += room;
    }
    let width = (x + MARGIN).max(640.0);
    let (mut predicted, mut others) = (Vec::new(), Vec::new());
    for (place, (probabilities, word)) in shown.marginals.iter().zip(&sentence.words).enumerate() {
        for (head, &probability) in probabilities.iter().enumerate() {
            let arc = Arc { word: place + 1, head, probability, is_true: head == word.head };
            if shown.heads[place] == head {
                predicted.push(arc);
            } else if probability >= DRAWN || arc.is_true {
                others.push(arc);
            }
        }
    }
    let height = |levels: &[usize]| match levels.iter().max() {
        Some(&most) => LOWEST + STEP * most as f64,
        None => 0.0,
    };
    let (over, under) = (levels(&predicted), levels(&others));
    let words = TOP + height(&over) + ABOVE;
    let bottom = words + BELOW + height(&under) + 22.0;
    let all = bottom + LEGEND;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {all:.0}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"14\">\n<style>\n\
         .ink {{ fill: #222; }} .quiet {{ fill: #666; }} .page {{ fill: #fff; }}\n\
         .halo {{ stroke: #fff; stroke-width: 4; paint-order: stroke; }}\n\
         .right {{ stroke: #2f7fc1; fill: none; }} .wrong {{ stroke: #d9682b; fill: none; }}\n\
         .other {{ stroke: #8a8a8a; fill: none; }}\n\
         @media (prefers-color-scheme: dark) {{ .ink {{ fill: #e4e4e4; }} .quiet {{ fill: #a6a6a6; }}\n\
         .page {{ fill: #16181c; }} .halo {{ stroke: #16181c; }} }}\n</style>\n\
         <rect class=\"page\" width=\"{width:.0}\" height=\"{all:.0}\"/>\n\
         <text class=\"ink\" x=\"{MARGIN}\" y=\"24\" font-weight=\"600\">{}</text>\n",
        escape(title)
    );
    for (arcs, levels, is_above) in [(&predicted, &over, true), (&others, &under, false)] {
        // The high ones first, so that numbers of lower ones stand before them.
        let mut order: Vec<usize> = (0..arcs.len()).collect();
        order.sort_by_key(|&arc| std::cmp::Reverse(levels[arc]));
        let base = if is_above { words - ABOVE } else { words + BELOW };
        for &arc in &order {
            let (class, dashes) = match (is_above, arcs[arc].is_true) {
                (true, true) => ("right", ""),
                (true, false) => ("wrong", ""),
                (false, true) => ("right", " stroke-dasharray=\"5 4\""),
                (false, false) => ("other", " stroke-dasharray=\"5 4\""),
            };
            let up = LOWEST + STEP * levels[arc] as f64;
            let (curve, middle) = curve(&arcs[arc], &places, base, if is_above { -up } else { up });
            let stroke = 0.8 + 2.4 * arcs[arc].probability;
            let _ = writeln!(
                svg,
                "<path class=\"{class}\" stroke-width=\"{stroke:.2}\"{dashes} d=\"{curve}\"/>"
            );
            let y = if is_above { base - up + 4.0 } else { base + up + 5.0 };
            let _ = writeln!(
                svg,
                "<text class=\"ink halo\" x=\"{middle:.1}\" y=\"{y:.1}\" font-size=\"11\" \
                 text-anchor=\"middle\">{}</text>",
                percent(arcs[arc].probability)
            );
        }
    }
    for (form, x) in forms().zip(&places) {
        let class = if *x == places[0] { "quiet" } else { "ink" };
        let _ = writeln!(
            svg,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{words:.1}\" text-anchor=\"middle\">{}</text>",
            escape(form)
        );
    }
    let keys = [
        ("right", "", "predicted, and true"),
        ("wrong", "", "predicted, and not true"),
        ("right", " stroke-dasharray=\"5 4\"", "true, and not predicted"),
        ("other", " stroke-dasharray=\"5 4\"", "neither, 5% or more"),
    ];
    for (number, (class, dashes, name)) in keys.into_iter().enumerate() {
        let x = MARGIN + 300.0 * (number % 2) as f64;
        let y = bottom + 14.0 + 22.0 * (number / 2) as f64;
        let _ = writeln!(
            svg,
            "<path class=\"{class}\" stroke-width=\"2\"{dashes} d=\"M{x} {y:.1}h30\"/>\
             <text class=\"ink\" x=\"{}\" y=\"{:.1}\" font-size=\"12\">{name}</text>",
            x + 38.0,
            y + 4.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// From the head to the word, with an arrow's point there; and where its middle is.
fn curve(arc: &Arc, places: &[f64], base: f64, height: f64) -> (String, f64) {
    // Edges of a head's two sides begin apart, and its own edge ends between them.
    let side = if arc.word > arc.head { 1.0 } else { -1.0 };
    let (from, to) = (places[arc.head] + 6.0 * side, places[arc.word]);
    let (top, point) = (base + height, 5.0 * height.signum());
    let bend = (14.0 * side).clamp(-(to - from).abs() / 2.0, (to - from).abs() / 2.0);
    let path = format!(
        "M{from:.1} {base:.1}C{from:.1} {top:.1} {from:.1} {top:.1} {:.1} {top:.1}H{:.1}\
         C{to:.1} {top:.1} {to:.1} {top:.1} {to:.1} {base:.1}\
         m-3.5 {point}L{to:.1} {base:.1}l3.5 {point}",
        from + bend,
        to - bend
    );
    (path, (from + to) / 2.0)
}

fn percent(probability: f64) -> String {
    match 100.0 * probability {
        share if share < 1.0 => "&lt; 1%".to_owned(),
        share if share > 99.0 => "&gt; 99%".to_owned(),
        share => format!("{share:.0}%"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::conllu::Word;
    use super::*;

    fn arc(word: usize, head: usize) -> Arc {
        Arc { word, head, probability: 1.0, is_true: true }
    }

    #[test]
    fn arcs_lie_over_those_they_meet() {
        // 1 → 2, 2 → 4, 3 → 4, 4 → root.
        assert_eq!(levels(&[arc(1, 2), arc(2, 4), arc(3, 4), arc(4, 0)]), [0, 1, 0, 2]);
        // Ends alone do not meet; edges that cross do.
        assert_eq!(levels(&[arc(1, 2), arc(2, 3)]), [0, 0]);
        assert_eq!(levels(&[arc(2, 3), arc(1, 2)]), [0, 0]);
        assert_eq!(levels(&[arc(1, 3), arc(2, 4)]), [0, 1]);
    }

    #[test]
    fn predicted_true_and_likely_edges_are_drawn() {
        let word = |form: &str, head| Word {
            form: form.into(),
            head,
            space_after: true,
            joins_words: true,
        };
        let sentence = Sentence { id: "a".into(), words: vec![word("A<b", 2), word("c", 0)] };
        let shown = Shown {
            heads: vec![0, 1],
            marginals: vec![vec![0.97, 0.0, 0.03], vec![0.06, 0.94, 0.0]],
        };
        let svg = draw("A & b", &sentence, &shown);
        // Two predicted edges, which are wrong, and the true ones, one of them of 3%; the legend has four.
        assert_eq!(svg.matches("<path class=\"wrong\"").count(), 2 + 1);
        assert_eq!(svg.matches("<path class=\"right\"").count(), 2 + 2);
        assert_eq!(svg.matches("<path class=\"other\"").count(), 1);
        for text in [">97%<", ">94%<", ">3%<", ">6%<", "A&lt;b", "A &amp; b"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
