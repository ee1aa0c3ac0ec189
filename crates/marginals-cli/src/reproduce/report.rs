//! `report.html`: the experiments as one page that needs nothing else.

use std::collections::BTreeMap;

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, context};

use super::ReproduceError;
use super::chart::{Line, Strip, lines, shares, strips};
use super::claims::{Claim, Source};
use super::document::{Document, ExpandingRow};
use super::expanding::{LENGTH, Mechanism, TOLERANCE};
use super::spread::Spread;
use super::terminal::{fraction, number, spread};
use super::training::Schedule;
use crate::chart;

const TEMPLATE: &str = include_str!("../../templates/reproduce.html");
const STYLE: &str = include_str!("../../templates/page.css");

/// A figure of the page.
#[derive(Debug)]
pub struct Figure {
    /// Name of its file.
    pub name: &'static str,
    /// Drawn without a style of its own.
    pub svg: String,
}

/// Figures of the problems that ran.
pub fn figures(document: &Document) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut add = |name, svg| figures.push(Figure { name, svg });
    if !document.multihop.is_empty() {
        add("multihop-error", walk_errors(document));
        let rows: Vec<(String, Vec<f64>)> = document
            .multihop
            .iter()
            .map(|row| {
                let median = |spread: &Option<Spread>| spread.map_or(0.0, |spread| spread.median);
                (row.mechanism.title().to_owned(), row.attention.iter().map(median).collect())
            })
            .collect();
        let parts = ["x₀", "x₁", "x₂ itself", "distractors"];
        add("multihop-attention", shares("Attention of the last vector", &rows, &parts));
    }
    if !document.expanding.is_empty() {
        let error = |row: &ExpandingRow| row.error;
        add("expanding-error", panels(document, "error / variance", &[("", false, &error)]));
        let windows: [Curve<'_>; 2] = [
            (" (bound)", false, &|row| row.window_certified),
            (" (needed)", true, &|row| row.window_needed),
        ];
        add("expanding-window", panels(document, "keys", &windows));
        let cost = |row: &ExpandingRow| row.cost;
        add("expanding-cost", panels(document, "cost / full attention", &[("", false, &cost)]));
    }
    figures
}

fn walk_errors(document: &Document) -> String {
    let rows: Vec<Strip> = document
        .multihop
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let own = || document.multihop_runs.iter().filter(|run| run.mechanism == row.mechanism);
            let share = |error: Option<f64>, variance: f64| error.map(|error| error / variance);
            Strip {
                title: row.mechanism.title().to_owned(),
                colour: [0, 1, 2, 0, 1, 0, 1][index % 7],
                values: own().filter_map(|run| share(run.squared_error, run.variance)).collect(),
                others: own()
                    .filter_map(|run| share(run.squared_error_hard, run.variance))
                    .collect(),
            }
        })
        .collect();
    let axis = "squared error / variance of the targets (full: posterior, hollow: likeliest edges; at the left edge: that or less)";
    strips("Error of each layer and seed", axis, &rows)
}

/// A number of a row, what its lines' names end in, and whether they are dashed.
type Curve<'a> = (&'a str, bool, &'a dyn Fn(&ExpandingRow) -> Option<Spread>);

/// One panel per width, 1/p across.
fn panels(document: &Document, title: &str, curves: &[Curve<'_>]) -> String {
    let published = [(Mechanism::Full, 3), (Mechanism::Exact, 0), (Mechanism::MeanField, 1)];
    let panel = |dimension: usize| {
        let line = |&(mechanism, colour): &(Mechanism, usize), &(suffix, dashed, f): &Curve<'_>| {
            let own = document
                .expanding
                .iter()
                .filter(|row| row.mechanism == mechanism && row.setting.dimension == dimension);
            let points = own.filter_map(|row| Some((1.0 / row.setting.p, f(row)?))).collect();
            let title = mechanism.title().trim_start_matches("expanding, ");
            Line { title: format!("{title}{suffix}"), colour, dashed, points }
        };
        let all = published.iter().flat_map(|of| curves.iter().map(move |curve| line(of, curve)));
        (format!("D = {dimension}"), all.filter(|line| !line.points.is_empty()).collect())
    };
    let panels: Vec<(String, Vec<Line>)> =
        document.scale.dimensions.iter().map(|&dimension| panel(dimension)).collect();
    lines(title, ["1/p", title], &panels)
}

/// Renders the page.
pub fn render(document: &Document, figures: &[Figure]) -> Result<String, ReproduceError> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("reproduce", TEMPLATE)?;
    let pictures: BTreeMap<String, Value> = figures
        .iter()
        .map(|f| (f.name.replace('-', "_"), Value::from_safe_string(f.svg.clone())))
        .collect();
    let median = |s: Option<Spread>| s.map_or("–".to_owned(), |s| number(s.median));
    let walks: Vec<Value> = document
        .multihop
        .iter()
        .map(|row| {
            let hops = row.hops.as_ref().map(|hops| {
                hops.iter().map(|p| format!("{p:.2}")).collect::<Vec<_>>().join(" · ")
            });
            let by_hops = row.attention_by_hops.iter().map(|roles| {
                roles.iter().map(|p| format!("{p:.2}")).collect::<Vec<_>>().join(" · ")
            });
            context! {
                title => row.mechanism.title(), squared => spread(row.squared_error), error => spread(row.error),
                hard => spread(row.error_hard), x0 => spread(row.attention[0]), x1 => spread(row.attention[1]),
                x2 => spread(row.attention[2]), others => spread(row.attention[3]),
                hops => hops, by_hops => by_hops.collect::<Vec<_>>(),
                diverged => row.diverged, runs => row.runs,
            }
        })
        .collect();
    let expanding: Vec<Value> = document
        .expanding
        .iter()
        .map(|row| {
            context! {
                title => row.mechanism.title(), dimension => row.setting.dimension, p => fraction(row.setting.p),
                error => spread(row.error), hard => median(row.error_hard), within => spread(row.error_in_window),
                x0 => median(row.attention), needed => median(row.window_needed),
                certified => spread(row.window_certified), read => median(row.window_read),
                iterations => median(row.iterations), steps => median(row.steps), cost => median(row.cost),
                diverged => row.diverged, runs => row.runs,
            }
        })
        .collect();
    let claims = |source: Source| -> Vec<Value> {
        document.claims.iter().filter(|claim| claim.source == source).map(claim_row).collect()
    };
    let page = environment.get_template("reproduce")?.render(context! {
        style => Value::from_safe_string(format!("{STYLE}\n{}", chart::STYLE)),
        pictures => Value::from(pictures),
        quick => document.quick,
        seeds => document.seeds,
        multihop => schedule(document.scale.multihop),
        lags => schedule(document.scale.expanding),
        held_out => document.scale.held_out,
        walks => walks,
        expanding => expanding,
        published => claims(Source::Published),
        predicted => claims(Source::Predicted),
        length => LENGTH,
        tolerance => format!("{:.0}%", 100.0 * TOLERANCE),
        version => env!("CARGO_PKG_VERSION"),
    })?;
    Ok(page)
}

fn schedule(schedule: Schedule) -> Value {
    context! { steps => schedule.steps, batch => schedule.batch }
}

fn claim_row(claim: &Claim) -> Value {
    context! {
        problem => claim.problem, claim => claim.claim, measure => claim.measure,
        found => claim.found.map_or("–".to_owned(), number), outcome => claim.outcome.word(),
    }
}
