//! From a model as data to a model that runs.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayBase, ArrayD, CowArray, CowRepr, Dimension, Ix2, Ix3, Ix4, IxDyn};

use super::numbers::Given;
use super::{
    AdditiveKindSpec, HopWeights, ModelSpec, PotentialSpec, PriorSpec, RotaryPairsSpec,
    StructureSpec, ValueSpec,
};
use crate::potential::{Additive, Cosine, Dot, Gaussian, Potential, Rotary, RotaryPairs};
use crate::prior::{
    Adjacency, Alibi, BetaGeometric, Bias, Causal, Directions, GeneralizedGaussian, Geometric,
    KeyBias, Laplace, Prior, Product, RelativeBuckets, Segments, Uniform, Window,
};
use crate::structure::{
    EachKeyPicksOne, EachQueryPicksAtMostOne, EachQueryPicksOne, HopDistribution, Independent,
    NearestAccepted, Structure, Walk,
};
use crate::{Error, Model, Real, Value};

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

/// A model built from data.
pub type SpecModel<'a, T> = Model<Box<dyn Structure<T>>, Product<'a, T>, Box<dyn Potential<T>>>;

impl<T: Real> Tensors<'_, T> {
    /// The names of all.
    pub fn names(&self) -> Vec<String> {
        self.real.keys().chain(self.integer.keys()).cloned().collect()
    }

    /// The error of a tensor that is not there, or is there with entries of the other kind.
    fn missing(&self, name: &str, why: &str) -> Error {
        if self.integer.contains_key(name) {
            return Error::entries(name, "real numbers", "whole numbers");
        }
        if self.real.contains_key(name) {
            return Error::entries(name, "whole numbers", "real numbers");
        }
        Error::MissingTensor { name: name.into(), why: why.into(), present: self.names() }
    }

    fn get(&self, name: &str, why: &str) -> Result<&CowArray<'_, T, IxDyn>, Error> {
        self.real.get(name).ok_or_else(|| self.missing(name, why))
    }

    /// A whole-numbered tensor.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] and [`Error::Entries`].
    pub fn integers(&self, name: &str, why: &str) -> Result<&ArrayD<i64>, Error> {
        self.integer.get(name).ok_or_else(|| self.missing(name, why))
    }

    /// A small tensor in `f64` with a fixed number of axes, leading axes of length 1 added as
    /// needed.
    fn small<D: Dimension>(&self, name: &str, why: &str) -> Result<ndarray::Array<f64, D>, Error> {
        let axes = D::NDIM.expect("a fixed number of axes");
        let tensor = with_axes(name, self.get(name, why)?.mapv(T::f64), axes)?;
        Ok(tensor.into_dimensionality().expect("axes were added"))
    }

    fn offsets(&self, name: &str, why: &str) -> Result<Vec<usize>, Error> {
        let whole =
            |&x: &i64| usize::try_from(x).map_err(|_| Error::value(name, "whole numbers ≥ 0", x));
        self.integers(name, why)?.iter().map(whole).collect()
    }

    fn rows(&self, name: &str, why: &str) -> Result<Array2<i64>, Error> {
        let tensor = with_axes(name, self.integers(name, why)?.clone(), 2)?;
        Ok(tensor.into_dimensionality::<Ix2>().expect("two axes"))
    }
}

/// Adds leading axes of length 1 up to `axes`.
fn with_axes<R: Clone>(name: &str, tensor: ArrayD<R>, axes: usize) -> Result<ArrayD<R>, Error> {
    if tensor.ndim() > axes {
        return Err(Error::shape(
            name,
            format!("at most {axes} axes"),
            tensor.shape(),
            "Axes are aligned from the last.",
        ));
    }
    let mut shape = vec![1; axes - tensor.ndim()];
    shape.extend_from_slice(tensor.shape());
    let values = tensor.iter().cloned().collect();
    Ok(ArrayD::from_shape_vec(IxDyn(&shape), values).expect("the same number of entries"))
}

