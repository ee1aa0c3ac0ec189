//! Questions by name.

use marginals::ask::refuse_repeats;
use marginals::question::Named;
use pyo3::prelude::*;

use crate::boundary::released;

/// Questions that are asked together.
#[pyclass(frozen, module = "marginals._native")]
pub struct Questions {
    pub named: Vec<Named>,
}

#[pymethods]
impl Questions {
    /// Those called `names`, with a number where one is asked with: `["mean", "top-k=4"]`.
    #[new]
    fn new(py: Python<'_>, names: Vec<String>) -> PyResult<Self> {
        let parsed = || {
            let named: Vec<Named> =
                names.iter().map(|name| Named::parse(name)).collect::<Result<_, _>>()?;
            refuse_repeats("questions", &named).map(|()| named)
        };
        Ok(Self { named: released(py, parsed)? })
    }
}
