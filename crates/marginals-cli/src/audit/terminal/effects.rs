//! The heads that a model's predictions hang on most, on the terminal.

use super::{Style, colour};
use crate::audit::document::{Document, HeadSection};
use crate::audit::label::Label;
use crate::audit::measure::HeadMeasures;
use crate::explain::page::Page;

/// Heads that are shown, where not all are.
const SHOWN: usize = 10;
/// The change by which heads are ordered.
const ORDER: &str = "mean_output";

/// The loss, and by how much it rises with each of the heads changed: those that matter most, or all.
pub fn effects(
    document: &Document,
    layers: &[Vec<HeadMeasures>],
    columns: &[String],
    (style, all): (Style, bool),
) -> String {
    let Some(effects) = &document.effects else { return String::new() };
    let mut page = Page::new(super::WIDTH, style == Style::Coloured);
    page.heading("effects on the loss");
    page.line(&format!(
        "  {:.4} nats per token over {} predictions; with one head changed, how much more:\n",
        effects.loss, effects.predicted_tokens
    ));
    let mut header = format!("{:<6} {:<15}", "head", "label");
    for column in columns {
        header += &format!(" {column:>9}");
    }
    page.line(&page.paint("2", &header));
    let labels: Vec<Label> = layers.iter().flatten().map(|head| head.label).collect();
    let mut order: Vec<(&HeadSection, Label)> = document.heads.iter().zip(labels).collect();
    let worth = |head: &HeadSection| effect(head, ORDER);
    order.sort_by(|(a, _), (b, _)| worth(b).total_cmp(&worth(a)));
    let shown = if all { order.len() } else { SHOWN };
    for (head, label) in order.iter().take(shown) {
        let mut row = format!(
            "{:<6} {}",
            format!("{}.{}", head.layer, head.head),
            page.paint(colour(*label), &format!("{:<15}", label.name()))
        );
        for change in &effects.changes {
            row += &format!(" {:>9.4}", effect(head, change.name));
        }
        page.line(&row);
    }
    if order.len() > shown {
        page.line(&format!("… and {} more, which --table shows", order.len() - shown));
    }
    page.line("");
    for (column, change) in columns.iter().zip(&effects.changes) {
        page.field(column, 9, &change.definition);
    }
    if let Some(correlation) = effects.gap_rank_correlation {
        page.line("");
        page.line(&format!(
            "Over all heads the soft–hard gap has a rank correlation of {correlation:.2} with the effect"
        ));
        page.line("of reading only the likeliest key.");
    }
    page.into_text()
}

fn effect(head: &HeadSection, change: &str) -> f64 {
    let number = head.effects.as_ref().and_then(|effects| effects.get(change)?.as_f64());
    number.unwrap_or(f64::NAN)
}