impl ModelSpec {
    /// Builds the model for `heads` query heads of `width` numbers, with the tensors it names. A tensor
    /// called as one of its [numbers](ModelSpec::numbers) takes that one's place.
    ///
    /// The dense tensor `bias` is borrowed from `tensors`; everything else is small, and copied.
    pub fn build<'a, T: Real>(
        &self,
        heads: usize,
        width: usize,
        tensors: &'a Tensors<'_, T>,
    ) -> Result<SpecModel<'a, T>, Error> {
        let bias = tensors.real.get("bias").map(|bias| bias.view().into());
        T::engine().build(self, heads, width, tensors, bias)
    }

    /// The same model with everything that it reads copied, for a model that outlives `tensors`.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_owned<T: Real>(
        &self,
        heads: usize,
        width: usize,
        tensors: &Tensors<'_, T>,
    ) -> Result<SpecModel<'static, T>, Error> {
        let bias = tensors.real.get("bias").map(|bias| bias.to_owned().into());
        T::engine().build(self, heads, width, tensors, bias)
    }

    /// P(h), the distribution of the number of hops; `None` where the structure is not a walk.
    ///
    /// # Errors
    /// [`Error`], where the weights are no distribution.
    pub fn hop_distribution<T: Real>(
        &self,
        tensors: &Tensors<'_, T>,
    ) -> Result<Option<HopDistribution>, Error> {
        let StructureSpec::Walk { hops, weights, .. } = &self.structure else { return Ok(None) };
        Ok(Some(walk(*hops, weights.as_ref(), tensors)?.distribution().clone()))
    }

    pub(crate) fn build_generic<'a, T: Real>(
        &self,
        heads: usize,
        width: usize,
        tensors: &Tensors<'_, T>,
        bias: Option<CowArray<'a, T, IxDyn>>,
    ) -> Result<SpecModel<'a, T>, Error> {
        let mut given = self.given(heads, width, tensors)?;
        let structure = self.structure.build(&mut given, tensors)?;
        let prior = build_prior(&self.prior, &mut given, heads, tensors, bias.as_ref())?;
        let value = match self.value {
            ValueSpec::Gather => Value::Gather,
            ValueSpec::Average => Value::Average,
        };
        let potential = self.potential.build_given(&mut given, tensors)?;
        Ok(Model::new(structure, prior, potential)
            .with_value(value)
            .with_query_offset(self.query_offset))
    }
}

impl StructureSpec {
    fn build<T: Real>(
        &self,
        given: &mut Given,
        tensors: &Tensors<'_, T>,
    ) -> Result<Box<dyn Structure<T>>, Error> {
        Ok(match self {
            Self::EachQueryPicksOne => Box::new(EachQueryPicksOne),
            Self::EachQueryPicksAtMostOne { .. } => {
                Box::new(EachQueryPicksAtMostOne::per_head(&given.list()))
            }
            Self::EachKeyPicksOne => Box::new(EachKeyPicksOne),
            Self::NearestAccepted => Box::new(NearestAccepted),
            Self::Independent => Box::new(Independent),
            Self::Walk { step, .. } if matches!(**step, Self::Walk { .. }) => {
                return Err(Error::value("walk.step", "a structure of one step", "a walk"));
            }
            Self::Walk { hops, weights, step } => {
                let walk = walk(*hops, weights.as_ref(), tensors)?;
                Box::new(walk.of(step.build(given, tensors)?))
            }
        })
    }
}

/// Weights over the number of hops, from the file or the tensors it names.
fn walk<T: Real>(
    hops: Option<usize>,
    weights: Option<&HopWeights>,
    tensors: &Tensors<'_, T>,
) -> Result<Walk, Error> {
    let why = "weights of the structure `walk`";
    let walk = match weights {
        Some(HopWeights::One(list)) => Walk::new(list)?,
        Some(HopWeights::Each(rows)) => Walk::per_head(matrix("walk.weights", rows)?)?,
        None if tensors.real.contains_key("walk.log-weights") => {
            let log_weights = tensors.small::<Ix2>("walk.log-weights", why)?;
            Walk::from_log_weights_per_head(log_weights)?
        }
        None if tensors.real.contains_key("walk.weights") => {
            Walk::per_head(tensors.small::<Ix2>("walk.weights", why)?)?
        }
        None => match hops {
            Some(hops) => Walk::uniform(hops)?,
            None => return Err(Error::value("walk.hops", "a number, or weights", "neither")),
        },
    };
    match hops {
        Some(hops) if hops != walk.hops() => Err(Error::value(
            "walk.weights",
            format!("{} of them: for 0, 1, … {hops} hops", hops + 1),
            walk.hops() + 1,
        )),
        _ => Ok(walk),
    }
}

