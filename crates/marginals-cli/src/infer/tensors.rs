//! Tensors in and out of safetensors files.

use std::collections::{BTreeMap, HashMap};

use half::{bf16, f16};
use marginals::infer::exact::Gradients;
use marginals::spec::Tensors;
use marginals::{Error, Real};
use ndarray::{Array, ArrayD, CowArray, Dimension, IxDyn};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// The tensors of an input file, in the computing type.
pub struct Inputs<T: 'static> {
    named: Tensors<'static, T>,
}

impl<T: Real> Inputs<T> {
    /// Reads every tensor of a file.
    pub fn read(file: &SafeTensors<'_>) -> Result<Self, String> {
        let mut named = Tensors::default();
        for (name, tensor) in file.tensors() {
            let shape = IxDyn(tensor.shape());
            let misfit = |e: ndarray::ShapeError| format!("tensor `{name}`: {e}");
            match decode(&tensor) {
                Some(Decoded::Real(values)) => {
                    let array = ArrayD::from_shape_vec(shape, values).map_err(misfit)?;
                    named.real.insert(name, array.into());
                }
                Some(Decoded::Whole(values)) => {
                    let array = ArrayD::from_shape_vec(shape, values).map_err(misfit)?;
                    named.integer.insert(name, array);
                }
                None => {
                    return Err(format!(
                        "tensor `{name}` is {:?}; use f32, f64, bf16 or f16 for numbers and \
                         i64, i32, u32 or u8 for indices",
                        tensor.dtype()
                    ));
                }
            }
        }
        Ok(Self { named })
    }

    /// Tensors that are there already.
    pub fn of(named: Tensors<'static, T>) -> Self {
        Self { named }
    }

    /// Takes a real tensor out.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] and [`Error::Entries`], which [`with_what_is_held`] completes.
    pub fn take<D: Dimension>(&mut self, name: &str, why: &str) -> Result<Array<T, D>, Error> {
        let Some(tensor) = self.named.real.remove(name) else {
            if self.named.integer.contains_key(name) {
                return Err(Error::entries(name, "real numbers", "whole numbers"));
            }
            let (real, integer) = (self.named.real.keys(), self.named.integer.keys());
            return Err(Error::MissingTensor {
                name: name.into(),
                why: why.into(),
                present: real.chain(integer).cloned().collect(),
            });
        };
        let shape = tensor.shape().to_vec();
        tensor.into_owned().into_dimensionality().map_err(|_| {
            let axes = D::NDIM.unwrap_or_default();
            Error::shape(name, format!("{axes} axes: {why}"), &shape, "Reshape the tensor.")
        })
    }

    /// Takes out every real tensor whose name starts with `prefix`, under the rest of its name.
    pub fn drain(&mut self, prefix: &str) -> BTreeMap<String, ArrayD<T>> {
        let real = std::mem::take(&mut self.named.real);
        let (taken, kept): (Vec<_>, Vec<_>) =
            real.into_iter().partition(|(name, _)| name.starts_with(prefix));
        self.named.real = kept.into_iter().collect();
        let rest = |(name, tensor): (String, CowArray<'_, T, IxDyn>)| {
            (name[prefix.len()..].to_owned(), tensor.into_owned())
        };
        taken.into_iter().map(rest).collect()
    }

    /// Whether there is a tensor of this name, whatever its entries: one that cannot be used is to be
    /// refused and not to be passed over.
    pub fn holds(&self, name: &str) -> bool {
        self.named.real.contains_key(name) || self.named.integer.contains_key(name)
    }

    /// Takes a real tensor out, where it is there.
    pub fn optional<D: Dimension>(
        &mut self,
        name: &str,
        why: &str,
    ) -> Result<Option<Array<T, D>>, Error> {
        match self.holds(name) {
            true => self.take(name, why).map(Some),
            false => Ok(None),
        }
    }

    /// Refuses a `grad.` tensor that is none of `read`: a misspelt one would be lost.
    pub fn refuse_unread_gradients(&self, read: &[&str]) -> Result<(), Error> {
        let names = self.named.real.keys().chain(self.named.integer.keys());
        match names.into_iter().find(|name| name.starts_with("grad.")) {
            None => Ok(()),
            Some(name) => Err(Error::unknown("upstream gradient", name, read)),
        }
    }

    /// The tensors not taken out, for the model to name.
    pub fn into_named(self) -> Tensors<'static, T> {
        self.named
    }
}

/// Completes an error about a tensor that is not there, or not of the kind that is read: by what the
/// file holds, of which the model has seen a part, and by the type it has there.
pub fn with_what_is_held(error: Error, file: &SafeTensors<'_>) -> Error {
    match error {
        Error::MissingTensor { name, why, .. } => {
            let mut present: Vec<String> = file.names().into_iter().map(str::to_owned).collect();
            present.sort_unstable();
            Error::MissingTensor { name, why, present }
        }
        Error::Entries { name, expected, found } => {
            let types = if expected == "whole numbers" { WHOLE_TYPES } else { REAL_TYPES };
            let found = match file.tensor(&name) {
                Ok(tensor) => format!("{found} ({:?})", tensor.dtype()),
                Err(_) => found,
            };
            Error::Entries { name, expected: format!("{expected} ({types})"), found }
        }
        other => other,
    }
}

