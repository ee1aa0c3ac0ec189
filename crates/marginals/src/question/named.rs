//! Questions by name: what the command line, model files and other languages ask with.

use std::any::Any;

use ndarray::{Array3, Array4, ArrayD, ArrayView4, ArrayViewD, Axis};

use super::contract::Question;
use super::upstream::OneUpstream;
use crate::format::in_format;
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::spec::Tensors;
use crate::{Error, Real};

/// An answer as a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Tensor<T> {
    /// Numbers.
    Real(ArrayD<T>),
    /// Indices of edges, −1 for none.
    Index(ArrayD<i64>),
    /// Sets of edges, 0 or 1 each.
    Bits(ArrayD<u8>),
}

impl<T> Tensor<T> {
    /// The sizes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Real(tensor) => tensor.shape(),
            Self::Index(tensor) => tensor.shape(),
            Self::Bits(tensor) => tensor.shape(),
        }
    }

    /// The numbers, where it holds some.
    pub fn real(self) -> Option<ArrayD<T>> {
        match self {
            Self::Real(tensor) => Some(tensor),
            Self::Index(_) | Self::Bits(_) => None,
        }
    }
}

/// A typed answer as tensors, each with what its name has after the question's.
pub trait IntoTensors<T> {
    /// The tensors.
    fn into_tensors(self) -> Vec<(&'static str, Tensor<T>)>;
}

impl<T: Real> IntoTensors<T> for Array3<T> {
    fn into_tensors(self) -> Vec<(&'static str, Tensor<T>)> {
        vec![("", Tensor::Real(self.into_dyn()))]
    }
}
impl<T: Real> IntoTensors<T> for Array4<T> {
    fn into_tensors(self) -> Vec<(&'static str, Tensor<T>)> {
        vec![("", Tensor::Real(self.into_dyn()))]
    }
}
/// Edges by their index.
impl<T: Real> IntoTensors<T> for Array3<i64> {
    fn into_tensors(self) -> Vec<(&'static str, Tensor<T>)> {
        vec![("", Tensor::Index(self.into_dyn()))]
    }
}
/// Inputs that a question asked by name may be made of.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'v, T: Real> {
    /// The values v.
    pub v: Option<ArrayView4<'v, T>>,
    /// Further tensors by name.
    pub tensors: &'v Tensors<'v, T>,
    /// The number asked with, as in `top-k=4`.
    pub argument: Option<usize>,
    /// Seed of what is random.
    pub seed: u64,
}

impl<'v, T: Real> Asking<'v, T> {
    /// The values, which `question` averages.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] where there are none.
    pub fn values(&self, question: &str) -> Result<ArrayView4<'v, T>, Error> {
        self.v.ok_or_else(|| Error::MissingTensor {
            name: "v".into(),
            why: format!("the values, [B, Hk, M, D_v], for the question `{question}`"),
            present: self.tensors.names(),
        })
    }
}

impl<'v, T: Real> Asking<'v, T> {
    /// A tensor of real numbers that a question reads, with leading axes of length 1 added up to four;
    /// `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Entries`], and [`Error::Shape`] where it has more axes.
    pub fn tensor(&self, name: &str) -> Result<Option<ArrayView4<'v, T>>, Error> {
        let Some(tensor) = self.tensors.real.get(name) else {
            return match self.tensors.integer.contains_key(name) {
                true => Err(Error::entries(name, "real numbers", "whole numbers")),
                false => Ok(None),
            };
        };
        let mut view = tensor.view();
        if view.ndim() > 4 {
            let advice = "Axes are aligned from the last.";
            return Err(Error::shape(name, "at most 4 axes", view.shape(), advice));
        }
        while view.ndim() < 4 {
            view = view.insert_axis(Axis(0));
        }
        Ok(Some(view.into_dimensionality().expect("axes were added")))
    }
}

