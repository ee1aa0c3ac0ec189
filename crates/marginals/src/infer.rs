//! Inference: from a model to what its questions are answered from.

pub mod collapsed;
pub mod exact;
pub mod expanding;
pub mod walk;
