//! The figure: scores against steps.

use marginals_burn::GraphAttentionKind;

use super::{Entry, Results, Variant};
use crate::Spread;
use crate::picture::{Axis, Chart, Line, Style, draw};

/// A chart for each task: ours as lines with a deviation over seeds, PyTorch Geometric's as circles.
pub fn picture(results: &Results) -> String {
    let charts: Vec<Chart> = results.entries.iter().map(chart).collect();
    draw(&charts, charts.len().max(1), &[])
}

fn chart(entry: &Entry) -> Chart {
    let steps: Vec<f64> = entry.scored.iter().map(|&step| step as f64).collect();
    let last = steps.iter().copied().fold(1.0, f64::max);
    let curves = entry.variants.iter().flat_map(|variant| &variant.ours);
    let baselines = entry.baselines.iter().map(|baseline| baseline.1);
    // What is learned last is what differs: errors further off are left out, the first among them.
    let (from, to) = match entry.baselines.is_empty() {
        true => (0.4, 1.0),
        false => {
            let least = curves.map(|spread| spread.mean).chain(baselines).fold(f64::MAX, f64::min);
            let from = (least * 5.0 - 1.0).floor() / 5.0;
            (from, from + 1.6)
        }
    };
    let step = if to - from > 1.0 { 0.4 } else { 0.1 };
    let ticks = (0..=((to - from) / step).round() as usize).map(|n| from + step * n as f64);
    let mut lines: Vec<Line> = Vec::new();
    for variant in &entry.variants {
        let points = |spreads: &[Spread], bars: bool| -> Vec<(f64, f64, f64)> {
            let own = steps.iter().zip(spreads);
            own.filter(|(_, spread)| (from..=to).contains(&spread.mean))
                .map(|(&at, spread)| (at, spread.mean, if bars { spread.deviation } else { 0.0 }))
                .collect()
        };
        let (colour, style) = look(variant);
        let name = label(variant);
        lines.push(Line { name: name.clone(), points: points(&variant.ours, true), colour, style });
        if let Some(compared) = &variant.compared {
            lines.push(Line {
                name: format!("{name} of PyTorch Geometric"),
                points: points(&compared.theirs, false),
                colour,
                style: Style::Marks,
            });
        }
    }
    for &(name, value) in &entry.baselines {
        let points = vec![(0.0, value, 0.0), (last, value, 0.0)];
        if value <= to {
            lines.push(Line { name: name.to_owned(), points, colour: 6, style: Style::Solid });
        }
    }
    Chart {
        title: entry.task.to_owned(),
        x: Axis {
            name: "steps of Adam".into(),
            logarithmic: false,
            from: 0.0,
            to: last,
            ticks: steps.iter().copied().filter(|x| (x * 4.0) % last == 0.0).collect(),
        },
        y: Axis {
            name: entry.score.into(),
            logarithmic: false,
            from,
            to,
            ticks: ticks.map(|tick| (tick * 10.0).round() / 10.0).collect(),
        },
        lines,
    }
}

fn look(variant: &Variant) -> (usize, Style) {
    let colour = match variant.kind {
        GraphAttentionKind::Gat => 0,
        GraphAttentionKind::Gatv2 => 1,
    };
    (colour, if variant.weighted { Style::Dashed } else { Style::Solid })
}

fn label(variant: &Variant) -> String {
    let kind = match variant.kind {
        GraphAttentionKind::Gat => "GAT",
        GraphAttentionKind::Gatv2 => "GATv2",
    };
    format!("{kind}{}", if variant.weighted { ", weighted edges" } else { "" })
}
