//! Tensors in and out of safetensors files.

use std::collections::{BTreeMap, HashMap};

use half::{bf16, f16};
use marginals::ask::{Answers, Input, Source};
use marginals::question::Tensor;
use marginals::{Error, Real, check_claim};
use ndarray::{ArrayD, IxDyn};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// The tensors of an input file, each read when it is wanted: a file may hold others, of whatever type.
pub struct File<'f>(BTreeMap<String, TensorView<'f>>);

impl<'f> File<'f> {
    /// Those of `file`, also by the names that `shared` gives them beside their own.
    pub fn of(file: &SafeTensors<'f>, shared: &HashMap<String, String>) -> Self {
        let own = file.tensors();
        let more =
            shared.iter().filter_map(|(name, own)| Some((name.clone(), file.tensor(own).ok()?)));
        Self(own.into_iter().chain(more).collect())
    }
}

impl<T: Real> Source<T> for File<'_> {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
    fn read(&self, name: &str) -> Result<Option<Input<'_, T>>, Error> {
        self.0.get(name).map_or(Ok(None), |tensor| decoded(name, tensor))
    }
}

/// The entries of a tensor, in the computing type; `None` for a type that is not read.
fn decoded<T: Real>(
    name: &str,
    tensor: &TensorView<'_>,
) -> Result<Option<Input<'static, T>>, Error> {
    /// Splits little-endian bytes into numbers.
    macro_rules! numbers {
        ($type:ty, $to:expr) => {
            tensor
                .data()
                .chunks_exact(size_of::<$type>())
                .map(|b| $to(<$type>::from_le_bytes(b.try_into().expect("whole chunks"))))
                .collect()
        };
    }
    check_claim(name, tensor.shape())?;
    let misfit = |error: ndarray::ShapeError| {
        Error::shape(name, "as many entries as it says", tensor.shape(), error.to_string())
    };
    let real = |numbers: Vec<T>| {
        let tensor = ArrayD::from_shape_vec(IxDyn(tensor.shape()), numbers).map_err(misfit)?;
        Ok(Some(Input::Real(tensor.into())))
    };
    let whole = |numbers: Vec<i64>| {
        let tensor = ArrayD::from_shape_vec(IxDyn(tensor.shape()), numbers).map_err(misfit)?;
        Ok(Some(Input::Whole(tensor.into())))
    };
    let bits = |numbers: Vec<u8>| {
        let tensor = ArrayD::from_shape_vec(IxDyn(tensor.shape()), numbers).map_err(misfit)?;
        Ok(Some(Input::Bits(tensor.into())))
    };
    match tensor.dtype() {
        Dtype::F32 => real(numbers!(f32, |x: f32| T::of(x.into()))),
        Dtype::F64 => real(numbers!(f64, T::of)),
        Dtype::BF16 => real(numbers!(bf16, |x: bf16| T::of(x.to_f64()))),
        Dtype::F16 => real(numbers!(f16, |x: f16| T::of(x.to_f64()))),
        Dtype::I64 => whole(numbers!(i64, |x| x)),
        Dtype::I32 => whole(numbers!(i32, i64::from)),
        Dtype::U32 => whole(numbers!(u32, i64::from)),
        Dtype::U8 => whole(numbers!(u8, i64::from)),
        Dtype::BOOL => bits(numbers!(u8, |x| x)),
        _ => Ok(None),
    }
}

/// Completes an error about a tensor that is not of the kind that is read by the type it has in `file`.
pub fn with_types(error: Error, file: &SafeTensors<'_>) -> Error {
    match error {
        Error::Entries { name, expected, found, advice } => {
            let types = if expected == "whole numbers" { WHOLE_TYPES } else { REAL_TYPES };
            let found = match file.tensor(&name) {
                Ok(tensor) => format!("{found} ({:?})", tensor.dtype()),
                Err(_) => found,
            };
            Error::Entries { name, expected: format!("{expected} ({types})"), found, advice }
        }
        other => other,
    }
}

const REAL_TYPES: &str = "F32, F64, BF16 or F16";
const WHOLE_TYPES: &str = "I64, I32, U32 or U8";

/// The content of a file with the answers.
pub fn written<T: Real>(answers: &Answers<T>) -> Result<Vec<u8>, String> {
    let double = size_of::<T>() == size_of::<f64>();
    let number = |x: &T| match double {
        true => x.f64().to_le_bytes().to_vec(),
        false => (x.f64() as f32).to_le_bytes().to_vec(),
    };
    let bytes = |tensor: &Tensor<T>| match tensor {
        Tensor::Real(tensor) => {
            let dtype = if double { Dtype::F64 } else { Dtype::F32 };
            (dtype, tensor.iter().flat_map(number).collect())
        }
        Tensor::Index(tensor) => {
            (Dtype::I64, tensor.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        Tensor::Bits(tensor) => (Dtype::U8, tensor.iter().copied().collect::<Vec<u8>>()),
    };
    let all: Vec<_> =
        answers.iter().map(|(name, tensor)| (name, tensor.shape(), bytes(tensor))).collect();
    let views: Result<Vec<_>, _> = all
        .iter()
        .map(|(name, shape, (dtype, bytes))| {
            TensorView::new(*dtype, shape.to_vec(), bytes).map(|view| (*name, view))
        })
        .collect();
    let views = views.map_err(|e| e.to_string())?;
    // One entry, so that the same answers are the same bytes: several would come in any order.
    let meanings: Vec<String> =
        answers.meanings().map(|(name, meaning)| format!("{name}: {meaning}")).collect();
    let metadata = match meanings.is_empty() {
        true => None,
        false => Some(HashMap::from([("meanings".to_owned(), meanings.join("; "))])),
    };
    safetensors::serialize(views, metadata).map_err(|e| e.to_string())
}
