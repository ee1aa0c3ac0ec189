//! Questions about named arrays.

use marginals::ask::{self as library, Answers, Nan, Settings};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{Number, Views, given, held};
use crate::boundary::released;
use crate::kept::{Call, Kept, State};
use crate::model::Model;
use crate::questions::Questions;

/// Answers by name, meanings of the codes among them, and what a backward needs.
type Given<'py> = (Bound<'py, PyDict>, Bound<'py, PyDict>, Option<Kept>);

/// Answers questions about named arrays in one pass. Where it is to `keep` what a backward needs, that is
/// the last of the three.
#[pyfunction]
pub fn ask<'py>(
    py: Python<'py>,
    model: Py<Model>,
    questions: Py<Questions>,
    tensors: &Bound<'py, PyDict>,
    seed: u64,
    refuse_nan: bool,
    keep: bool,
) -> PyResult<Given<'py>> {
    let held = held(tensors)?;
    let views = Views::of(&held)?;
    let nan = if refuse_nan { Nan::IsRefused } else { Nan::Propagates };
    let call = Call { model, questions, settings: Settings { seed, nan } };
    match views.are_double() {
        true => answer::<f64>(py, &views, call, keep, State::Double),
        false => answer::<f32>(py, &views, call, keep, State::Single),
    }
}

/// Answers, in one number format.
fn answer<'py, T: Number>(
    py: Python<'py>,
    views: &Views<'_>,
    call: Call,
    keep: bool,
    state: fn(library::Kept<T>) -> State,
) -> PyResult<Given<'py>> {
    let (file, questions) = (&call.model.get().file, &call.questions.get().named);
    let settings = call.settings;
    let (answers, kept): (Answers<T>, _) = released(py, || {
        let tensors = views.read::<T>()?;
        if keep {
            let (answers, kept) = library::ask_and_keep(file, questions, &tensors, settings)?;
            return Ok((answers, Some(kept)));
        }
        Ok((library::ask(file, questions, &tensors, settings)?, None))
    })?;
    let (arrays, meanings) = given(py, answers)?;
    Ok((arrays, meanings, kept.map(|kept| Kept::new(call, state(kept)))))
}
