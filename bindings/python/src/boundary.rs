//! Between Rust and the interpreter: what runs without it, and how errors get there.
//!
//! The classes of errors are Python's own, in `marginals.errors`, where they may have several bases.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use marginals::Error;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Runs `work` with the interpreter released; errors and panics become exceptions.
pub fn released<R: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<R, Error> + Send,
) -> PyResult<R> {
    match py.detach(|| panic::catch_unwind(AssertUnwindSafe(work))) {
        Ok(result) => result.map_err(|error| raised(py, &error)),
        Err(panic) => Err(exception(py, "InternalError", reason(&*panic), None)),
    }
}

/// The exception of an error: of its own class, with the argument at fault.
pub fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let (class, argument) = match error {
        Error::Shape { argument, .. } => ("ShapeError", Some(argument)),
        Error::Value { argument, .. } => ("RangeError", Some(argument)),
        Error::NotANumber { tensor, .. } => ("NotANumberError", Some(tensor)),
        Error::UnknownName { name, .. } => ("UnknownNameError", Some(name)),
        Error::MissingTensor { name, .. } => ("MissingTensorError", Some(name)),
        Error::Entries { name, .. } => ("EntriesError", Some(name)),
        Error::NotAnswerable { question, .. } => ("NotAnswerableError", Some(question)),
        Error::NoGradient { part, .. } => ("NoGradientError", Some(part)),
        Error::Spec { .. } => ("SpecError", None),
        _ => ("Error", None),
    };
    exception(py, class, error.to_string(), argument.map(String::as_str))
}

/// An exception of a class of `marginals.errors`, of a message and the argument at fault.
fn exception(py: Python<'_>, class: &str, message: String, argument: Option<&str>) -> PyErr {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let made = || {
        let import = || py.import("marginals.errors").map(Bound::unbind);
        let module = MODULE.get_or_try_init(py, import)?.bind(py);
        module.getattr(class)?.call1((message, argument))
    };
    made().map_or_else(|error| error, PyErr::from_value)
}

fn reason(panic: &(dyn Any + Send)) -> String {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => "it gave no reason",
    };
    format!("the library stopped on a mistake of its own: {text}. Please report it")
}
