//! The module `marginals._native`: model files and questions by name, on NumPy arrays.
//!
//! What the package's Python part stands on. It knows no model, question or mechanism: names and tensors
//! go to [`marginals::ask`], and lists of what there is come from the library.

use pyo3::prelude::*;

mod arrays;
mod ask;
mod boundary;
mod catalogue;
mod kept;
mod model;
mod questions;

/// What the Python part of the package stands on; use that.
// Nothing here is changed after it is made but what a lock holds, so that interpreters without a global
// lock may share it.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::ask::ask;
    #[pymodule_export]
    use super::catalogue::{parts, questions};
    #[pymodule_export]
    use super::kept::Kept;
    #[pymodule_export]
    use super::model::Model;
    #[pymodule_export]
    use super::questions::Questions;

    /// Version of the package.
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "it is Python's name")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
