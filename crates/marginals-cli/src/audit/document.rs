//! `audit.json`: the audit as data. Described in `docs/audit-schema.md`.

use serde::Serialize;

use super::catalogue::MEASURES;
use super::distance_prior::DistancePrior;
use super::effects::{Changes, EffectsSection, Measured};
use super::head::{HeadMeasures, NEIGHBOURHOOD, QUANTILES, mean_and_deviation};
use super::label::{Comparison, Label};
use super::measure::QueryPosterior;
use super::numbers::{Numbers, tidy};
use super::relations::FEWEST_QUERIES;
use super::rule::{label_of, margin_of, signed_distances};
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
    /// Effects of the heads on the loss, where they were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effects: Option<EffectsSection>,
    /// Where several texts were read, all of them; `text` is the first, and `queries` are its.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<TextSummary>,
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

/// One of several texts.
#[derive(Clone, Debug, Serialize)]
pub struct TextSummary {
    pub source: String,
    pub token_count: usize,
    pub token_count_of_whole_text: usize,
}

/// A text, and what each head did on it, `[layer][head]`.
#[derive(Clone, Debug)]
pub struct Reading {
    pub text: TextSection,
    pub layers: Vec<Vec<HeadMeasures>>,
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
    /// Queries that must take part in a measure of some queries for it to be known.
    pub fewest_queries: usize,
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
    /// The measure that the rule reads; null where it reads none.
    pub measure: Option<&'static str>,
    /// `at least` or `at most`.
    pub comparison: Option<&'static str>,
    pub threshold: Option<f64>,
    /// Where such heads were described.
    pub source: Option<&'static str>,
    /// Of several texts, how many of these heads every text gives this label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_heads: Option<usize>,
}

/// One head.
#[derive(Clone, Debug, Serialize)]
pub struct HeadSection {
    pub layer: usize,
    pub head: usize,
    pub label: &'static str,
    #[serde(flatten)]
    pub measures: Numbers,
    pub heaviest_key: usize,
    pub entropy_quantiles: Vec<f64>,
    pub entropy_share_histogram: Vec<usize>,
    /// Smallest change of one measure that would give another label; null where none would.
    pub margin: Option<f64>,
    /// That measure.
    pub margin_measure: Option<&'static str>,
    /// The label it would give.
    pub margin_label: Option<&'static str>,
    /// By how much each label's rule holds (below 0, by how much it fails), in the order of `labels`.
    pub label_distances: Vec<f64>,
    /// Prior of distance that fits best; null where none was fitted.
    pub distance_prior: Option<PriorSection>,
    /// By how much the loss rises with this head changed, in nats per token, by change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effects: Option<Numbers>,
    /// Of several texts, what each says.
    #[serde(flatten)]
    pub over_texts: Option<OverTexts>,
}

/// A prior of distance and its numbers.
#[derive(Clone, Debug, Serialize)]
pub struct PriorSection {
    pub name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rho: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside: Option<f64>,
}

impl PriorSection {
    fn new(prior: DistancePrior) -> Self {
        let name = prior.name();
        let flat = Self { name, rho: None, exponent: None, reach: None, outside: None };
        match prior {
            DistancePrior::Flat => flat,
            DistancePrior::Geometric { rho } => Self { rho: Some(tidy(rho)), ..flat },
            DistancePrior::PowerLaw { exponent } => Self { exponent: Some(tidy(exponent)), ..flat },
            DistancePrior::Window { reach, outside } => {
                Self { reach: Some(reach), outside: Some(tidy(outside)), ..flat }
            }
        }
    }
}

/// One head over several texts.
#[derive(Clone, Debug, Serialize)]
pub struct OverTexts {
    /// How many texts alone give the head the label that the means give it.
    pub agreeing_texts: usize,
    /// Standard deviation of every measure over the texts.
    pub deviations: Numbers,
    /// Measures on each text, in the order of the document's `texts`.
    pub by_text: Vec<TextHead>,
}

/// One head on one of several texts.
#[derive(Clone, Debug, Serialize)]
pub struct TextHead {
    pub label: &'static str,
    pub margin: Option<f64>,
    #[serde(flatten)]
    pub measures: Numbers,
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
                fewest_queries: FEWEST_QUERIES,
            },
            measures: MEASURES
                .iter()
                .map(|measure| MeasureSection {
                    name: measure.name,
                    title: measure.title,
                    definition: measure.definition,
                })
                .collect(),
            labels: Label::ALL.iter().map(|&label| label_section(label, count(label))).collect(),
            heads: layers
                .iter()
                .enumerate()
                .flat_map(|(layer, heads)| {
                    heads.iter().enumerate().map(move |(head, m)| head_section(layer, head, m))
                })
                .collect(),
            queries: queries.iter().map(query_section).collect(),
            effects: None,
            texts: Vec::new(),
        }
    }

    /// Adds what each of several texts says; the document is of their means.
    pub fn add_texts(&mut self, readings: &[Reading]) {
        let summary = |reading: &Reading| TextSummary {
            source: reading.text.source.clone(),
            token_count: reading.text.token_count,
            token_count_of_whole_text: reading.text.token_count_of_whole_text,
        };
        self.texts = readings.iter().map(summary).collect();
        for label in &mut self.labels {
            label.stable_heads = Some(0);
        }
        for section in &mut self.heads {
            let of_head = || readings.iter().map(|own| &own.layers[section.layer][section.head]);
            let over = over_texts(of_head, section.label);
            if over.agreeing_texts == readings.len()
                && let Some(label) = self.labels.iter_mut().find(|own| own.name == section.label)
            {
                *label.stable_heads.get_or_insert(0) += 1;
            }
            section.over_texts = Some(over);
        }
    }
}

