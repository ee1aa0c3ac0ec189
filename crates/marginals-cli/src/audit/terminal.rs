//! The audit as a table for the terminal.

use std::fmt::Write;

use super::catalogue::MEASURES;
use super::document::Document;
use super::label::Label;
use super::measure::{HeadMeasures, label_counts};
use crate::message;

/// Whether the reader is a person at a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// With colours.
    Coloured,
    /// For files and pipes.
    Plain,
}

/// One row per head, then what the labels mean and how many heads carry each.
pub fn table(document: &Document, layers: &[Vec<HeadMeasures>], style: Style) -> String {
    let paint = |code: &str, text: &str| match style {
        Style::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
        Style::Plain => text.to_owned(),
    };
    let (model, text) = (&document.model, &document.text);
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{} ({}): {} layers of {} heads · {}: {} tokens\n",
        paint("1", &message::on_one_line(&model.name)),
        model.family,
        model.layers,
        model.heads,
        message::on_one_line(&text.source),
        if text.token_count < text.token_count_of_whole_text {
            format!("the first {} of {}", text.token_count, text.token_count_of_whole_text)
        } else {
            text.token_count.to_string()
        },
    );

    let mut header = "head  label         ".to_owned();
    for measure in &MEASURES {
        let (title, width, _) = measure.column;
        let _ = write!(header, "  {title:>width$}");
    }
    header.push_str("  heaviest key");
    let _ = writeln!(out, "{}", paint("2", &header));
    for (layer, heads) in layers.iter().enumerate() {
        for (head, measures) in heads.iter().enumerate() {
            let name = format!("{layer}.{head}");
            let label = format!("{:<14}", measures.label.name());
            let _ = write!(out, "{name:<5} {}", paint(colour(measures.label), &label));
            for measure in &MEASURES {
                let (_, width, digits) = measure.column;
                let _ = write!(out, "  {}", number((measure.of)(measures), width, digits));
            }
            let written = text.written(measures.heaviest_key);
            let _ = writeln!(out, "  {} {}", measures.heaviest_key, paint("2", &written));
        }
        if layer + 1 < layers.len() {
            out.push('\n');
        }
    }

    let _ =
        writeln!(out, "\n{}", paint("2", "Information in nats; columns are means over queries:"));
    for measure in &MEASURES {
        let _ = writeln!(out, "  {:<8} {}", measure.column.0, measure.definition);
    }
    let _ = writeln!(out, "\n{}", paint("2", "Labels, the first whose rule holds:"));
    for (label, count) in label_counts(layers) {
        let name = format!("{:<14}", label.name());
        let _ = writeln!(out, "  {} {count:>4}  {}", paint(colour(label), &name), label.rule());
    }
    out
}

/// A number that stays within its column: in powers of ten where it would not.
fn number(value: f64, width: usize, digits: usize) -> String {
    let plain = format!("{value:>width$.digits$}");
    match plain.len() > width {
        true => format!("{value:>width$.1e}"),
        false => plain,
    }
}

fn colour(label: Label) -> &'static str {
    match label {
        Label::Sink => "31",
        Label::PreviousToken => "34",
        Label::Local => "36",
        Label::Diffuse => "90",
        Label::Content => "32",
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::{ModelSection, TextSection, TokenSection};
    use super::super::measure::HISTOGRAM_BINS;
    use super::*;

    fn head(label: Label, entropy: f64, samples: f64) -> HeadMeasures {
        HeadMeasures {
            entropy,
            effective_keys: entropy.exp(),
            kl: 0.25,
            log_evidence: -12.5,
            max_probability: 0.75,
            first_token_mass: 0.125,
            heaviest_key: 1,
            heaviest_key_mass: 0.5,
            expected_distance: 31.5,
            previous_token_mass: 0.0625,
            neighbour_mass: 0.375,
            map_gap: 1.5,
            value_variance: 1234.5,
            samples_for_one_percent: samples,
            entropy_quantiles: [0.0; 5],
            entropy_share_histogram: [0; HISTOGRAM_BINS],
            label,
        }
    }

    #[test]
    fn the_table_is_readable() {
        let layers = [
            vec![head(Label::Sink, 0.5, 40.0), head(Label::Diffuse, 5.5, 2.5e9)],
            vec![head(Label::PreviousToken, f64::NAN, f64::INFINITY)],
        ];
        let token =
            |piece: &str, start, end| TokenSection { id: 7, piece: piece.into(), start, end };
        let model = ModelSection {
            name: "small".into(),
            family: "bert",
            layers: 2,
            heads: 2,
            key_heads: 2,
            context: Some(512),
            visible: "all",
        };
        let text = TextSection {
            source: "novel.txt".into(),
            text: "It is".into(),
            token_count: 2,
            token_count_of_whole_text: 9,
            tokens: vec![token("It", 0, 2), token("Ġis", 2, 5)],
        };
        let document = Document::new(model, text, &layers, &[]);
        let plain = table(&document, &layers, Style::Plain);
        assert_eq!(plain.trim_end(), include_str!("terminal_table.txt").trim_end(), "{plain}");
        assert!(table(&document, &layers, Style::Coloured).contains("\x1b[31msink"));
    }

    #[test]
    fn numbers_keep_to_their_columns() {
        assert_eq!(number(12.345, 6, 1), "  12.3");
        assert_eq!(number(123_456_789.0, 8, 0), "   1.2e8");
        assert_eq!(number(f64::NAN, 6, 1), "   NaN");
        assert_eq!(number(f64::INFINITY, 6, 1), "   inf");
    }
}
