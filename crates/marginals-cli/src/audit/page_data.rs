//! Data that the report's script reads: tokens, numbers of every head, and how the posteriors are packed.

use serde::Serialize;
use serde_json::Value;

use super::catalogue::MEASURES;
use super::choice::Showcase;
use super::document::{OverTexts, TextSection};
use super::effects::PredictionSection;
use super::head::mean_and_deviation;
use super::measure::{HISTOGRAM_BINS, HeadMeasures};
use super::numbers::tidy;
use super::packed::Packed;
use super::rule::margin_of;
use super::subject::{Described, Subject, title};
use crate::chart::readable;

#[derive(Serialize)]
struct PageData<'audit> {
    models: Vec<PageModel<'audit>>,
    subjects: Vec<PageSubject<'audit>>,
    /// Names and titles of the measures, in the order of the numbers of heads.
    names: Vec<&'static str>,
    measures: Vec<&'static str>,
}

/// Numbers behind the charts.
#[derive(Serialize)]
struct PageModel<'audit> {
    name: &'audit str,
    /// Its subjects, first and last.
    subjects: [usize; 2],
    heads: usize,
    labels: Vec<&'static str>,
    margins: Vec<Option<PageMargin>>,
    values: Vec<Vec<f64>>,
    /// Findings of several texts about each head; empty where there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    over_texts: Vec<PageSpread>,
    histograms: Vec<[usize; HISTOGRAM_BINS]>,
}

/// Margin of a label: its size, the place of the measure in the list, and the other label.
#[derive(Serialize)]
struct PageMargin(f64, usize, &'static str);

/// Spread of one head over several texts.
#[derive(Serialize)]
struct PageSpread {
    /// Number of texts that alone give the head its label.
    agreeing: usize,
    /// Mean and standard deviation of the margins that it has on each.
    margin: [f64; 2],
    /// Every measure's mean and standard deviation, as they are read.
    measures: Vec<String>,
    /// Standard deviation of every measure.
    deviations: Vec<f64>,
}

/// A text as a model read it.
#[derive(Serialize)]
struct PageSubject<'audit> {
    title: String,
    name: &'audit str,
    tokens: Vec<PageToken<'audit>>,
    first: First,
    layers: usize,
    heads: usize,
    head_labels: Vec<&'static str>,
    head_margins: Vec<Option<PageMargin>>,
    /// Numbers of each head as they are read.
    head_measures: Vec<Vec<String>>,
    posteriors: &'audit Packed,
    /// Predictions after each token, where they were made.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    predictions: &'audit [PredictionSection],
}

#[derive(Serialize)]
struct PageToken<'audit> {
    text: &'audit str,
    /// Text between this token and the one before, which no token covers.
    before: &'audit str,
    /// Added by the tokenizer, not written by the author.
    added: bool,
}

/// Head and token that the page opens on.
#[derive(Serialize)]
struct First {
    layer: usize,
    head: usize,
    token: usize,
}

/// The data as JSON that may stand in a script element.
pub fn page_data(
    models: &[Described<'_>],
    subjects: &[&Subject<'_>],
    packed: &[Packed],
) -> Result<String, serde_json::Error> {
    let mut before = 0;
    let models = models.iter().map(|model| {
        let first = before;
        before += model.subjects.len();
        page_model(model, [first, before - 1])
    });
    let data = PageData {
        models: models.collect(),
        subjects: subjects
            .iter()
            .zip(packed)
            .map(|(subject, packed)| of(subject, packed))
            .collect(),
        names: MEASURES.iter().map(|measure| measure.name).collect(),
        measures: MEASURES.iter().map(|measure| measure.title).collect(),
    };
    // Inside a script element only `</` and `<!--` could end it; JSON lets `<` be written so.
    Ok(serde_json::to_string(&data)?.replace('<', "\\u003c"))
}

fn numbers(head: &HeadMeasures) -> impl Iterator<Item = f64> {
    MEASURES.iter().map(|measure| (measure.of)(head))
}

/// Margin of a head; `None` where nothing would change its label.
fn page_margin(head: &HeadMeasures) -> Option<PageMargin> {
    let margin = margin_of(head)?;
    let measure = MEASURES.iter().position(|measure| measure.name == margin.measure)?;
    Some(PageMargin(tidy(margin.distance), measure, margin.label.name()))
}

/// Spread over several texts of a head whose means are `head`.
fn page_spread(head: &HeadMeasures, over: &OverTexts) -> PageSpread {
    let deviation = |name| over.deviations.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let deviations: Vec<f64> = MEASURES.iter().map(|measure| deviation(measure.name)).collect();
    let written = |(mean, deviation): (f64, &f64)| match deviation.is_nan() {
        true => readable(mean),
        false => format!("{} ± {}", readable(mean), readable(*deviation)),
    };
    let (mean, deviation) = mean_and_deviation(over.by_text.iter().filter_map(|text| text.margin));
    PageSpread {
        agreeing: over.agreeing_texts,
        margin: [mean, deviation].map(tidy),
        measures: numbers(head).zip(&deviations).map(written).collect(),
        deviations,
    }
}

fn page_model<'audit>(model: &Described<'audit>, subjects: [usize; 2]) -> PageModel<'audit> {
    let heads = || model.layers.iter().flatten();
    PageModel {
        name: &model.document.model.name,
        subjects,
        heads: model.document.model.heads,
        labels: heads().map(|head| head.label.name()).collect(),
        margins: heads().map(page_margin).collect(),
        over_texts: heads()
            .zip(&model.document.heads)
            .filter_map(|(head, section)| Some(page_spread(head, section.over_texts.as_ref()?)))
            .collect(),
        values: heads().map(|head| numbers(head).map(tidy).collect()).collect(),
        histograms: heads().map(|head| head.entropy_share_histogram).collect(),
    }
}

fn of<'audit>(subject: &Subject<'audit>, packed: &'audit Packed) -> PageSubject<'audit> {
    let Showcase { query, layer, head } = subject.first;
    let heads = || subject.reading.layers.iter().flatten();
    PageSubject {
        title: title(subject),
        name: &subject.model.name,
        tokens: page_tokens(&subject.reading.text),
        first: First { layer, head, token: query },
        layers: subject.model.layers,
        heads: subject.model.heads,
        head_labels: heads().map(|head| head.label.name()).collect(),
        head_margins: heads().map(page_margin).collect(),
        head_measures: heads().map(|head| numbers(head).map(readable).collect()).collect(),
        posteriors: packed,
        predictions: subject.predictions,
    }
}

fn page_tokens(section: &TextSection) -> Vec<PageToken<'_>> {
    let text = section.text.as_str();
    let mut reached = 0;
    let mut tokens = Vec::with_capacity(section.tokens.len());
    for token in &section.tokens {
        // Tokens that are parts of one character share its bytes; only the first shows it.
        let covered = text.get(token.start.max(reached)..token.end).unwrap_or("");
        // The space before a word belongs to its token, but not under its highlight.
        let word = if covered.trim().is_empty() { covered } else { covered.trim_start() };
        let start = token.end.max(reached) - word.len();
        let before = text.get(reached..start).unwrap_or("");
        tokens.push(match word {
            "" => PageToken { text: &token.piece, before, added: true },
            word => PageToken { text: word, before, added: false },
        });
        reached = reached.max(token.end);
    }
    tokens
}