/// A question that can be asked by name.
pub trait NamedQuestion {
    /// The name.
    const NAME: &'static str;
    /// The definition, in a line.
    const DEFINITION: &'static str;
    /// Sizes of the answer. F counts the factors.
    const SHAPE: &'static str;
    /// Word for the number after `=`, where one is asked with.
    const ARGUMENT: Option<&'static str> = None;
    /// Whether the answer can be differentiated.
    const DIFFERENTIABLE: bool = false;
    /// Whether values are averaged.
    const AVERAGES_VALUES: bool = false;
    /// Tensors that it reads, beside the values.
    const READS: &'static [&'static str] = &[];

    /// The question.
    ///
    /// # Errors
    /// [`Error`], where something that it is made of is missing or does not fit.
    fn make<'v, T: Real>(asking: &Asking<'v, T>)
    -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error>;
}

type Make<T> = for<'v> fn(&Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error>;

/// A question as it is listed.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name.
    pub name: &'static str,
    /// The definition, in a line.
    pub definition: &'static str,
    /// Sizes of the answer.
    pub shape: &'static str,
    /// Word for the number after `=`, where one is asked with.
    pub argument: Option<&'static str>,
    /// Whether the answer can be differentiated.
    pub differentiable: bool,
    /// Whether values are averaged.
    pub averages_values: bool,
    /// Tensors that it reads, beside the values.
    pub reads: &'static [&'static str],
    single: Make<f32>,
    double: Make<f64>,
}

impl Entry {
    /// The entry of a question.
    pub const fn of<Q: NamedQuestion>() -> Self {
        Self {
            name: Q::NAME,
            definition: Q::DEFINITION,
            shape: Q::SHAPE,
            argument: Q::ARGUMENT,
            differentiable: Q::DIFFERENTIABLE,
            averages_values: Q::AVERAGES_VALUES,
            reads: Q::READS,
            single: Q::make::<f32>,
            double: Q::make::<f64>,
        }
    }

    /// The question as it is asked: `mean`, or `top-k=K` where it is asked with a number.
    pub fn usage(&self) -> String {
        match self.argument {
            None => self.name.to_owned(),
            Some(argument) => format!("{}={argument}", self.name),
        }
    }

    /// The question that this lists.
    ///
    /// # Errors
    /// [`Error`], where something that it is made of is missing or does not fit.
    fn make<'v, T: Real>(
        &'static self,
        asking: &Asking<'v, T>,
    ) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        in_format::<Make<T>>(&self.single, &self.double)(asking)
    }
}

/// A question named with its number, as in `top-k=4`.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// The question.
    pub entry: &'static Entry,
    /// The number.
    pub argument: Option<usize>,
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.entry.name == other.entry.name && self.argument == other.argument
    }
}

/// A question without its types.
pub trait AnyQuestion<'v, T: Real>: Send + Sync {
    /// As [`Question::plan`].
    ///
    /// # Errors
    /// As there.
    fn plan_any(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Box<dyn Any + Send + Sync>, Error>;

    /// As [`Question::reads_sums`].
    fn reads_sums_any(&self) -> bool;

    /// As [`Question::answer`], as tensors.
    ///
    /// # Errors
    /// As there.
    fn answer_any(
        &self,
        plan: &dyn Any,
        found: &Found<'_, '_, 'v, T>,
    ) -> Result<Vec<(&'static str, Tensor<T>)>, Error>;

    /// As [`Question::take`], as tensors.
    ///
    /// # Errors
    /// As there.
    fn take_any(
        &self,
        plan: &dyn Any,
        found: &mut Found<'_, '_, 'v, T>,
    ) -> Result<Vec<(&'static str, Tensor<T>)>, Error>;

    /// As [`Question::backward`], from a tensor.
    ///
    /// # Errors
    /// As there.
    fn backward_any<'g>(
        &self,
        name: &str,
        plan: &dyn Any,
        found: &'g Found<'_, '_, 'v, T>,
        gradient: Option<ArrayViewD<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error>;
}

impl<'v, T: Real, Q> AnyQuestion<'v, T> for Q
where
    Q: Question<'v, T> + Send + Sync,
    Q::Answer: IntoTensors<T>,
    Q::Plan: Any + Send + Sync,
    Q::Upstream: OneUpstream,
{
    fn plan_any(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Box<dyn Any + Send + Sync>, Error> {
        Ok(Box::new(self.plan(posterior, request)?))
    }

    fn reads_sums_any(&self) -> bool {
        self.reads_sums()
    }

    fn answer_any(
        &self,
        plan: &dyn Any,
        found: &Found<'_, '_, 'v, T>,
    ) -> Result<Vec<(&'static str, Tensor<T>)>, Error> {
        let plan = plan.downcast_ref().expect("a question reads its own plan");
        Ok(self.answer(plan, found)?.into_tensors())
    }

    fn take_any(
        &self,
        plan: &dyn Any,
        found: &mut Found<'_, '_, 'v, T>,
    ) -> Result<Vec<(&'static str, Tensor<T>)>, Error> {
        let plan = plan.downcast_ref().expect("a question reads its own plan");
        Ok(self.take(plan, found)?.into_tensors())
    }

    fn backward_any<'g>(
        &self,
        name: &str,
        plan: &dyn Any,
        found: &'g Found<'_, '_, 'v, T>,
        gradient: Option<ArrayViewD<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        let plan = plan.downcast_ref().expect("a question reads its own plan");
        let gradient = Q::Upstream::from_tensor(name, gradient)?;
        self.backward(plan, found, gradient, slopes)
    }
}

/// Questions chosen at run time, asked together. Their answers are tensors by name.
pub struct Asked<'v, T: Real>(Vec<(&'static Entry, Box<dyn AnyQuestion<'v, T> + 'v>)>);

