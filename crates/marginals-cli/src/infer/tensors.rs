//! Tensors in and out of safetensors files.

use std::collections::{BTreeMap, HashMap};

use half::{bf16, f16};
use marginals::infer::exact::Gradients;
use marginals::spec::{Reads, Tensors};
use marginals::{Error, Real, check_claim};
use ndarray::{Array, ArrayD, CowArray, Dimension, IxDyn};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// The tensors of an input file, each read when it is taken: a file may hold others, of whatever type.
pub struct Inputs<'file, T: 'static> {
    held: BTreeMap<String, Held<'file, T>>,
}

/// A tensor of the input.
pub enum Held<'file, T: 'static> {
    /// As the file has it.
    Stored(TensorView<'file>),
    /// Numbers that are there already.
    Real(CowArray<'static, T, IxDyn>),
    /// Indices that are there already.
    Whole(ArrayD<i64>),
}

impl<'file, T: Real> Inputs<'file, T> {
    /// The tensors of a file, also by the names that `shared` gives them beside their own.
    pub fn of_file(file: &SafeTensors<'file>, shared: &HashMap<String, String>) -> Self {
        let own = file.tensors();
        let more = shared.iter().filter_map(|(name, own)| Some((name.clone(), file.tensor(own).ok()?)));
        let held = own.into_iter().chain(more);
        Self { held: held.map(|(name, tensor)| (name, Held::Stored(tensor))).collect() }
    }

    /// Tensors that are there already.
    pub fn of(named: Tensors<'static, T>) -> Self {
        let real = named.real.into_iter().map(|(name, tensor)| (name, Held::Real(tensor)));
        let whole = named.integer.into_iter().map(|(name, tensor)| (name, Held::Whole(tensor)));
        Self { held: real.chain(whole).collect() }
    }

    /// Takes a real tensor out.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] and [`Error::Entries`], which [`with_what_is_held`] completes.
    pub fn take<D: Dimension>(&mut self, name: &str, why: &str) -> Result<Array<T, D>, Error> {
        let Some(held) = self.held.remove(name) else {
            return Err(Error::MissingTensor {
                name: name.into(),
                why: why.into(),
                present: self.held.keys().cloned().collect(),
            });
        };
        let tensor = match held.decoded(name)? {
            Decoded::Real(tensor) => tensor,
            Decoded::Whole(_) => return Err(Error::entries(name, REAL, WHOLE)),
            Decoded::Unread => return Err(Error::entries(name, REAL, UNREAD)),
        };
        let shape = tensor.shape().to_vec();
        tensor.into_owned().into_dimensionality().map_err(|_| {
            let axes = D::NDIM.unwrap_or_default();
            Error::shape(name, format!("{axes} axes: {why}"), &shape, "Reshape the tensor.")
        })
    }

    /// Takes out every tensor whose name starts with `prefix`, under the rest of its name.
    pub fn drain(&mut self, prefix: &str) -> BTreeMap<String, Held<'file, T>> {
        let held = std::mem::take(&mut self.held);
        let (taken, kept): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|(name, _)| name.starts_with(prefix));
        self.held = kept.into_iter().collect();
        taken.into_iter().map(|(name, held)| (name[prefix.len()..].to_owned(), held)).collect()
    }

    /// Whether there is a tensor of this name, whatever its entries: one that cannot be used is to be
    /// refused and not to be passed over.
    pub fn holds(&self, name: &str) -> bool {
        self.held.contains_key(name)
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
        match self.held.keys().find(|name| name.starts_with("grad.")) {
            None => Ok(()),
            Some(name) => Err(Error::unknown("upstream gradient", name, read)),
        }
    }

    /// Those of the tensors not taken out that are the model's business, for it to name.
    ///
    /// # Errors
    /// [`Error::Entries`] for one of a type that is not read.
    pub fn into_named(self, reads: &Reads) -> Result<Tensors<'static, T>, Error> {
        let mut named = Tensors::default();
        for (name, held) in self.held {
            if !reads.concerns(&name) && !OF_QUESTIONS.contains(&name.as_str()) {
                continue;
            }
            let is_mask = MASKS.contains(&name.as_str());
            let decoded = match is_mask {
                true => held.log_weights(&name)?,
                false => held.decoded(&name)?,
            };
            match decoded {
                Decoded::Real(tensor) => drop(named.real.insert(name, tensor)),
                Decoded::Whole(tensor) => drop(named.integer.insert(name, tensor)),
                Decoded::Unread => {
                    let expected = if reads.real.contains(&name) { REAL } else { WHOLE };
                    let error = Error::entries(name, expected, UNREAD);
                    return Err(if is_mask { error.of_a_mask() } else { error });
                }
            }
        }
        Ok(named)
    }
}

/// Tensors that a question reads.
const OF_QUESTIONS: &[&str] = &["paths"];

/// Tensors that may be masks: true where an edge may be picked.
const MASKS: &[&str] = &["bias", "key-bias"];

