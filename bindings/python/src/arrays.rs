//! NumPy arrays as the library's tensors, and back, without a copy wherever the strides allow it.

use std::collections::BTreeMap;

use half::{bf16, f16};
use marginals::ask::{Answers, Input};
use marginals::question::Tensor;
use marginals::{Error, Real};
use ndarray::ArrayViewD;
use numpy::{PyArray, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::boundary::raised;

/// A number format that is computed in, and that arrays come in and go out in.
pub trait Number: Real + numpy::Element {
    /// Its name.
    const NAME: &'static str;

    /// The numbers of an array in this format; those of half as many bits are widened. `None` where it is
    /// computed in the other one.
    fn read<'a>(view: &'a View<'_>) -> Option<Input<'a, Self>>;
}

impl Number for f32 {
    const NAME: &'static str = "float32";

    fn read<'a>(view: &'a View<'_>) -> Option<Input<'a, f32>> {
        match view {
            View::Single(numbers) => Some(Input::Real(numbers.view().into())),
            View::Half(numbers) => Some(Input::Real(numbers.mapv(f16::to_f32).into())),
            View::Brain(numbers) => {
                Some(Input::Real(numbers.mapv(|bits| bf16::from_bits(bits).to_f32()).into()))
            }
            _ => None,
        }
    }
}

impl Number for f64 {
    const NAME: &'static str = "float64";

    fn read<'a>(view: &'a View<'_>) -> Option<Input<'a, f64>> {
        match view {
            View::Double(numbers) => Some(Input::Real(numbers.view().into())),
            _ => None,
        }
    }
}

/// Axes of an array at most; tensors of the library have up to five.
const MOST_AXES: usize = 16;

/// Entries of an array, where they lie.
pub enum View<'a> {
    Single(ArrayViewD<'a, f32>),
    Double(ArrayViewD<'a, f64>),
    Half(ArrayViewD<'a, f16>),
    /// bfloat16, for which NumPy has no type of its own: its bits.
    Brain(ArrayViewD<'a, u16>),
    Whole(ArrayViewD<'a, i64>),
    /// Truth values, a byte each.
    Bits(ArrayViewD<'a, u8>),
}

impl<'a> View<'a> {
    /// The entries of `array`.
    fn of(name: &str, array: &'a Bound<'_, PyAny>) -> PyResult<Self> {
        /// The entries, where they are of the type.
        fn entries<'a, T: numpy::Element>(
            array: &'a Bound<'_, PyAny>,
        ) -> Option<ArrayViewD<'a, T>> {
            let array = array.cast::<PyArrayDyn<T>>().ok()?;
            // SAFETY: the array is held for as long as the view lives. Nobody here writes to it; what other
            // threads write to it while it is read is theirs to answer for, as with any library on arrays.
            Some(unsafe { array.as_array() })
        }
        let refused = |found: String| {
            let error = Error::entries(name, "an array of a number format that is read", found);
            raised(array.py(), &error)
        };
        let Ok(untyped) = array.cast::<PyUntypedArray>() else {
            return Err(refused("no array".into()));
        };
        if untyped.ndim() > MOST_AXES {
            // Further axes have no view.
            let error =
                Error::shape(name, "at most 4 axes", untyped.shape(), "Reshape the tensor.");
            return Err(raised(array.py(), &error));
        }
        let known = entries(array)
            .map(Self::Single)
            .or_else(|| entries(array).map(Self::Double))
            .or_else(|| entries(array).map(Self::Whole))
            .or_else(|| entries(array).map(Self::Bits))
            .or_else(|| entries(array).map(Self::Brain))
            .or_else(|| entries(array).map(Self::Half));
        known.ok_or_else(|| refused(untyped.dtype().to_string()))
    }
}

/// Named arrays of one call.
pub struct Views<'a>(Vec<(String, View<'a>)>);

impl<'a> Views<'a> {
    /// Those of a dictionary, whose entries `held` keeps.
    pub fn of(held: &'a [(String, Bound<'_, PyAny>)]) -> PyResult<Self> {
        let view = |(name, array): &'a (String, Bound<'_, PyAny>)| {
            Ok((name.clone(), View::of(name, array)?))
        };
        held.iter().map(view).collect::<PyResult<_>>().map(Self)
    }

    /// Whether all is to be computed in `f64`.
    pub fn are_double(&self) -> bool {
        self.0.iter().any(|(_, view)| matches!(view, View::Double(_)))
    }

    /// The tensors, to be computed with in one number format.
    ///
    /// # Errors
    /// [`Error::Entries`] for numbers that are computed in another one.
    pub fn read<T: Number>(&self) -> Result<BTreeMap<String, Input<'_, T>>, Error> {
        let mut all = BTreeMap::new();
        for (name, view) in &self.0 {
            let input = match view {
                View::Whole(numbers) => Input::Whole(numbers.view().into()),
                View::Bits(bits) => Input::Bits(bits.view().into()),
                _ => T::read(view).ok_or_else(|| {
                    let expected = format!("{} as other tensors of the call do", T::NAME);
                    Error::entries(name, expected, "numbers of fewer bits")
                })?,
            };
            all.insert(name.clone(), input);
        }
        Ok(all)
    }
}

/// The entries of a dictionary from names to arrays.
pub fn held<'py>(tensors: &Bound<'py, PyDict>) -> PyResult<Vec<(String, Bound<'py, PyAny>)>> {
    let entry = |(name, array): (Bound<'py, PyAny>, Bound<'py, PyAny>)| {
        Ok((name.cast::<PyString>()?.to_str()?.to_owned(), array))
    };
    tensors.iter().map(entry).collect()
}

/// A dictionary from names to arrays, which take the answers over without a copy.
pub fn given<'py, T: Number>(
    py: Python<'py>,
    answers: Answers<T>,
) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyDict>)> {
    let meanings = PyDict::new(py);
    for (name, meaning) in answers.meanings() {
        meanings.set_item(name, meaning)?;
    }
    let arrays = PyDict::new(py);
    for (name, tensor) in answers.into_tensors() {
        let array = match tensor {
            Tensor::Real(numbers) => PyArray::from_owned_array(py, numbers).into_any(),
            Tensor::Index(numbers) => PyArray::from_owned_array(py, numbers).into_any(),
            Tensor::Bits(bits) => PyArray::from_owned_array(py, bits).into_any(),
        };
        arrays.set_item(name, array)?;
    }
    Ok((arrays, meanings))
}
