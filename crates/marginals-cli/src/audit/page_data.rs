//! Data that the report's script reads: tokens, numbers of every head, and how the posteriors are packed.

use serde::Serialize;

use super::catalogue::MEASURES;
use super::choice::Showcase;
use super::document::{Document, tidy};
use super::measure::{HISTOGRAM_BINS, HeadMeasures};
use super::packed::Packed;
use super::report::{Subject, title};
use crate::chart::readable;

#[derive(Serialize)]
struct PageData<'audit> {
    subjects: Vec<PageSubject<'audit>>,
}

#[derive(Serialize)]
struct PageSubject<'audit> {
    title: String,
    name: &'audit str,
    tokens: Vec<PageToken<'audit>>,
    first: First,
    layers: usize,
    heads: usize,
    /// Names and titles of the measures, in the order of the numbers below.
    names: Vec<&'static str>,
    measures: Vec<&'static str>,
    head_labels: Vec<&'static str>,
    /// Numbers of each head as they are read, and as they are.
    head_measures: Vec<Vec<String>>,
    head_values: Vec<Vec<f64>>,
    head_histograms: Vec<[usize; HISTOGRAM_BINS]>,
    posteriors: &'audit Packed,
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
pub fn page_data(subjects: &[Subject<'_>], packed: &[Packed]) -> Result<String, serde_json::Error> {
    let subjects = subjects.iter().zip(packed).map(|(subject, packed)| of(subject, packed));
    let data = PageData { subjects: subjects.collect() };
    // Inside a script element only `</` and `<!--` could end it; JSON lets `<` be written so.
    Ok(serde_json::to_string(&data)?.replace('<', "\\u003c"))
}

fn of<'audit>(subject: &Subject<'audit>, packed: &'audit Packed) -> PageSubject<'audit> {
    let Showcase { query, layer, head } = subject.first;
    let heads = || subject.layers.iter().flatten();
    let numbers = |head: &HeadMeasures| MEASURES.map(|measure| (measure.of)(head));
    PageSubject {
        title: title(subject.document),
        name: &subject.document.model.name,
        tokens: page_tokens(subject.document),
        first: First { layer, head, token: query },
        layers: subject.document.model.layers,
        heads: subject.document.model.heads,
        names: MEASURES.iter().map(|measure| measure.name).collect(),
        measures: MEASURES.iter().map(|measure| measure.title).collect(),
        head_labels: heads().map(|head| head.label.name()).collect(),
        head_measures: heads().map(|head| numbers(head).map(readable).to_vec()).collect(),
        head_values: heads().map(|head| numbers(head).map(tidy).to_vec()).collect(),
        head_histograms: heads().map(|head| head.entropy_share_histogram).collect(),
        posteriors: packed,
    }
}

fn page_tokens(document: &Document) -> Vec<PageToken<'_>> {
    let text = document.text.text.as_str();
    let mut reached = 0;
    let mut tokens = Vec::with_capacity(document.text.tokens.len());
    for token in &document.text.tokens {
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
