//! Tensors out.

use std::collections::BTreeMap;

use ndarray::ArrayD;

use crate::infer::Gradients;
use crate::question::Tensor;

/// Answers and gradients by name, and what is to be said of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers<T> {
    tensors: BTreeMap<String, Tensor<T>>,
    meanings: BTreeMap<String, String>,
    notes: Vec<String>,
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self { tensors: BTreeMap::new(), meanings: BTreeMap::new(), notes: Vec::new() }
    }
}

impl<T> Answers<T> {
    /// Adds a tensor, in place of one of the same name.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor<T>) {
        self.tensors.insert(name.into(), tensor);
    }

    /// Adds real numbers.
    pub fn real(&mut self, name: &str, tensor: ArrayD<T>) {
        self.insert(name, Tensor::Real(tensor));
    }

    /// Adds whole numbers.
    pub fn index(&mut self, name: &str, tensor: ArrayD<i64>) {
        self.insert(name, Tensor::Index(tensor));
    }

    /// Adds gradients in everything, as `grad.*`.
    pub fn gradients(&mut self, gradients: Gradients<T>)
    where
        T: crate::Real,
    {
        for (name, gradient) in gradients.into_named() {
            self.insert(format!("grad.{name}"), Tensor::Real(gradient));
        }
    }

    /// Gives a tensor another name.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if let Some(tensor) = self.tensors.remove(from) {
            self.tensors.insert(to.into(), tensor);
        }
    }

    /// Takes a tensor out.
    pub(super) fn remove(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    /// Keeps the tensors whose names are wanted alone.
    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.tensors.retain(|name, _| wanted(name));
    }

    /// Says what the numbers under a name mean, where they are codes.
    pub fn describe(&mut self, name: &str, meaning: &str) {
        self.meanings.insert(name.into(), meaning.into());
    }

    /// Says what was taken to be so because nobody said otherwise: under a name, and as a note to whoever
    /// asked.
    pub fn assume(&mut self, name: &str, assumed: String) {
        self.describe(name, &assumed);
        self.notes.push(assumed);
    }

    /// The tensor under a name.
    pub fn get(&self, name: &str) -> Option<&Tensor<T>> {
        self.tensors.get(name)
    }

    /// Every tensor and its name, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor<T>)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Every tensor and its name, moved out.
    pub fn into_tensors(self) -> BTreeMap<String, Tensor<T>> {
        self.tensors
    }

    /// Meanings of the numbers under some names.
    pub fn meanings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.meanings.iter().map(|(name, meaning)| (name.as_str(), meaning.as_str()))
    }

    /// Assumptions that were made.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// The answers of questions asked by name, with their names.
impl<T> Extend<(String, Tensor<T>)> for Answers<T> {
    fn extend<I: IntoIterator<Item = (String, Tensor<T>)>>(&mut self, answers: I) {
        self.tensors.extend(answers);
    }
}