impl<'v, T: Real> Asked<'v, T> {
    /// The questions that `names` are the names of.
    ///
    /// # Errors
    /// [`Error`], where something that a question is made of is missing or does not fit.
    pub fn new(names: &[Named], asking: Asking<'v, T>) -> Result<Self, Error> {
        let Asking { v, tensors, seed, .. } = asking;
        let mut all = Vec::with_capacity(names.len());
        for named in names {
            let asking = Asking { v, tensors, argument: named.argument, seed };
            all.push((named.entry, named.entry.make(&asking)?));
        }
        Ok(Self(all))
    }

    /// The answers of all, each under its question's name.
    fn named_answers(
        &self,
        plans: &[Box<dyn Any + Send + Sync>],
        mut of: impl FnMut(
            &dyn AnyQuestion<'v, T>,
            &dyn Any,
        ) -> Result<Vec<(&'static str, Tensor<T>)>, Error>,
    ) -> Result<Vec<(String, Tensor<T>)>, Error> {
        let mut all = Vec::new();
        for ((entry, question), plan) in self.0.iter().zip(plans) {
            for (suffix, tensor) in of(&**question, &**plan)? {
                all.push((format!("{}{suffix}", entry.name), tensor));
            }
        }
        Ok(all)
    }

    /// The questions, in order.
    pub fn entries(&self) -> impl Iterator<Item = &'static Entry> + '_ {
        self.0.iter().map(|(entry, _)| *entry)
    }
}

impl<'v, T: Real> Question<'v, T> for Asked<'v, T> {
    type Answer = Vec<(String, Tensor<T>)>;
    type Upstream = super::upstream::Tensors;
    type Plan = Vec<Box<dyn Any + Send + Sync>>;

    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Self::Plan, Error> {
        self.0.iter().map(|(_, question)| question.plan_any(posterior, request)).collect()
    }

    fn reads_sums(&self) -> bool {
        self.0.iter().any(|(_, question)| question.reads_sums_any())
    }

    fn answer(
        &self,
        plan: &Self::Plan,
        found: &Found<'_, '_, 'v, T>,
    ) -> Result<Self::Answer, Error> {
        self.named_answers(plan, |question, plan| question.answer_any(plan, found))
    }

    fn take(
        &self,
        plan: &Self::Plan,
        found: &mut Found<'_, '_, 'v, T>,
    ) -> Result<Self::Answer, Error> {
        self.named_answers(plan, |question, plan| question.take_any(plan, found))
    }

    fn backward<'g>(
        &self,
        plan: &Self::Plan,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: Vec<Option<ArrayViewD<'g, T>>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        for (((entry, question), plan), gradient) in self.0.iter().zip(plan).zip(upstream) {
            question.backward_any(entry.name, &**plan, found, gradient, slopes)?;
        }
        Ok(())
    }
}
