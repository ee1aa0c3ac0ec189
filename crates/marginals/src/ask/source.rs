//! Tensors in: where they are, and how they are taken out.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{ArrayBase, ArrayD, ArrayViewD, CowRepr, Dimension, IxDyn};

use crate::question::Named;
use crate::spec::{Reads, Tensors};
use crate::{Error, Real};

/// A tensor, owned or borrowed.
// The alias that ndarray has would make the lifetime invariant.
pub type CowTensor<'t, T, D = IxDyn> = ArrayBase<CowRepr<'t, T>, D, T>;

/// One named tensor.
#[derive(Clone, Debug)]
pub enum Input<'t, T> {
    /// Real numbers.
    Real(CowTensor<'t, T>),
    /// Whole numbers.
    Whole(CowTensor<'t, i64>),
    /// Truth values: 0 is false, and everything else true.
    Bits(CowTensor<'t, u8>),
}

impl<T: Real> From<ArrayD<T>> for Input<'_, T> {
    fn from(tensor: ArrayD<T>) -> Self {
        Self::Real(tensor.into())
    }
}
impl<'t, T: Real> From<ArrayViewD<'t, T>> for Input<'t, T> {
    fn from(tensor: ArrayViewD<'t, T>) -> Self {
        Self::Real(tensor.into())
    }
}
impl<T> From<ArrayD<i64>> for Input<'_, T> {
    fn from(tensor: ArrayD<i64>) -> Self {
        Self::Whole(tensor.into())
    }
}
impl<'t, T> From<ArrayViewD<'t, i64>> for Input<'t, T> {
    fn from(tensor: ArrayViewD<'t, i64>) -> Self {
        Self::Whole(tensor.into())
    }
}

/// Named tensors: in memory (a map of [`Input`]s, or the [`Tensors`] that a model is built with), or in a
/// file that is read as they are wanted.
pub trait Source<T> {
    /// The names of all.
    fn names(&self) -> Vec<String>;

    /// The tensor called `name`, one of [`names`](Self::names); `None` where its entries are of a type that
    /// is not read.
    ///
    /// # Errors
    /// [`Error`], where it cannot be read.
    fn read(&self, name: &str) -> Result<Option<Input<'_, T>>, Error>;
}

impl<T> Source<T> for BTreeMap<String, Input<'_, T>> {
    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
    fn read(&self, name: &str) -> Result<Option<Input<'_, T>>, Error> {
        Ok(self.get(name).map(|input| match input {
            Input::Real(tensor) => Input::Real(tensor.view().into()),
            Input::Whole(tensor) => Input::Whole(tensor.view().into()),
            Input::Bits(tensor) => Input::Bits(tensor.view().into()),
        }))
    }
}

impl<T: Real> Source<T> for Tensors<'_, T> {
    fn names(&self) -> Vec<String> {
        self.real.keys().chain(self.integer.keys()).cloned().collect()
    }
    fn read(&self, name: &str) -> Result<Option<Input<'_, T>>, Error> {
        let real = self.real.get(name).map(|tensor| Input::Real(tensor.view().into()));
        let whole = || self.integer.get(name).map(|tensor| Input::Whole(tensor.view().into()));
        Ok(real.or_else(whole))
    }
}

/// Prefix of the names of upstream gradients.
pub const GRADIENT: &str = "grad.";

/// Tensors that may be given as masks, true where an edge may be picked.
const MASKS: &[&str] = &["bias", "key-bias"];

const REAL: &str = "real numbers";
const WHOLE: &str = "whole numbers";
const BITS: &str = "truth values";
const UNREAD: &str = "entries of a type that is not read";

/// Tensors of a source that have not been taken out.
pub struct Inputs<'s, T> {
    source: &'s dyn Source<T>,
    left: BTreeSet<String>,
}

impl<T> std::fmt::Debug for Inputs<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Inputs").field(&self.left).finish()
    }
}

impl<'s, T: Real> Inputs<'s, T> {
    /// All the tensors of `source`.
    pub fn new(source: &'s dyn Source<T>) -> Self {
        Self { source, left: source.names().into_iter().collect() }
    }

