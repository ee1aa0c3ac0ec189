//! Tensors of the input, and how parts read those they declare.

use std::collections::BTreeMap;
use std::rc::Rc;

use ndarray::{
    Array, Array2, ArrayD, ArrayView, ArrayViewD, Axis, CowArray, Dimension, Ix2, IxDyn,
};

use super::part::{NamedTensor, Part, Sizes};
use crate::{Error, Real};

/// Tensors a model names, by name.
#[derive(Clone, Debug)]
pub struct Tensors<'t, T> {
    /// Real ones, owned or borrowed.
    pub real: BTreeMap<String, CowArray<'t, T, IxDyn>>,
    /// Whole-numbered ones.
    pub integer: BTreeMap<String, ArrayD<i64>>,
}

impl<T> Default for Tensors<'_, T> {
    fn default() -> Self {
        Self { real: BTreeMap::new(), integer: BTreeMap::new() }
    }
}

/// What a part is built from: the sizes, and the tensors of the input, of which it reads those that
/// it [declares](Part::TENSORS).
#[derive(Clone, Debug)]
pub struct Inputs<'a, T> {
    /// The sizes.
    pub sizes: Sizes,
    /// The tensors of real numbers where they lie.
    real: Rc<BTreeMap<&'a str, ArrayViewD<'a, T>>>,
    integer: &'a BTreeMap<String, ArrayD<i64>>,
    part: &'static str,
    declared: &'static [NamedTensor],
}

impl<'a, T: Real> Inputs<'a, T> {
    /// All the tensors, for no part yet.
    pub fn new(sizes: Sizes, tensors: &'a Tensors<'_, T>) -> Self {
        let real = tensors.real.iter().map(|(name, tensor)| (name.as_str(), tensor.view()));
        let (real, integer) = (Rc::new(real.collect()), &tensors.integer);
        Self { sizes, real, integer, part: "", declared: &[] }
    }

    /// The same for one part.
    pub fn of<P: Part>(&self, _part: &P) -> Self {
        Self { part: P::NAME, declared: P::TENSORS, ..self.clone() }
    }

    /// The error of a tensor that is not there, or is there with entries of the other kind.
    fn missing(&self, name: &str) -> Error {
        if self.integer.contains_key(name) {
            return Error::entries(name, "real numbers", "whole numbers");
        }
        if self.real.contains_key(name) {
            return Error::entries(name, "whole numbers", "real numbers");
        }
        let tensor = self.declared.iter().find(|tensor| tensor.name == name);
        let tensor = tensor.expect("parts declare the tensors that they read");
        let why = format!("{}, {}, for `{}`", tensor.meaning, tensor.shape, self.part);
        let real = self.real.keys().map(|&name| name.to_owned());
        let present = real.chain(self.integer.keys().cloned()).collect();
        Error::MissingTensor { name: name.into(), why, present }
    }

    /// Whether a tensor of real numbers is there.
    pub fn has(&self, name: &str) -> bool {
        self.real.contains_key(name)
    }

    /// A tensor of real numbers, borrowed, with leading axes of length 1 added up to those asked for.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Entries`], and [`Error::Shape`] where it has more axes.
    pub fn view<D: Dimension>(&self, name: &str) -> Result<ArrayView<'a, T, D>, Error> {
        let tensor = self.real.get(name).ok_or_else(|| self.missing(name))?;
        with_axes(name, tensor.clone())
    }

    /// A small tensor of real numbers in `f64`, likewise.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub fn array<D: Dimension>(&self, name: &str) -> Result<Array<f64, D>, Error> {
        Ok(in_f64(self.view(name)?))
    }

    /// A tensor of whole numbers, likewise.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub fn whole(&self, name: &str) -> Result<Array2<i64>, Error> {
        let tensor = self.integer.get(name).ok_or_else(|| self.missing(name))?;
        Ok(with_axes::<i64, Ix2>(name, tensor.view())?.as_standard_layout().into_owned())
    }

    /// A tensor of whole numbers of at least 0, likewise.
    ///
    /// # Errors
    /// As [`view`](Self::view), and [`Error::Value`] for numbers below 0.
    pub fn indices(&self, name: &str) -> Result<Array2<usize>, Error> {
        let whole = self.whole(name)?;
        match whole.iter().find(|x| **x < 0) {
            None => Ok(whole.mapv(|x| x as usize)),
            Some(x) => Err(Error::value(name, "whole numbers of at least 0", x)),
        }
    }
}

/// A copy in `f64`, in row-major order.
pub(crate) fn in_f64<T: Real, D: Dimension>(view: ArrayView<'_, T, D>) -> Array<f64, D> {
    view.mapv(T::f64).as_standard_layout().into_owned()
}

/// A view with leading axes of length 1 added.
///
/// # Errors
/// [`Error::Shape`] where it has more axes.
pub(crate) fn with_axes<'a, A, D: Dimension>(
    name: &str,
    mut view: ArrayViewD<'a, A>,
) -> Result<ArrayView<'a, A, D>, Error> {
    let axes = D::NDIM.expect("a fixed number of axes");
    if view.ndim() > axes {
        return Err(Error::shape(
            name,
            format!("at most {axes} axes"),
            view.shape(),
            "Axes are aligned from the last.",
        ));
    }
    while view.ndim() < axes {
        view = view.insert_axis(Axis(0));
    }
    Ok(view.into_dimensionality().expect("axes were added"))
}
