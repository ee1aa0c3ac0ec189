//! Subjects of a report: what each model made of each text.

use super::choice::Showcase;
use super::document::{Document, ModelSection, Reading};
use super::effects::PredictionSection;
use super::measure::HeadMeasures;
use super::sparse::SparsePosteriors;

/// A text as a model read it.
#[derive(Debug)]
pub struct Subject<'audit> {
    pub model: &'audit ModelSection,
    /// The text, and measures of every head on it.
    pub reading: &'audit Reading,
    /// Keys of every query.
    pub posteriors: &'audit SparsePosteriors,
    /// Head and token that are shown first.
    pub first: Showcase,
    /// Predictions after each token; none where none were made.
    pub predictions: &'audit [PredictionSection],
}

/// A model with what its charts show.
#[derive(Debug)]
pub struct Described<'audit> {
    /// The audit as data.
    pub document: &'audit Document,
    /// Measures of every head, means over the texts, by layer.
    pub layers: &'audit [Vec<HeadMeasures>],
    /// The texts.
    pub subjects: Vec<Subject<'audit>>,
}

/// The name of a subject among others: model and text.
pub fn title(subject: &Subject<'_>) -> String {
    format!("{}, {}", subject.model.name, subject.reading.text.source)
}