/// The product of priors.
pub(super) fn build_prior<'a, T: Real>(
    priors: &[PriorSpec],
    given: &mut Given,
    heads: usize,
    tensors: &Tensors<'_, T>,
    bias: Option<&CowArray<'a, T, IxDyn>>,
) -> Result<Product<'a, T>, Error> {
    let priors: Result<Vec<_>, Error> =
        priors.iter().map(|prior| prior.build(given, heads, tensors, bias)).collect();
    Ok(Product(priors?))
}

/// Rows of numbers as a matrix.
pub(super) fn matrix(name: &str, rows: &[Vec<f64>]) -> Result<Array2<f64>, Error> {
    let columns = rows.first().map_or(0, Vec::len);
    match Array2::from_shape_vec((rows.len(), columns), rows.concat()) {
        Ok(matrix) if rows.iter().all(|row| row.len() == columns) => Ok(matrix),
        _ => Err(Error::value(name, "rows of equal length", "ragged rows")),
    }
}

impl PriorSpec {
    fn build<'a, T: Real>(
        &self,
        given: &mut Given,
        heads: usize,
        tensors: &Tensors<'_, T>,
        bias: Option<&CowArray<'a, T, IxDyn>>,
    ) -> Result<Box<dyn Prior<T> + 'a>, Error> {
        Ok(match self {
            Self::Uniform => Box::new(Uniform),
            Self::Causal => Box::new(Causal),
            Self::Window { left, right } => Box::new(Window { left: *left, right: *right }),
            Self::Segments => {
                let why = "the segment number of each node, for the prior `segments`";
                let (q, k) = (tensors.rows("segments.q", why)?, tensors.rows("segments.k", why)?);
                Box::new(Segments::new(q, k))
            }
            Self::Adjacency => {
                let why = "the graph, for the prior `adjacency`";
                let indptr = tensors.offsets("adjacency.indptr", why)?;
                let indices = tensors.offsets("adjacency.indices", why)?;
                Box::new(match tensors.real.get("adjacency.log-weights") {
                    None => Adjacency::new(indptr, indices)?,
                    Some(weights) => {
                        let weights = weights.iter().map(|x| x.f64()).collect();
                        Adjacency::weighted(indptr, indices, weights)?
                    }
                })
            }
            Self::Bias => {
                let why = "log-weights, for the prior `bias`";
                let tensor = bias.ok_or_else(|| tensors.missing("bias", why))?;
                Box::new(Bias::new(four_axes("bias", tensor.clone())?))
            }
            Self::Geometric { .. } => Box::new(Geometric::per_head(&given.list())),
            Self::Alibi(_) => Box::new(Alibi::new(&given.list())),
            Self::Laplace { .. } => Box::new(Laplace::per_head(&given.list())),
            Self::GeneralizedGaussian { .. } => {
                Box::new(GeneralizedGaussian::per_head(&given.list(), &given.list()))
            }
            Self::RelativeBuckets { buckets, max_distance, bidirectional } => {
                let why = "log-weights by bucket and head, for the prior `relative-buckets`";
                let table = tensors.small::<Ix2>("relative-bias", why)?;
                if table.nrows() != *buckets {
                    return Err(Error::shape(
                        "relative-bias",
                        format!("[{buckets}, {heads}], as the model's `buckets` says"),
                        table.shape(),
                        "Make the table and the setting agree.",
                    ));
                }
                let directions = if *bidirectional { Directions::Both } else { Directions::Behind };
                Box::new(RelativeBuckets::new(table, *max_distance, directions))
            }
            Self::KeyBias => {
                let tensor = tensors.get("key-bias", "log-weights by key, for `key-bias`")?;
                let tensor = with_axes("key-bias", tensor.to_owned(), 3)?;
                Box::new(KeyBias::new(tensor.into_dimensionality::<Ix3>().expect("three axes")))
            }
            Self::BetaGeometric { .. } => {
                Box::new(BetaGeometric::per_head(&given.list(), &given.list()))
            }
        })
    }
}

