//! The audit on the terminal: what kinds of heads there are and the clearest of each, or every head.

mod effects;

use std::collections::HashSet;

use console::{measure_text_width, truncate_str};

pub use self::effects::effects;
use super::catalogue::{Group, MEASURES, Measure};
use super::distance_prior::DistancePrior;
use super::document::{Document, HeadSection};
use super::head::{HeadMeasures, mean_and_deviation};
use super::label::Label;
use super::measure::label_counts;
use super::numbers::fixed;
use super::rule::{clearest, closeness, margin_of};
use crate::explain::page::Page;
use crate::message;

/// Columns that everything but names from files keeps to.
const WIDTH: usize = 80;
/// Heads of one label that the list of counts names.
const NAMED: usize = 4;
/// Heads of one label that are shown with their numbers.
const SHOWN: usize = 2;
/// Texts that are named.
const MOST_TEXTS: usize = 8;

/// Whether the reader is a person at a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// With colours.
    Coloured,
    /// For files and pipes.
    Plain,
}

/// One head with what is shown of it.
struct Head<'a> {
    name: String,
    measures: &'a HeadMeasures,
    section: &'a HeadSection,
    /// 0 where nothing would change the label.
    margin: f64,
}

/// How many heads carry each label and which the clearest are, their numbers, and what the labels mean.
pub fn summary(document: &Document, layers: &[Vec<HeadMeasures>], style: Style) -> String {
    let mut page = Page::new(WIDTH, style == Style::Coloured);
    title(&mut page, document);
    let heads = heads(document, layers);
    let several = !document.texts.is_empty();

    page.line(&format!("  {}\n", closeness(layers)));
    let stable = if several { "  stable" } else { "" };
    let header = format!("{:<15}  heads{stable}  clearest heads, with their margins", "label");
    page.line(&page.paint("2", &header));
    let clearest = |label: Label, count: usize| -> Vec<&Head<'_>> {
        clearest(layers, label, count).into_iter().map(|(index, _)| &heads[index]).collect()
    };
    for (label, count) in label_counts(layers) {
        if count == 0 {
            continue;
        }
        let name = page.paint(colour(label), &format!("{:<15}", label.name()));
        let stable = document.labels.iter().find(|own| own.name == label.name());
        let stable = match stable.and_then(|own| own.stable_heads) {
            Some(stable) => format!("  {stable:>6}"),
            None => String::new(),
        };
        let named = clearest(label, NAMED);
        let named: Vec<String> =
            named.iter().map(|head| format!("{} {:.2}", head.name, head.margin)).collect();
        page.line(&format!("{name}  {count:>5}{stable}  {}", named.join("  ")));
    }

    page.line("");
    let header = format!(
        "{:<6} {:<15}  {:>6}  {:>6}  {:>5}  {:>5}  what its rule reads",
        "head", "label", "margin", "keys", "KL", "gap"
    );
    page.line(&page.paint("2", &header));
    for label in Label::ALL {
        for head in clearest(label, SHOWN) {
            let reads = label.definition().condition.map(|condition| condition.measure);
            let reads = MEASURES.iter().find(|measure| Some(measure.name) == reads);
            let reads = match reads {
                Some(measure) => {
                    format!("{} {}", measure.name, number((measure.of)(head.measures), 4, 2))
                }
                None => format!("nearest: {}", head.section.margin_label.unwrap_or("none")),
            };
            page.line(&format!(
                "{:<6} {}  {}  {}  {}  {}  {reads}",
                head.name,
                page.paint(colour(label), &format!("{:<15}", label.name())),
                number(head.margin, 6, 2),
                number(head.measures.effective_keys, 6, 1),
                number(head.measures.kl, 5, 2),
                number(head.measures.map_gap, 5, 2),
            ));
        }
    }
    page.line("");
    page.field("margin", 7, "the smallest change of one measure that would give another label");
    page.field("keys", 7, "effective number of keys, exp of the mean entropy");
    page.field("KL", 7, "from the prior, in nats");
    page.field("gap", 7, "the relative change if each query took only its likeliest key");
    rules(&mut page, layers);
    page.into_text()
}

