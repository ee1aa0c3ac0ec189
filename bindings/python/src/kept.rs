//! State that a forward leaves for its backward.

use std::sync::{Mutex, PoisonError};

use marginals::Error;
use marginals::ask::{self, Answers, Settings};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{Number, Views, given, held};
use crate::boundary::released;
use crate::model::Model;
use crate::questions::Questions;

/// Call of a forward: the model, the questions, and how they were asked.
pub struct Call {
    pub model: Py<Model>,
    pub questions: Py<Questions>,
    pub settings: Settings,
}

/// State that the library keeps, in the number format that was computed in.
pub enum State {
    Single(ask::Kept<f32>),
    Double(ask::Kept<f64>),
}

/// State that a forward leaves for its backward: for a posterior the finding of the pass.
#[pyclass(frozen, module = "marginals._native")]
pub struct Kept {
    call: Call,
    /// One backward at a time moves it through.
    state: Mutex<State>,
}

impl Kept {
    pub fn new(call: Call, state: State) -> Self {
        Self { call, state: Mutex::new(state) }
    }
}

#[pymethods]
impl Kept {
    /// Gradients in everything the answers depend on, by name, of a loss with the gradients `grad.NAME`
    /// in the answers; the other tensors are those of the forward. It may be called again.
    fn backward<'py>(
        &self,
        py: Python<'py>,
        tensors: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let held = held(tensors)?;
        let views = Views::of(&held)?;
        // The lock is taken without the interpreter, which its holder may be waiting for.
        let locked = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match views.are_double() {
            true => gradients::<f64>(py, &self.call, &views, |work| match &mut *locked() {
                State::Double(kept) => work(kept),
                State::Single(_) => Err(of_another_format()),
            }),
            false => gradients::<f32>(py, &self.call, &views, |work| match &mut *locked() {
                State::Single(kept) => work(kept),
                State::Double(_) => Err(of_another_format()),
            }),
        }
    }
}

/// Work on what was kept.
type Work<'w, T> = &'w mut dyn FnMut(&mut ask::Kept<T>) -> Result<Answers<T>, Error>;

/// Gradients, in one number format.
fn gradients<'py, T: Number>(
    py: Python<'py>,
    call: &Call,
    views: &Views<'_>,
    with_kept: impl FnOnce(Work<'_, T>) -> Result<Answers<T>, Error> + Send,
) -> PyResult<Bound<'py, PyDict>> {
    let (file, questions) = (&call.model.get().file, &call.questions.get().named);
    let answers = released(py, || {
        let tensors = views.read::<T>()?;
        with_kept(&mut |kept| kept.backward(file, questions, &tensors, call.settings))
    })?;
    Ok(given(py, answers)?.0)
}

fn of_another_format() -> Error {
    Error::value("tensors", "those of the forward", "numbers of another format")
}
