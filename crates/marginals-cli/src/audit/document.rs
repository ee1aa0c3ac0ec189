//! `audit.json`: the audit as data. Described in `docs/audit-schema.md`.

use serde::Serialize;

use super::catalogue::MEASURES;
use super::label::Label;
use super::measure::{HeadMeasures, NEIGHBOURHOOD, QUANTILES, QueryPosterior};
use crate::message;

/// Raised when a name disappears or changes its meaning; new names do not raise it.
pub const VERSION: u32 = 1;

/// The whole document.
#[derive(Clone, Debug, Serialize)]
pub struct Document {
    pub schema: &'static str,
    pub version: u32,
    pub model: ModelSection,
    pub text: TextSection,
    pub conventions: Conventions,
    pub measures: Vec<MeasureSection>,
    pub labels: Vec<LabelSection>,
    pub heads: Vec<HeadSection>,
    pub queries: Vec<QuerySection>,
}

/// The model that was audited.
#[derive(Clone, Debug, Serialize)]
pub struct ModelSection {
    pub name: String,
    pub family: &'static str,
    pub layers: usize,
    pub heads: usize,
    pub key_heads: usize,
    pub context: Option<usize>,
    /// `all` or `before`.
    pub visible: &'static str,
}

/// The text it read.
#[derive(Clone, Debug, Serialize)]
pub struct TextSection {
    pub source: String,
    pub text: String,
    pub token_count: usize,
    /// Tokens of the whole text, where only its beginning was audited.
    pub token_count_of_whole_text: usize,
    pub tokens: Vec<TokenSection>,
}

impl TextSection {
    /// Token `index` on one line, as the text writes it; as the vocabulary does where it was added.
    pub fn written(&self, index: usize) -> String {
        let Some(token) = self.tokens.get(index) else { return String::new() };
        let written = self.text.get(token.start..token.end).unwrap_or("");
        match written.trim() {
            "" if written.is_empty() => message::on_one_line(&token.piece).into_owned(),
            "" => format!("{written:?}"),
            trimmed => message::on_one_line(trimmed).into_owned(),
        }
    }
}

/// One token.
#[derive(Clone, Debug, Serialize)]
pub struct TokenSection {
    pub id: u32,
    pub piece: String,
    /// Bytes of the text it covers; equal for tokens that were added.
    pub start: usize,
    pub end: usize,
}

/// Definition of a measure.
#[derive(Clone, Debug, Serialize)]
pub struct Conventions {
    pub information_unit: &'static str,
    pub entropy_quantiles_at: [f64; 5],
    pub neighbourhood: usize,
}

/// A measure and what it means.
#[derive(Clone, Debug, Serialize)]
pub struct MeasureSection {
    pub name: &'static str,
    pub title: &'static str,
    pub definition: &'static str,
}

/// A label, its rule, and how many heads carry it.
#[derive(Clone, Debug, Serialize)]
pub struct LabelSection {
    pub name: &'static str,
    pub rule: &'static str,
    pub heads: usize,
}

/// One head.
#[derive(Clone, Debug, Serialize)]
pub struct HeadSection {
    pub layer: usize,
    pub head: usize,
    pub label: &'static str,
    #[serde(flatten)]
    pub measures: serde_json::Map<String, serde_json::Value>,
    pub heaviest_key: usize,
    pub entropy_quantiles: Vec<f64>,
    pub entropy_share_histogram: Vec<usize>,
}

/// The likeliest keys of one query.
#[derive(Clone, Debug, Serialize)]
pub struct QuerySection {
    pub query: usize,
    /// `[layer][head][place]`: key and probability.
    pub likeliest_keys: Vec<Vec<Vec<(usize, f64)>>>,
}

impl Document {
    /// Assembles the document.
    pub fn new(
        model: ModelSection,
        text: TextSection,
        layers: &[Vec<HeadMeasures>],
        queries: &[QueryPosterior],
    ) -> Self {
        let count =
            |label| layers.iter().flatten().filter(|measures| measures.label == label).count();
        Document {
            schema: "marginals-audit",
            version: VERSION,
            model,
            text,
            conventions: Conventions {
                information_unit: "nat",
                entropy_quantiles_at: QUANTILES,
                neighbourhood: NEIGHBOURHOOD,
            },
            measures: MEASURES
                .iter()
                .map(|measure| MeasureSection {
                    name: measure.name,
                    title: measure.title,
                    definition: measure.definition,
                })
                .collect(),
            labels: Label::ALL
                .iter()
                .map(|&label| LabelSection {
                    name: label.name(),
                    rule: label.rule(),
                    heads: count(label),
                })
                .collect(),
            heads: layers
                .iter()
                .enumerate()
                .flat_map(|(layer, heads)| {
                    heads.iter().enumerate().map(move |(head, m)| head_section(layer, head, m))
                })
                .collect(),
            queries: queries.iter().map(query_section).collect(),
        }
    }
}

fn head_section(layer: usize, head: usize, measures: &HeadMeasures) -> HeadSection {
    HeadSection {
        layer,
        head,
        label: measures.label.name(),
        // A number that is not finite has no JSON form and becomes null.
        measures: MEASURES
            .iter()
            .map(|measure| (measure.name.to_owned(), tidy((measure.of)(measures)).into()))
            .collect(),
        heaviest_key: measures.heaviest_key,
        entropy_quantiles: measures.entropy_quantiles.map(tidy).to_vec(),
        entropy_share_histogram: measures.entropy_share_histogram.to_vec(),
    }
}

fn query_section(posterior: &QueryPosterior) -> QuerySection {
    let heads = |heads: &Vec<Vec<(usize, f64)>>| {
        heads
            .iter()
            .map(|keys| keys.iter().map(|&(key, probability)| (key, tidy(probability))).collect())
            .collect()
    };
    QuerySection {
        query: posterior.query,
        likeliest_keys: posterior.heads.iter().map(heads).collect(),
    }
}

/// Seven significant digits: all an `f32` holds, and files half the size.
pub fn tidy(number: f64) -> f64 {
    format!("{number:.6e}").parse().unwrap_or(number)
}