impl Document {
    /// Adds what the heads are worth; `layers` are the measures that the document is of.
    pub fn add_effects(
        &mut self,
        changes: Changes,
        measured: Measured,
        layers: &[Vec<HeadMeasures>],
    ) {
        let gaps: Vec<f64> = layers.iter().flatten().map(|head| head.map_gap).collect();
        let (heads, section) = measured.sections(changes, &gaps);
        for (head, effects) in self.heads.iter_mut().zip(heads) {
            head.effects = Some(effects);
        }
        self.effects = Some(section);
    }

    /// The heads and their effects in the order of the changes, those first whose mean ablation costs most;
    /// empty where effects were not measured.
    pub fn most_worth(&self) -> Vec<(&HeadSection, Vec<f64>)> {
        let Some(section) = &self.effects else { return Vec::new() };
        let heads = self.heads.iter().filter_map(|head| {
            let effects = head.effects.as_ref()?;
            Some((head, section.of_head(effects)))
        });
        let mut heads: Vec<(&HeadSection, (Vec<f64>, f64))> = heads.collect();
        heads.sort_by(|(_, (_, a)), (_, (_, b))| b.total_cmp(a));
        heads.into_iter().map(|(head, (effects, _))| (head, effects)).collect()
    }
}

/// Means of every head's measures over the texts, and the labels that these give.
pub fn means(readings: &[Reading]) -> Vec<Vec<HeadMeasures>> {
    let mean = |layer: usize, head: usize| {
        let texts: Vec<&HeadMeasures> =
            readings.iter().map(|reading| &reading.layers[layer][head]).collect();
        let mut mean = HeadMeasures::mean(&texts);
        mean.label = label_of(&mean);
        mean
    };
    let first = readings.first().map_or(&[][..], |reading| &reading.layers);
    first
        .iter()
        .enumerate()
        .map(|(layer, heads)| (0..heads.len()).map(|head| mean(layer, head)).collect())
        .collect()
}

fn over_texts<'a, I: Iterator<Item = &'a HeadMeasures>>(
    of_head: impl Fn() -> I,
    label: &str,
) -> OverTexts {
    let by_text = of_head().map(|head| TextHead {
        label: head.label.name(),
        margin: margin_of(head).map(|margin| tidy(margin.distance)),
        measures: numbers(|of| of(head)),
    });
    OverTexts {
        agreeing_texts: of_head().filter(|head| head.label.name() == label).count(),
        deviations: numbers(|of| mean_and_deviation(of_head().map(of)).1),
        by_text: by_text.collect(),
    }
}

/// A number for every measure.
fn numbers(number: impl Fn(fn(&HeadMeasures) -> f64) -> f64) -> Numbers {
    let named = MEASURES.iter().map(|measure| (measure.name, tidy(number(measure.of))));
    named.map(|(name, number)| (name.to_owned(), number.into())).collect()
}

fn label_section(label: Label, heads: usize) -> LabelSection {
    let rule = label.definition();
    LabelSection {
        name: rule.name,
        rule: rule.words,
        heads,
        measure: rule.condition.map(|condition| condition.measure),
        comparison: rule.condition.map(|condition| match condition.comparison {
            Comparison::AtLeast => "at least",
            Comparison::AtMost => "at most",
        }),
        threshold: rule.condition.map(|condition| condition.threshold),
        source: Some(rule.source).filter(|source| !source.is_empty()),
        stable_heads: None,
    }
}

fn head_section(layer: usize, head: usize, measures: &HeadMeasures) -> HeadSection {
    let margin = margin_of(measures);
    HeadSection {
        layer,
        head,
        label: measures.label.name(),
        measures: numbers(|of| of(measures)),
        heaviest_key: measures.heaviest_key,
        entropy_quantiles: measures.entropy_quantiles.map(tidy).to_vec(),
        entropy_share_histogram: measures.entropy_share_histogram.to_vec(),
        margin: margin.map(|margin| tidy(margin.distance)),
        margin_measure: margin.map(|margin| margin.measure),
        margin_label: margin.map(|margin| margin.label.name()),
        label_distances: signed_distances(measures).map(tidy).to_vec(),
        distance_prior: measures.distance_prior.map(PriorSection::new),
        effects: None,
        over_texts: None,
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