const REAL_TYPES: &str = "F32, F64, BF16 or F16";
const WHOLE_TYPES: &str = "I64, I32, U32 or U8";

/// The numbers of one tensor.
enum Decoded<T> {
    Real(Vec<T>),
    Whole(Vec<i64>),
}

/// The numbers of a tensor, or `None` for a type that is not read.
fn decode<T: Real>(tensor: &TensorView<'_>) -> Option<Decoded<T>> {
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
    Some(match tensor.dtype() {
        Dtype::F32 => Decoded::Real(numbers!(f32, |x: f32| T::of(x.into()))),
        Dtype::F64 => Decoded::Real(numbers!(f64, T::of)),
        Dtype::BF16 => Decoded::Real(numbers!(bf16, |x: bf16| T::of(x.to_f64()))),
        Dtype::F16 => Decoded::Real(numbers!(f16, |x: f16| T::of(x.to_f64()))),
        Dtype::I64 => Decoded::Whole(numbers!(i64, |x| x)),
        Dtype::I32 => Decoded::Whole(numbers!(i32, i64::from)),
        Dtype::U32 => Decoded::Whole(numbers!(u32, i64::from)),
        Dtype::U8 | Dtype::BOOL => Decoded::Whole(numbers!(u8, i64::from)),
        _ => return None,
    })
}

/// The tensors of an output file.
pub struct Output<T> {
    real: BTreeMap<String, ArrayD<T>>,
    integer: BTreeMap<String, ArrayD<i64>>,
    bytes: BTreeMap<String, ArrayD<u8>>,
    descriptions: BTreeMap<String, String>,
}

impl<T> Default for Output<T> {
    fn default() -> Self {
        Self {
            real: BTreeMap::new(),
            integer: BTreeMap::new(),
            bytes: BTreeMap::new(),
            descriptions: BTreeMap::new(),
        }
    }
}

impl<T: Real> Output<T> {
    /// Adds numbers.
    pub fn real(&mut self, name: &str, tensor: ArrayD<T>) {
        self.real.insert(name.into(), tensor);
    }

    /// Adds indices.
    pub fn integer(&mut self, name: &str, tensor: ArrayD<i64>) {
        self.integer.insert(name.into(), tensor);
    }

    /// Adds flags.
    pub fn bytes(&mut self, name: &str, tensor: ArrayD<u8>) {
        self.bytes.insert(name.into(), tensor);
    }

    /// Adds gradients with respect to everything, as `grad.*`.
    pub fn gradients(&mut self, gradients: Gradients<T>) {
        self.real("grad.q", gradients.q.into_dyn());
        self.real("grad.k", gradients.k.into_dyn());
        if let Some(v) = gradients.v {
            self.real("grad.v", v.into_dyn());
        }
        for parameter in gradients.parameters {
            self.real(&format!("grad.{}", parameter.name), parameter.gradient);
        }
    }

    /// Says what the numbers under a name mean, in the file's metadata.
    pub fn describe(&mut self, name: &str, meaning: &str) {
        self.descriptions.insert(name.into(), meaning.into());
    }

    /// The numbers under a name.
    pub fn get(&self, name: &str) -> Option<&ArrayD<T>> {
        self.real.get(name)
    }

    /// The names of all numbers, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.real.keys().map(String::as_str)
    }

    /// The file's content.
    pub fn write(&self) -> Result<Vec<u8>, String> {
        let double = size_of::<T>() == size_of::<f64>();
        let dtype = if double { Dtype::F64 } else { Dtype::F32 };
        let number = |x: &T| match double {
            true => x.f64().to_le_bytes().to_vec(),
            false => (x.f64() as f32).to_le_bytes().to_vec(),
        };
        let mut all: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, tensor) in &self.real {
            let bytes = tensor.iter().flat_map(number).collect();
            all.push((name.clone(), dtype, tensor.shape().to_vec(), bytes));
        }
        for (name, tensor) in &self.integer {
            let bytes = tensor.iter().flat_map(|x| x.to_le_bytes()).collect();
            all.push((name.clone(), Dtype::I64, tensor.shape().to_vec(), bytes));
        }
        for (name, tensor) in &self.bytes {
            let bytes = tensor.iter().copied().collect();
            all.push((name.clone(), Dtype::U8, tensor.shape().to_vec(), bytes));
        }
        let views: Result<Vec<_>, _> = all
            .iter()
            .map(|(name, dtype, shape, bytes)| {
                TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
            })
            .collect();
        let views = views.map_err(|e| e.to_string())?;
        // One entry, so that the same answers are the same bytes: several would come in any order.
        let meanings: Vec<String> =
            self.descriptions.iter().map(|(name, meaning)| format!("{name}: {meaning}")).collect();
        let metadata = match meanings.is_empty() {
            true => None,
            false => Some(HashMap::from([("meanings".to_owned(), meanings.join("; "))])),
        };
        safetensors::serialize(views, metadata).map_err(|e| e.to_string())
    }
}
