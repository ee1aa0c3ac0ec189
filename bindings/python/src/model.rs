//! Model files.

use marginals::Error;
use marginals::potential::Scores;
use marginals::spec::{ModelFile, ModelSpec, Tensors};
use ndarray::Array4;
use pyo3::prelude::*;

use crate::boundary::released;

/// A model file: one posterior, or a mechanism.
#[pyclass(frozen, module = "marginals._native")]
pub struct Model {
    pub file: ModelFile,
}

#[pymethods]
impl Model {
    /// Reads a model file in TOML.
    #[staticmethod]
    fn from_toml(py: Python<'_>, text: &str) -> PyResult<Self> {
        Ok(Self { file: released(py, || ModelFile::from_toml(text))? })
    }

    /// Reads a model file in JSON.
    #[staticmethod]
    fn from_json(py: Python<'_>, text: &str) -> PyResult<Self> {
        Ok(Self { file: released(py, || ModelFile::from_json(text))? })
    }

    /// Writes the model file in TOML.
    fn to_toml(&self, py: Python<'_>) -> PyResult<String> {
        released(py, || self.file.to_toml())
    }

    /// Writes the model file in JSON.
    fn to_json(&self, py: Python<'_>) -> PyResult<String> {
        released(py, || self.file.to_json())
    }

    /// Whether it is a mechanism, which has answers of its own.
    #[getter]
    fn is_mechanism(&self) -> bool {
        matches!(self.file, ModelFile::Mechanism { .. })
    }

    /// Number of factors of a head between so many queries and keys: F in the shapes of answers.
    fn factors(&self, py: Python<'_>, queries: usize, keys: usize) -> PyResult<usize> {
        released(py, || {
            let ModelFile::Posterior(spec) = &self.file else {
                return Err(Error::value("model", "one posterior", "a mechanism"));
            };
            // There are as many, whatever is known and seen of the edges.
            let bare = ModelSpec {
                prior: Vec::new(),
                potential: Scores.into(),
                inference: None,
                ..spec.clone()
            };
            let tensors = Tensors::<f32>::default();
            let model = bare.build(1, keys, &tensors)?;
            let [zero, none] = [(1, 1, 1, 1), (1, 1, keys, 0)].map(Array4::<f32>::zeros);
            let scores = zero.broadcast((1, 1, queries, keys)).expect("one number for all");
            Ok(model.posterior(scores, none.view())?.factor_count())
        })
    }

    /// Names and values of the numbers that the file gives, in place of which tensors may be given.
    fn numbers(&self, py: Python<'_>) -> PyResult<Vec<(String, Vec<f64>)>> {
        released(py, || {
            let ModelFile::Posterior(spec) = &self.file else { return Ok(Vec::new()) };
            let numbers = spec.numbers(1, 1).into_iter();
            Ok(numbers.map(|own| (own.name, own.values.into_iter().collect())).collect())
        })
    }
}
