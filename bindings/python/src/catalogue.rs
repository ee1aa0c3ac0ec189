//! Lists of what there is, which the library keeps.

use marginals::question::QUESTIONS;
use marginals::spec;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Every question that can be asked by name: `name`, `definition`, `shape`, `argument` (the word for the
/// number that it is asked with, or `None`), `differentiable`, `averages_values`, and what it `reads`
/// beside the values.
#[pyfunction]
pub fn questions(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let entry = |entry: &marginals::question::Entry| {
        let about = PyDict::new(py);
        about.set_item("name", entry.name)?;
        about.set_item("definition", entry.definition)?;
        about.set_item("shape", entry.shape)?;
        about.set_item("argument", entry.argument)?;
        about.set_item("differentiable", entry.differentiable)?;
        about.set_item("averages_values", entry.averages_values)?;
        about.set_item("reads", entry.reads)?;
        Ok(about)
    };
    QUESTIONS.iter().map(entry).collect()
}

/// Every part of a model file: its `kind` (structure, prior, potential or distance), `name`, `meaning`,
/// `example` in TOML, names of its `settings`, and of the `tensors` that it reads name, shape
/// and meaning.
#[pyfunction]
pub fn parts(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let part = |part: &spec::Description| {
        let about = PyDict::new(py);
        about.set_item("kind", part.kind)?;
        about.set_item("name", part.name)?;
        about.set_item("meaning", part.meaning)?;
        about.set_item("example", part.example)?;
        about.set_item("settings", part.settings())?;
        let tensors = part.tensors.iter();
        let tensors: Vec<(&str, String, &str)> =
            tensors.map(|tensor| (tensor.name, tensor.to_string(), tensor.meaning)).collect();
        about.set_item("tensors", tensors)?;
        Ok(about)
    };
    spec::parts().map(part).collect()
}