/// The same with leading axes of length 1 added up to four.
fn four_axes<'a, T: Clone>(
    name: &str,
    mut tensor: CowArray<'a, T, IxDyn>,
) -> Result<CowArray<'a, T, Ix4>, Error> {
    if tensor.ndim() > 4 {
        return Err(Error::shape(
            name,
            "at most four axes, [B, H, N, M]",
            tensor.shape(),
            "Axes are aligned from the last.",
        ));
    }
    while tensor.ndim() < 4 {
        tensor = tensor.insert_axis(ndarray::Axis(0));
    }
    Ok(tensor.into_dimensionality().expect("four axes"))
}

impl PotentialSpec {
    /// The potential, for nodes of `width` numbers.
    pub fn build<T: Real>(
        &self,
        width: usize,
        tensors: &Tensors<'_, T>,
    ) -> Result<Box<dyn Potential<T>>, Error> {
        self.build_given(&mut Given::replaced(self.numbers(width)?, tensors), tensors)
    }

    fn build_given<T: Real>(
        &self,
        given: &mut Given,
        tensors: &Tensors<'_, T>,
    ) -> Result<Box<dyn Potential<T>>, Error> {
        Ok(match self {
            Self::Dot { softcap, .. } => {
                let dot = Dot::per_head(&given.list());
                Box::new(match softcap {
                    Some(cap) => dot.with_softcap(*cap),
                    None => dot,
                })
            }
            Self::Cosine { .. } => Box::new(Cosine::per_head(&given.list())),
            Self::Gaussian { .. } => {
                let (name, precision) = given.array();
                let precision = with_axes(&name, precision, 2)?;
                let precision = precision.into_dimensionality().expect("two axes");
                Box::new(Gaussian::with_precision(precision))
            }
            Self::Additive { kind, slope } => Box::new(additive(*kind, *slope, tensors)?),
            Self::Rotary { base, pairs, potential } => {
                let pairs = match pairs {
                    RotaryPairsSpec::Halves => RotaryPairs::Halves,
                    RotaryPairsSpec::Neighbours => RotaryPairs::Neighbours,
                };
                Box::new(Rotary::new(potential.build_given(given, tensors)?, *base, pairs))
            }
        })
    }
}

/// LeakyReLU's slope where the model gives none: that of GAT's paper (§3.3).
const USUAL_SLOPE: f64 = 0.2;

fn additive<T: Real>(
    kind: AdditiveKindSpec,
    slope: Option<f64>,
    tensors: &Tensors<'_, T>,
) -> Result<Additive, Error> {
    let why = "weights of the potential `additive`";
    let a = tensors.small::<Ix2>("additive.a", why)?;
    let slope_or_usual = slope.unwrap_or(USUAL_SLOPE);
    let additive = match kind {
        AdditiveKindSpec::Gat => {
            let a_key = tensors.small::<Ix2>("additive.a-key", why)?;
            Additive::gat(slope_or_usual, a, a_key)
        }
        AdditiveKindSpec::Gatv2 => Additive::gat_v2(slope_or_usual, a),
        AdditiveKindSpec::Bahdanau => match slope {
            None => Additive::bahdanau(a),
            Some(slope) => {
                return Err(Error::value("additive.slope", "nothing: tanh has no slope", slope));
            }
        },
    };
    let projected =
        tensors.real.contains_key("additive.query") || tensors.real.contains_key("additive.key");
    Ok(match projected {
        false => additive,
        true => additive.with_projections(
            tensors.small::<Ix3>("additive.query", why)?,
            tensors.small::<Ix3>("additive.key", why)?,
        ),
    })
}