    /// Takes a tensor of real numbers with a fixed number of axes out. `why` says what it is.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Entries`] and [`Error::Shape`].
    pub fn take<D: Dimension>(
        &mut self,
        name: &str,
        why: &str,
    ) -> Result<CowTensor<'s, T, D>, Error> {
        if !self.left.remove(name) {
            let (name, why) = (name.into(), why.into());
            return Err(Error::MissingTensor { name, why, present: self.source.names() });
        }
        let tensor = self.real(name)?;
        let shape = tensor.shape().to_vec();
        tensor.into_dimensionality().map_err(|_| {
            let axes = D::NDIM.unwrap_or_default();
            Error::shape(name, format!("{axes} axes: {why}"), &shape, "Reshape the tensor.")
        })
    }

    /// Takes a tensor of real numbers out, where there is one of this name.
    ///
    /// # Errors
    /// [`Error::Entries`] and [`Error::Shape`].
    pub fn optional<D: Dimension>(
        &mut self,
        name: &str,
        why: &str,
    ) -> Result<Option<CowTensor<'s, T, D>>, Error> {
        match self.holds(name) {
            true => self.take(name, why).map(Some),
            false => Ok(None),
        }
    }

    /// Whether there is a tensor of this name, whatever its entries: one that cannot be used is to be
    /// refused and not to be passed over.
    pub fn holds(&self, name: &str) -> bool {
        self.left.contains(name)
    }

    /// Names of the tensors left that begin with `prefix`.
    pub fn beginning_with(&self, prefix: &str) -> Vec<String> {
        self.left.iter().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    /// Refuses the upstream gradients left, where there are some: a misspelt one would be lost.
    ///
    /// # Errors
    /// [`Error::UnknownName`], with those that are `read`.
    pub fn refuse_unread_gradients(&self, read: &[&str]) -> Result<(), Error> {
        match self.beginning_with(GRADIENT).first() {
            None => Ok(()),
            Some(name) => Err(Error::unknown("upstream gradient", name, read)),
        }
    }

    /// Those of the tensors left that the model reads (or may have been meant to), and those that the
    /// questions read.
    ///
    /// # Errors
    /// [`Error::Entries`] for one of a type that is not read.
    pub(super) fn of_the_model(
        self,
        reads: &Reads,
        questions: &[Named],
    ) -> Result<Tensors<'s, T>, Error> {
        let mut tensors = Tensors::default();
        let of_a_question =
            |name: &str| questions.iter().any(|named| named.entry.reads.contains(&name));
        for name in &self.left {
            if !reads.concerns(name) && !of_a_question(name) {
                continue;
            }
            let log_weight = |&bit: &u8| if bit == 0 { T::neg_infinity() } else { T::zero() };
            match self.source.read(name)? {
                Some(Input::Real(tensor)) => drop(tensors.real.insert(name.clone(), tensor)),
                Some(Input::Whole(tensor)) => {
                    tensors.integer.insert(name.clone(), tensor.into_owned());
                }
                Some(Input::Bits(mask)) if MASKS.contains(&name.as_str()) => {
                    tensors.real.insert(name.clone(), mask.map(log_weight).into());
                }
                Some(Input::Bits(bits)) => {
                    tensors.integer.insert(name.clone(), bits.map(|&bit| i64::from(bit)));
                }
                None => {
                    let expected = if reads.real.contains(name) { REAL } else { WHOLE };
                    let error = Error::entries(name, expected, UNREAD);
                    let is_mask = MASKS.contains(&name.as_str());
                    return Err(if is_mask { error.of_a_mask() } else { error });
                }
            }
        }
        reads.refuse_mistaken(&tensors)?;
        Ok(tensors)
    }

    /// A tensor of real numbers.
    fn real(&self, name: &str) -> Result<CowTensor<'s, T>, Error> {
        let found = match self.source.read(name)? {
            Some(Input::Real(tensor)) => return Ok(tensor),
            Some(Input::Whole(_)) => WHOLE,
            Some(Input::Bits(_)) => BITS,
            None => UNREAD,
        };
        Err(Error::entries(name, REAL, found))
    }
}