/// Every head and measure, one table for each group of measures, then what they and the labels mean.
pub fn table(document: &Document, layers: &[Vec<HeadMeasures>], style: Style) -> String {
    let mut page = Page::new(WIDTH, style == Style::Coloured);
    title(&mut page, document);
    let heads = heads(document, layers);
    for group in Group::ALL {
        let measures: Vec<&Measure> =
            MEASURES.iter().filter(|measure| measure.group == group).collect();
        // Many columns stand closer.
        let gap = if measures.len() > 8 { " " } else { "  " };
        page.heading(group.title());
        let mut header = format!("{:<5}", "head");
        if group == Group::Certainty {
            header += &format!(" {:<15}{gap}margin", "label");
            if !document.texts.is_empty() {
                header += &format!("{gap}agree");
            }
        }
        for measure in &measures {
            let (title, width, _) = measure.column;
            header += &format!("{gap}{title:>width$}");
        }
        match group {
            Group::Distance => header += "  best prior of distance",
            Group::Value => header += "  heaviest key",
            Group::Certainty | Group::Place => {}
        }
        page.line(&page.paint("2", &header));
        for (at, head) in heads.iter().enumerate() {
            if at > 0 && heads[at - 1].section.layer != head.section.layer {
                page.line("");
            }
            let row = row(&page, document, group, &measures, gap, head);
            page.line(&row);
            if let Some(spread) = spread_row(document, group, &measures, gap, head.section) {
                page.line(&page.paint("2", &spread));
            }
        }
        page.line("");
        for measure in &measures {
            page.field(measure.column.0, 7, measure.definition);
        }
        if !document.texts.is_empty() {
            page.field("±", 7, "standard deviation over the texts");
        }
    }
    rules(&mut page, layers);
    page.into_text()
}

fn row(
    page: &Page,
    document: &Document,
    group: Group,
    measures: &[&Measure],
    gap: &str,
    head: &Head<'_>,
) -> String {
    let mut row = format!("{:<5}", head.name);
    if group == Group::Certainty {
        let label = head.measures.label;
        let name = page.paint(colour(label), &format!("{:<15}", label.name()));
        row += &format!(" {name}{gap}{}", number(head.margin, 6, 2));
        if let Some(over) = &head.section.over_texts {
            let agree = format!("{}/{}", over.agreeing_texts, document.texts.len());
            row += &format!("{gap}{agree:>5}");
        }
    }
    for measure in measures {
        let (_, width, digits) = measure.column;
        row += &format!("{gap}{}", number((measure.of)(head.measures), width, digits));
    }
    match group {
        Group::Distance => row += &format!("  {}", prior_in_words(head.measures.distance_prior)),
        Group::Value => {
            let key = head.measures.heaviest_key;
            let written = document.text.written(key);
            let room = WIDTH.saturating_sub(measure_text_width(&row) + 3 + key.to_string().len());
            let written = truncate_str(&written, room, "…");
            row += &format!("  {key} {}", page.paint("2", &written));
        }
        Group::Certainty | Group::Place => {}
    }
    row
}

/// Standard deviations over texts, below the means.
fn spread_row(
    document: &Document,
    group: Group,
    measures: &[&Measure],
    gap: &str,
    section: &HeadSection,
) -> Option<String> {
    let over = section.over_texts.as_ref()?;
    let margins = || over.by_text.iter().filter_map(|text| text.margin);
    let mut row = format!("{:<5}", "  ±");
    if group == Group::Certainty {
        let margin = number(mean_and_deviation(margins()).1, 6, 2);
        row += &format!(" {:<15}{gap}{margin}{gap}{:>5}", "", "");
    }
    for measure in measures {
        let (_, width, digits) = measure.column;
        let deviation = over.deviations.get(measure.name).and_then(|number| number.as_f64());
        row += &format!("{gap}{}", number(deviation.unwrap_or(f64::NAN), width, digits));
    }
    debug_assert!(!document.texts.is_empty());
    Some(row)
}

fn title(page: &mut Page, document: &Document) {
    let (model, text) = (&document.model, &document.text);
    let size = format!("({}): {} layers of {} heads", model.family, model.layers, model.heads);
    let name = page.paint("1", &message::on_one_line(&model.name));
    page.line(&format!("{name} {size}"));
    let tokens = |count: usize, of: usize| match count < of {
        true => format!("the first {count} of {of} tokens"),
        false => format!("{count} tokens"),
    };
    let named = |source: &str, count, of| {
        format!("  {}: {}", message::on_one_line(source), tokens(count, of))
    };
    if document.texts.is_empty() {
        let line = named(&text.source, text.token_count, text.token_count_of_whole_text);
        page.line(&line);
    }
    for text in document.texts.iter().take(MOST_TEXTS) {
        let line = named(&text.source, text.token_count, text.token_count_of_whole_text);
        page.line(&line);
    }
    if document.texts.len() > MOST_TEXTS {
        page.line(&format!("  and {} more texts", document.texts.len() - MOST_TEXTS));
    }
    if !document.texts.is_empty() {
        page.line("  Numbers are means over the texts.");
    }
}

/// Rules of the labels that occur.
fn rules(page: &mut Page, layers: &[Vec<HeadMeasures>]) {
    let occurring: HashSet<Label> = layers.iter().flatten().map(|head| head.label).collect();
    page.heading("Labels, the first whose rule holds:");
    for label in Label::ALL.into_iter().filter(|label| occurring.contains(label)) {
        page.field(label.name(), 15, label.rule());
    }
}

