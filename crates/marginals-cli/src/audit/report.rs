//! `report.html`: the audit as one page that needs nothing else.
//!
//! Pictures are inline SVG, the script and the style are in the page, and no address is ever
//! opened: the file can be mailed and read offline.

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, context};
use serde::Serialize;

use super::AuditError;
use super::catalogue::{MEASURES, Measure, Scale};
use super::choice::Showcase;
use super::document::Document;
use super::measure::{HeadMeasures, label_counts};
use super::svg;

const TEMPLATE: &str = include_str!("../../templates/report.html");
const STYLE: &str = include_str!("../../templates/report.css");
const SCRIPT: &str = include_str!("../../templates/report.js");

/// Data that the page's script reads. Probabilities are in hundredths of a percent, and a head's keys
/// are one flat list key, probability, key, probability …: half the size of nested pairs.
#[derive(Serialize)]
struct PageData<'document> {
    tokens: Vec<PageToken<'document>>,
    first_query: usize,
    first_head: usize,
    layers: usize,
    heads: usize,
    measures: Vec<&'static str>,
    head_labels: Vec<&'static str>,
    head_measures: Vec<Vec<String>>,
    queries: Vec<PageQuery>,
}

#[derive(Serialize)]
struct PageToken<'document> {
    text: &'document str,
    /// Text between this token and the one before, which no token covers.
    before: &'document str,
    /// Added by the tokenizer, not written by the author.
    added: bool,
}

#[derive(Serialize)]
struct PageQuery {
    query: usize,
    keys: Vec<Vec<usize>>,
}

/// Renders the page, which shows the posterior of `first` at the start.
pub fn render(
    document: &Document,
    layers: &[Vec<HeadMeasures>],
    first: Showcase,
) -> Result<String, AuditError> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("report", TEMPLATE)?;
    let all: Vec<&HeadMeasures> = layers.iter().flatten().collect();
    let maps: Vec<Value> = MEASURES
        .iter()
        // On its logarithmic scale the effective number of keys has the same map as the entropy.
        .filter(|measure| measure.name != "entropy")
        .map(|measure| {
            let (picture, [low, high]) = svg::map(layers, measure);
            let clipped = measure.scale != Scale::FromZero;
            let end = |sign: &str, value| match clipped {
                true => format!("{sign} {}", svg::readable(value)),
                false => svg::readable(value),
            };
            context! {
                title => measure.title,
                definition => measure.definition,
                picture => Value::from_safe_string(picture),
                low => end("≤", low),
                high => end("≥", high),
            }
        })
        .collect();
    let labels: Vec<Value> = label_counts(layers)
        .into_iter()
        .map(|(label, count)| {
            context! { name => label.name(), rule => label.rule(), count => count }
        })
        .collect();
    let median =
        |name: &str| svg::readable(median(all.iter().map(|head| (measure(name).of)(head))));
    let picture = |svg: String| Value::from_safe_string(svg);
    let page = environment.get_template("report")?.render(context! {
        style => Value::from_safe_string(STYLE.to_owned()),
        script => Value::from_safe_string(SCRIPT.to_owned()),
        data => Value::from_safe_string(page_data(document, layers, first)?),
        model => context! {
            name => document.model.name.as_str(),
            family => document.model.family,
            layers => document.model.layers,
            heads => document.model.heads,
            key_heads => document.model.key_heads,
            visible => document.model.visible,
        },
        source => document.text.source.as_str(),
        token_count => document.text.token_count,
        token_count_of_whole_text => document.text.token_count_of_whole_text,
        head_count => all.len(),
        labels => labels,
        label_map => picture(svg::label_map(layers)),
        maps => maps,
        violins => picture(svg::violins(layers)),
        gap_scatter =>
            picture(svg::scatter(layers, measure("effective_keys"), measure("map_gap"))),
        sample_scatter => picture(svg::scatter(
            layers,
            measure("expected_distance"),
            measure("samples_for_one_percent"),
        )),
        median_keys => median("effective_keys"),
        median_gap => svg::readable(
            100.0 * self::median(all.iter().map(|head| head.map_gap))
        ),
        median_samples => median("samples_for_one_percent"),
        query_count => document.queries.len(),
        top_keys => super::choice::TOP_KEYS,
        version => env!("CARGO_PKG_VERSION"),
    })?;
    Ok(page)
}

fn measure(name: &str) -> &'static Measure {
    MEASURES.iter().find(|measure| measure.name == name).expect("the catalogue names it")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count => f64::midpoint(values[(count - 1) / 2], values[count / 2]),
    }
}

fn page_data(
    document: &Document,
    layers: &[Vec<HeadMeasures>],
    first: Showcase,
) -> Result<String, AuditError> {
    let heads = || layers.iter().flatten();
    let head_count = layers.first().map_or(0, Vec::len);
    let data = PageData {
        tokens: page_tokens(document),
        first_query: first.query,
        first_head: first.layer * head_count + first.head,
        layers: layers.len(),
        heads: head_count,
        measures: MEASURES.iter().map(|measure| measure.title).collect(),
        head_labels: heads().map(|head| head.label.name()).collect(),
        head_measures: heads()
            .map(|head| MEASURES.iter().map(|m| svg::readable((m.of)(head))).collect())
            .collect(),
        queries: document
            .queries
            .iter()
            .map(|query| PageQuery {
                query: query.query,
                keys: query.likeliest_keys.iter().flatten().map(|keys| flat(keys)).collect(),
            })
            .collect(),
    };
    // Inside a script element only `</` and `<!--` could end it; JSON lets `<` be written so.
    Ok(serde_json::to_string(&data)?.replace('<', "\\u003c"))
}

fn flat(keys: &[(usize, f64)]) -> Vec<usize> {
    keys.iter()
        .flat_map(|&(key, probability)| [key, (probability * 10_000.0).round() as usize])
        .collect()
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
