//! The heads that a model's predictions hang on most, on the terminal.

use super::{Style, colour};
use crate::audit::document::Document;
use crate::audit::measure::HeadMeasures;
use crate::audit::numbers::fixed;
use crate::explain::page::Page;

/// Heads that are shown, where not all are.
const SHOWN: usize = 10;

/// The loss, and by how much it rises with each of the heads changed: those that matter most, or all.
pub fn effects(
    document: &Document,
    layers: &[Vec<HeadMeasures>],
    (style, all): (Style, bool),
) -> String {
    let Some(effects) = &document.effects else { return String::new() };
    let mut page = Page::new(super::WIDTH, style == Style::Coloured);
    page.heading("effects on the loss");
    page.line(&format!(
        "  {:.4} nats per token over {} predictions; it rises, with one head changed, by\n",
        effects.loss, effects.predicted_tokens
    ));
    let mut header = format!("{:<6} {:<15}", "head", "label");
    for change in &effects.changes {
        header += &format!("{:>9}", change.column);
    }
    page.line(&page.paint("2", &header));
    let heads = document.most_worth();
    let shown = if all { heads.len() } else { SHOWN };
    for (head, effects) in heads.iter().take(shown) {
        let label = layers[head.layer][head.head].label;
        let mut row = format!(
            "{:<6} {}",
            format!("{}.{}", head.layer, head.head),
            page.paint(colour(label), &format!("{:<15}", label.name()))
        );
        for effect in effects {
            row += &format!("{:>9}", fixed(*effect, 4));
        }
        page.line(&row);
    }
    if heads.len() > shown {
        page.line(&format!("… and {} more, which --table shows", heads.len() - shown));
    }
    page.line("");
    for change in &effects.changes {
        page.field(&change.column, 9, &change.definition);
    }
    if let Some(correlation) = effects.gap_rank_correlation {
        page.line("");
        page.line(&format!(
            "Over all heads the soft–hard gap has a rank correlation of {} with the effect",
            fixed(correlation, 2)
        ));
        page.line("of reading only the likeliest key.");
    }
    page.into_text()
}