fn heads<'a>(document: &'a Document, layers: &'a [Vec<HeadMeasures>]) -> Vec<Head<'a>> {
    let pairs = document.heads.iter().zip(layers.iter().flatten());
    let head = |(section, measures): (&'a HeadSection, &'a HeadMeasures)| Head {
        name: format!("{}.{}", section.layer, section.head),
        measures,
        section,
        margin: margin_of(measures).map_or(0.0, |margin| margin.distance),
    };
    pairs.map(head).collect()
}

fn prior_in_words(prior: Option<DistancePrior>) -> String {
    match prior {
        None => "-".to_owned(),
        Some(DistancePrior::Flat) => "flat".to_owned(),
        Some(DistancePrior::Geometric { rho }) => format!("geometric, ρ = {rho:.3}"),
        Some(DistancePrior::PowerLaw { exponent }) => format!("power law, α = {exponent:.2}"),
        Some(DistancePrior::Window { reach, outside }) => {
            format!("window of {reach}, {outside:.3} beyond")
        }
    }
}

/// A number that stays within its column: in powers of ten where it would not, a dash where it is
/// unknown.
fn number(value: f64, width: usize, digits: usize) -> String {
    if value.is_nan() {
        return format!("{:>width$}", "-");
    }
    let plain = format!("{:>width$}", fixed(value, digits));
    match plain.len() > width {
        true => format!("{value:>width$.1e}"),
        false => plain,
    }
}

fn colour(label: Label) -> &'static str {
    match label {
        Label::PreviousToken | Label::NextToken | Label::SameToken => "34",
        Label::Induction | Label::DuplicateToken => "35",
        Label::FirstToken
        | Label::Separator
        | Label::LastToken
        | Label::Punctuation
        | Label::Sink => "31",
        Label::Local | Label::Positional => "36",
        Label::Diffuse | Label::Mixed => "90",
        Label::Content => "32",
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::{ModelSection, Reading, TextSection, TokenSection, means};
    use super::super::head::tests::head;
    use super::super::rule::label_of;
    use super::*;

    /// Heads of two layers on a text, and on another where all of them are surer of the token before.
    fn readings() -> Vec<Reading> {
        let labelled = |mut head: HeadMeasures| {
            head.label = label_of(&head);
            head
        };
        let of = |source: &str, previous_token_mass: f64| {
            let plain = HeadMeasures { previous_token_mass, ..head() };
            let sink = HeadMeasures { heaviest_word_mass: 0.75, ..plain.clone() };
            let huge =
                HeadMeasures { samples_for_one_percent: 2.5e9, kl: f64::NAN, ..plain.clone() };
            let window = DistancePrior::Window { reach: 1024, outside: 0.0125 };
            let window = HeadMeasures { distance_prior: Some(window), ..plain.clone() };
            let token =
                |piece: &str, start, end| TokenSection { id: 7, piece: piece.into(), start, end };
            Reading {
                text: TextSection {
                    source: source.into(),
                    text: "It is".into(),
                    token_count: 2,
                    token_count_of_whole_text: 9,
                    tokens: vec![token("It", 0, 2), token("Ġis", 2, 5)],
                },
                layers: [[plain, sink], [huge, window]]
                    .map(|layer| layer.map(labelled).to_vec())
                    .to_vec(),
            }
        };
        vec![of("novel.txt", 0.0625), of("a play, of a name that is long", 0.5625)]
    }

    fn document(readings: &[Reading]) -> (Document, Vec<Vec<HeadMeasures>>) {
        let layers = means(readings);
        let model = ModelSection {
            name: "small".into(),
            family: "bert",
            layers: 2,
            heads: 2,
            key_heads: 2,
            context: Some(512),
            visible: "all",
        };
        let mut document = Document::new(model, readings[0].text.clone(), &layers, &[]);
        if readings.len() > 1 {
            document.add_texts(readings);
        }
        (document, layers)
    }

    #[test]
    fn pages_are_readable_and_fit_eighty_columns() {
        let readings = readings();
        let mut printed = String::new();
        for readings in [&readings[..1], &readings[..]] {
            let (document, layers) = document(readings);
            for show in [summary, table] {
                let page = show(&document, &layers, Style::Plain);
                for line in page.lines() {
                    assert!(measure_text_width(line) <= WIDTH, "{line}");
                }
                let coloured = show(&document, &layers, Style::Coloured);
                assert!(coloured.contains("\x1b[31msink"), "{coloured}");
                assert_eq!(console::strip_ansi_codes(&coloured), page);
                printed += &page;
                printed += "\n================\n\n";
            }
        }
        assert_eq!(printed.trim_end(), include_str!("terminal_pages.txt").trim_end(), "{printed}");
    }

    #[test]
    fn numbers_keep_to_their_columns() {
        assert_eq!(number(12.345, 6, 1), "  12.3");
        assert_eq!(number(123_456_789.0, 8, 0), "   1.2e8");
        assert_eq!(number(f64::NAN, 6, 1), "     -");
        assert_eq!(number(f64::INFINITY, 6, 1), "   inf");
    }
}