/// Completes an error about a tensor that is not there, or not of the kind that is read: by what the
/// file holds, of which the model has seen a part, and by the type it has there.
pub fn with_what_is_held(error: Error, file: &SafeTensors<'_>) -> Error {
    match error {
        Error::MissingTensor { name, why, .. } => {
            let mut present: Vec<String> = file.names().into_iter().map(str::to_owned).collect();
            present.sort_unstable();
            Error::MissingTensor { name, why, present }
        }
        Error::Entries { name, expected, found, advice } => {
            let types = if expected == WHOLE { WHOLE_TYPES } else { REAL_TYPES };
            let found = match file.tensor(&name) {
                Ok(tensor) => format!("{found} ({:?})", tensor.dtype()),
                Err(_) => found,
            };
            Error::Entries { name, expected: format!("{expected} ({types})"), found, advice }
        }
        other => other,
    }
}

const REAL: &str = "real numbers";
const WHOLE: &str = "whole numbers";
const UNREAD: &str = "entries of a type that is not read";
const REAL_TYPES: &str = "F32, F64, BF16 or F16";
const WHOLE_TYPES: &str = "I64, I32, U32 or U8";

/// The entries of one tensor.
enum Decoded<T: 'static> {
    Real(CowArray<'static, T, IxDyn>),
    Whole(ArrayD<i64>),
    /// Of a type that is not read.
    Unread,
}

impl<T: Real> Held<'_, T> {
    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Stored(tensor) => tensor.shape(),
            Self::Real(tensor) => tensor.shape(),
            Self::Whole(tensor) => tensor.shape(),
        }
    }

    /// Its numbers in row-major order, and `None` where they are not real ones.
    ///
    /// # Errors
    /// [`Error::Shape`], where it claims to hold more than it does.
    pub fn numbers(&self, name: &str) -> Result<Option<Vec<T>>, Error> {
        Ok(match self {
            Self::Stored(tensor) => match decoded::<T>(name, tensor)? {
                Decoded::Real(tensor) => Some(tensor.iter().copied().collect()),
                _ => None,
            },
            Self::Real(tensor) => Some(tensor.iter().copied().collect()),
            Self::Whole(_) => None,
        })
    }

    fn decoded(self, name: &str) -> Result<Decoded<T>, Error> {
        match self {
            Self::Stored(tensor) => decoded(name, &tensor),
            Self::Real(tensor) => Ok(Decoded::Real(tensor)),
            Self::Whole(tensor) => Ok(Decoded::Whole(tensor)),
        }
    }

    /// As [`Self::decoded`], truth values being log-weights: 0 where true, −∞ where false.
    fn log_weights(self, name: &str) -> Result<Decoded<T>, Error> {
        let is_mask = matches!(&self, Self::Stored(tensor) if tensor.dtype() == Dtype::BOOL);
        let log_weight = |&truth: &i64| if truth == 0 { T::neg_infinity() } else { T::zero() };
        Ok(match (self.decoded(name)?, is_mask) {
            (Decoded::Whole(mask), true) => Decoded::Real(mask.map(log_weight).into()),
            (other, _) => other,
        })
    }
}

/// The entries of a tensor of a file.
fn decoded<T: Real>(name: &str, tensor: &TensorView<'_>) -> Result<Decoded<T>, Error> {
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
    let shape = IxDyn(tensor.shape());
    let misfit = |error: ndarray::ShapeError| {
        Error::shape(name, "as many entries as it says", tensor.shape(), error.to_string())
    };
    let real = |numbers: Vec<T>| {
        let array = ArrayD::from_shape_vec(shape.clone(), numbers).map_err(misfit)?;
        Ok(Decoded::Real(array.into()))
    };
    let whole = |numbers: Vec<i64>| {
        Ok(Decoded::Whole(ArrayD::from_shape_vec(shape.clone(), numbers).map_err(misfit)?))
    };
    match tensor.dtype() {
        Dtype::F32 => real(numbers!(f32, |x: f32| T::of(x.into()))),
        Dtype::F64 => real(numbers!(f64, T::of)),
        Dtype::BF16 => real(numbers!(bf16, |x: bf16| T::of(x.to_f64()))),
        Dtype::F16 => real(numbers!(f16, |x: f16| T::of(x.to_f64()))),
        Dtype::I64 => whole(numbers!(i64, |x| x)),
        Dtype::I32 => whole(numbers!(i32, i64::from)),
        Dtype::U32 => whole(numbers!(u32, i64::from)),
        Dtype::U8 | Dtype::BOOL => whole(numbers!(u8, i64::from)),
        _ => Ok(Decoded::Unread),
    }
}

/// The tensors of an output file.
pub struct Output<T> {
    real: BTreeMap<String, ArrayD<T>>,
    integer: BTreeMap<String, ArrayD<i64>>,
    bytes: BTreeMap<String, ArrayD<u8>>,
    descriptions: BTreeMap<String, String>,
    notes: Vec<String>,
}

impl<T> Default for Output<T> {
    fn default() -> Self {
        Self {
            real: BTreeMap::new(),
            integer: BTreeMap::new(),
            bytes: BTreeMap::new(),
            descriptions: BTreeMap::new(),
            notes: Vec::new(),
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

    /// Says what was taken to be so because nobody said otherwise: to whoever runs the command, and under
    /// a name in the file's metadata.
    pub fn assume(&mut self, name: &str, assumed: String) {
        self.describe(name, &assumed);
        self.notes.push(assumed);
    }

    /// What was taken to be so.
    pub fn notes(&self) -> &[String] {
        &self.notes
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
