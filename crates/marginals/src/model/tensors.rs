//! Tensors of the input, and how parts read those they declare.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use ndarray::{
    Array, Array2, ArrayBase, ArrayD, ArrayView, Axis, CowArray, CowRepr, Dimension, Ix2, IxDyn,
};

use super::part::{NamedTensor, Part, Sizes};
use crate::{Error, Real};

/// Tensors a model names, by name.
#[derive(Clone, Debug)]
pub struct Tensors<'t, T> {
    /// Real ones, owned or borrowed.
    // The alias of this type would make the lifetime invariant.
    pub real: BTreeMap<String, ArrayBase<CowRepr<'t, T>, IxDyn, T>>,
    /// Whole-numbered ones.
    pub integer: BTreeMap<String, ArrayD<i64>>,
}

impl<T> Default for Tensors<'_, T> {
    fn default() -> Self {
        Self { real: BTreeMap::new(), integer: BTreeMap::new() }
    }
}

impl<T> Tensors<'_, T> {
    /// The names of all.
    pub fn names(&self) -> Vec<String> {
        self.real.keys().chain(self.integer.keys()).cloned().collect()
    }

    /// A tensor of whole numbers. `why` says what it is.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] and [`Error::Entries`].
    pub fn integers(&self, name: &str, why: &str) -> Result<&ArrayD<i64>, Error> {
        self.integer.get(name).ok_or_else(|| match self.real.contains_key(name) {
            true => Error::entries(name, "whole numbers", "real numbers"),
            false => {
                let (name, why) = (name.into(), why.into());
                Error::MissingTensor { name, why, present: self.names() }
            }
        })
    }
}

/// Sizes and tensors that a part is built from; it reads those that it [declares](Part::TENSORS).
#[derive(Clone, Debug)]
pub struct Inputs<'a, T> {
    /// The sizes.
    pub sizes: Sizes,
    real: Rc<BTreeMap<String, CowArray<'a, T, IxDyn>>>,
    integer: Rc<Cow<'a, BTreeMap<String, ArrayD<i64>>>>,
    part: &'static str,
    declared: &'static [NamedTensor],
}

impl<'a, T: Real> Inputs<'a, T> {
    /// All the tensors where they lie, for no part yet.
    pub fn new(sizes: Sizes, tensors: &'a Tensors<'_, T>) -> Self {
        let real = tensors.real.iter().map(|(name, tensor)| (name.clone(), tensor.view().into()));
        let integer = Cow::Borrowed(&tensors.integer);
        Self::all(sizes, real.collect(), integer)
    }

    /// Copies of all the tensors, for a model that outlives them.
    pub fn copied(sizes: Sizes, tensors: &Tensors<'_, T>) -> Self {
        let copy = |tensor: &CowArray<'_, T, IxDyn>| tensor.to_owned().into();
        let real = tensors.real.iter().map(|(name, tensor)| (name.clone(), copy(tensor)));
        let integer = Cow::Owned(tensors.integer.clone());
        Self::all(sizes, real.collect(), integer)
    }

    fn all(
        sizes: Sizes,
        real: BTreeMap<String, CowArray<'a, T, IxDyn>>,
        integer: Cow<'a, BTreeMap<String, ArrayD<i64>>>,
    ) -> Self {
        Self { sizes, real: Rc::new(real), integer: Rc::new(integer), part: "", declared: &[] }
    }

    /// The inputs of one part.
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
        let present = self.real.keys().chain(self.integer.keys()).cloned().collect();
        Error::MissingTensor { name: name.into(), why, present }
    }

    /// Whether a tensor of real numbers is there.
    pub fn has(&self, name: &str) -> bool {
        self.real.contains_key(name)
    }

    /// Whether a tensor of whole numbers is there.
    pub fn has_whole(&self, name: &str) -> bool {
        self.integer.contains_key(name)
    }

    /// A small tensor of real numbers in `f64`, as it is.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] and [`Error::Entries`].
    pub fn dynamic(&self, name: &str) -> Result<ArrayD<f64>, Error> {
        let tensor = self.real.get(name).ok_or_else(|| self.missing(name))?;
        Ok(in_f64(tensor.view()))
    }

    /// A tensor of real numbers with leading axes of length 1 added up to those asked for, borrowed where
    /// the model does not outlive it.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Entries`], and [`Error::Shape`] where it has more axes.
    pub fn tensor<D: Dimension>(&self, name: &str) -> Result<CowArray<'a, T, D>, Error> {
        let tensor = self.real.get(name).ok_or_else(|| self.missing(name))?;
        with_axes(name, tensor.clone())
    }

    /// A small tensor of real numbers in `f64`, likewise.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn array<D: Dimension>(&self, name: &str) -> Result<Array<f64, D>, Error> {
        Ok(in_f64(self.tensor::<D>(name)?.view()))
    }

    /// A tensor of whole numbers, likewise.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn whole(&self, name: &str) -> Result<Array2<i64>, Error> {
        let tensor = self.integer.get(name).ok_or_else(|| self.missing(name))?;
        Ok(with_axes::<i64, Ix2>(name, tensor.view().into())?.as_standard_layout().into_owned())
    }

    /// A tensor of whole numbers of at least 0, likewise.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor), and [`Error::Value`] for numbers below 0.
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

/// A tensor with leading axes of length 1 added.
///
/// # Errors
/// [`Error::Shape`] where it has more axes.
fn with_axes<'a, A, D: Dimension>(
    name: &str,
    mut tensor: CowArray<'a, A, IxDyn>,
) -> Result<CowArray<'a, A, D>, Error> {
    let axes = D::NDIM.expect("a fixed number of axes");
    if tensor.ndim() > axes {
        return Err(Error::shape(
            name,
            format!("at most {axes} axes"),
            tensor.shape(),
            "Axes are aligned from the last.",
        ));
    }
    while tensor.ndim() < axes {
        tensor = tensor.insert_axis(Axis(0));
    }
    Ok(tensor.into_dimensionality().expect("axes were added"))
}
