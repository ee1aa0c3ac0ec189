//! `report.html`: the audit as one page that needs nothing else.
//!
//! Pictures are inline SVG, the script and the style are in the page, and no address is ever
//! opened: the file can be mailed and read offline.

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, context};

use super::catalogue::{MEASURES, Measure, Scale};
use super::document::Document;
use super::measure::{HeadMeasures, label_counts};
use super::numbers::fixed;
use super::packed::{self, Packed, pack};
use super::page_data::page_data;
use super::rule::{clearest, closeness};
use super::subject::{Described, Subject, title};
use super::svg;
use crate::chart::readable;

const TEMPLATE: &str = include_str!("../../templates/report/page.html");
const STYLE: &str = concat!(
    include_str!("../../templates/page.css"),
    include_str!("../../templates/chart.css"),
    include_str!("../../templates/report/report.css")
);
/// The page's script; the parts share one scope, and the last runs them.
const SCRIPT: &str = concat!(
    "\"use strict\";\n(() => {\n",
    include_str!("../../templates/report/unpack.js"),
    include_str!("../../templates/report/look.js"),
    include_str!("../../templates/report/address.js"),
    include_str!("../../templates/report/save.js"),
    include_str!("../../templates/report/charts.js"),
    include_str!("../../templates/report/heads.js"),
    include_str!("../../templates/report/pane.js"),
    include_str!("../../templates/report/page.js"),
    "})();\n"
);

/// Heads of each label that the page names.
const CLEAREST: usize = 4;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("the posteriors could not be packed: {0}")]
    Packing(#[from] std::io::Error),
    #[error("the report could not be put together: {0}")]
    Page(#[from] minijinja::Error),
    #[error("the report's data could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Renders the page of the audit of one model, or of several to be compared.
pub fn render(models: &[Described<'_>]) -> Result<String, ReportError> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("report", TEMPLATE)?;
    let subjects: Vec<&Subject<'_>> = models.iter().flat_map(|model| &model.subjects).collect();
    let packed: Vec<Packed> = subjects
        .iter()
        .map(|subject| {
            let heads = subject.reading.layers.iter().flatten();
            let columns = heads.map(|head| head.heaviest_key).collect();
            pack(subject.posteriors, columns, packed::ROOM / subjects.len())
        })
        .collect::<Result<_, _>>()?;
    let data = page_data(models, &subjects, &packed)?;
    let mut first = 0;
    let sections = models.iter().map(|model| {
        first += model.subjects.len();
        section(model, first - model.subjects.len())
    });
    let sections: Vec<Value> = sections.collect();
    let texts = subjects.iter().zip(&packed).map(|(subject, packed)| {
        let (keys, tokens) = (subject.posteriors.question().0, subject.reading.text.token_count);
        context! {
            title => title(subject),
            shown => readable(100.0 * packed.share),
            least => readable(100.0 * packed.least),
            most => (keys < tokens).then_some(keys),
            // Base 64 needs no escapes.
            stream => safe(packed.stream.clone()),
        }
    });
    Ok(environment.get_template("report")?.render(context! {
        style => safe(STYLE.to_owned()),
        script => safe(SCRIPT.to_owned()),
        data => safe(data),
        models => sections,
        texts => texts.collect::<Vec<_>>(),
        version => env!("CARGO_PKG_VERSION"),
    })?)
}

/// Text that is markup already.
fn safe(markup: String) -> Value {
    Value::from_safe_string(markup)
}

/// Everything the template says of one model, whose texts begin with the subject `first`.
fn section(described: &Described<'_>, first: usize) -> Value {
    let Described { document, layers, subjects } = described;
    let (model, text) = (&document.model, &document.text);
    let all: Vec<&HeadMeasures> = layers.iter().flatten().collect();
    let labels: Vec<Value> = label_counts(layers)
        .into_iter()
        .map(|(label, count)| {
            let clearest = clearest(layers, label, CLEAREST).into_iter().map(|(index, margin)| {
                let head = format!("{}.{}", index / model.heads, index % model.heads);
                context! { head => head, margin => fixed(margin, 2) }
            });
            let of_document = document.labels.iter().find(|own| own.name == label.name());
            context! {
                name => label.name(),
                rule => label.rule(),
                count => count,
                stable => of_document.and_then(|own| own.stable_heads),
                clearest => clearest.collect::<Vec<_>>(),
            }
        })
        .collect();
    let absent = label_counts(layers).into_iter().filter(|(_, count)| *count == 0);
    let absent: Vec<&str> = absent.map(|(label, _)| label.name()).collect();
    let median = |name: &str| readable(median(all.iter().map(|head| (measure(name).of)(head))));
    let scatter = |across, up| safe(svg::scatter(layers, measure(across), measure(up)));
    context! {
        first => first,
        texts => subjects.len(),
        name => model.name.as_str(),
        family => model.family,
        layers => model.layers,
        heads => model.heads,
        key_heads => model.key_heads,
        visible => model.visible,
        source => text.source.as_str(),
        token_count => text.token_count,
        token_count_of_whole_text => text.token_count_of_whole_text,
        labels => labels,
        absent => absent.join(", "),
        closeness => closeness(layers),
        label_map => safe(svg::label_map(layers)),
        maps => maps(layers),
        effects => effects(document),
        violins => safe(svg::violins(layers)),
        gap_scatter => scatter("effective_keys", "map_gap"),
        sample_scatter => scatter("expected_distance", "samples_for_one_percent"),
        median_keys => median("effective_keys"),
        median_gap => readable(100.0 * self::median(all.iter().map(|head| head.map_gap))),
        median_samples => median("samples_for_one_percent"),
    }
}

/// The heads that are worth most, and by how much the loss rises with each changed.
fn effects(document: &Document) -> Option<Value> {
    /// Heads that are shown.
    const SHOWN: usize = 15;
    let section = document.effects.as_ref()?;
    let rows = document.most_worth().into_iter().take(SHOWN).map(|(head, effects)| {
        context! {
            head => format!("{}.{}", head.layer, head.head),
            label => head.label,
            effects => effects.iter().map(|effect| fixed(*effect, 3)).collect::<Vec<_>>(),
        }
    });
    Some(context! {
        loss => format!("{:.3}", section.loss),
        tokens => section.predicted_tokens,
        changes => section.changes.iter().map(|c| c.definition.clone()).collect::<Vec<_>>(),
        columns => section.changes.iter().map(|c| c.column.clone()).collect::<Vec<_>>(),
        rows => rows.collect::<Vec<_>>(),
        correlation => section.gap_rank_correlation.map(|r| fixed(r, 2)),
    })
}

fn maps(layers: &[Vec<HeadMeasures>]) -> Vec<Value> {
    // On its logarithmic scale the effective number of keys has the same map as the entropy.
    let measures = MEASURES.iter().filter(|measure| measure.name != "entropy");
    measures
        .filter_map(|measure| {
            let (picture, [low, high]) = svg::map(layers, measure)?;
            let clipped = measure.scale != Scale::FromZero;
            let end = |sign: &str, value| match clipped {
                true => format!("{sign} {}", readable(value)),
                false => readable(value),
            };
            Some(context! {
                name => measure.name,
                title => measure.title,
                definition => measure.definition,
                picture => safe(picture),
                low => end("≤", low),
                high => end("≥", high),
            })
        })
        .collect()
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
