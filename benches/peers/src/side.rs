//! What is measured: something that does the same work again and again, and can show its answer.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use ndarray::{Array, Dimension};
use serde::{Deserialize, Serialize};

/// One party of a measurement.
pub trait Side {
    /// Does the work `repetitions` times and returns the seconds they took together.
    fn time(&mut self, repetitions: usize) -> Result<f64>;

    /// What the work computes, by name; empty where there is nothing to compare.
    fn answers(&mut self) -> Result<BTreeMap<String, Answer>>;
}

/// Answers by name.
pub type Answers = Vec<(String, Answer)>;

/// A computed tensor, flat and row-major.
pub enum Answer {
    /// Numbers that two engines round differently.
    Real(Vec<f32>),
    /// Indices of keys.
    Index(Vec<i64>),
}

/// Numbers by name.
pub fn real<D: Dimension>(name: &str, answer: Array<f32, D>) -> (String, Answer) {
    (name.to_owned(), Answer::Real(flat(answer)))
}

/// The entries in row-major order, moved out where they lie so.
pub fn flat<T: Clone, D: Dimension>(array: Array<T, D>) -> Vec<T> {
    if array.is_standard_layout() && array.as_slice().is_some() {
        let length = array.len();
        let (mut entries, offset) = array.into_raw_vec_and_offset();
        entries.drain(..offset.unwrap_or(0));
        entries.truncate(length);
        return entries;
    }
    array.iter().cloned().collect()
}

/// How far two sides' answers lie apart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Difference {
    /// The largest |a − b| of each real-valued answer, and the largest |b| to read it against.
    pub largest: BTreeMap<String, Largest>,
    /// The share of rows whose index differs: near-ties are settled by rounding.
    pub index_disagreement: Option<f64>,
}

/// The largest difference within one answer.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Largest {
    /// max |a − b|.
    pub difference: f32,
    /// max |b|.
    pub scale: f32,
}

impl Difference {
    /// Compares every answer both sides give under the same name.
    pub fn between(
        a: &BTreeMap<String, Answer>,
        b: &BTreeMap<String, Answer>,
    ) -> Result<Difference> {
        let mut difference = Difference::default();
        for (name, a) in a {
            match (a, b.get(name)) {
                (Answer::Real(a), Some(Answer::Real(b))) => {
                    ensure!(a.len() == b.len(), "{name}: {} and {} numbers", a.len(), b.len());
                    let mut largest = Largest::default();
                    for (a, b) in a.iter().zip(b) {
                        // `max` would drop a NaN; a NaN here must show.
                        let gap = (a - b).abs();
                        if gap.is_nan() || gap > largest.difference {
                            largest.difference = gap;
                        }
                        largest.scale = largest.scale.max(b.abs());
                        if gap.is_nan() {
                            break;
                        }
                    }
                    difference.largest.insert(name.clone(), largest);
                }
                (Answer::Index(a), Some(Answer::Index(b))) => {
                    ensure!(a.len() == b.len(), "{name}: {} and {} indices", a.len(), b.len());
                    let apart = a.iter().zip(b).filter(|(a, b)| a != b).count();
                    difference.index_disagreement = Some(apart as f64 / a.len() as f64);
                }
                (_, None) => {}
                _ => anyhow::bail!("{name} is an index on one side and a number on the other"),
            }
        }
        ensure!(!difference.largest.is_empty(), "the sides have no answer in common");
        Ok(difference)
    }

    /// Whether both sides computed the same thing, up to f32 rounding at these sizes: a gradient
    /// summed over thousands of terms is good to about 1e-5 of its scale.
    pub fn agrees(&self) -> bool {
        self.worst() <= 1e-4 && self.index_disagreement.is_none_or(|share| share < 1e-3)
    }

    /// The largest difference of all real-valued answers, each relative to its answer's scale where
    /// that is above 1.
    pub fn worst(&self) -> f32 {
        let relative = self.largest.values().map(|l| l.difference / l.scale.max(1.0));
        relative.fold(0.0, |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) })
    }
}
