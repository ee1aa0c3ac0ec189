//! The numbers of a model file that gradients come for, and the tensors that may stand in for them.

use ndarray::{ArrayD, IxDyn};

use super::build::{Tensors, matrix};
use super::{
    AlibiSpec, ModelSpec, PerHead, PotentialSpec, PrecisionSpec, PriorSpec, StructureSpec,
};
use crate::prior::Alibi;
use crate::{Error, Real};

/// Where a number may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Anywhere.
    Real,
    /// Above 0.
    Positive,
    /// In [0, 1).
    UnitInterval,
}

/// A parameter that a model file gives as numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// Its name, as in gradients: `geometric.rho`, and `geometric.rho.2` the second time.
    pub name: String,
    /// What the file says.
    pub values: ArrayD<f64>,
    /// Where they may lie.
    pub domain: Domain,
}

impl Numbers {
    fn new(name: &str, values: ArrayD<f64>, domain: Domain) -> Self {
        Self { name: name.to_owned(), values, domain }
    }

    fn per_head(name: &str, numbers: &PerHead, domain: Domain) -> Self {
        Self::new(
            name,
            ArrayD::from_shape_vec(IxDyn(&[numbers.values().len()]), numbers.values())
                .expect("a list"),
            domain,
        )
    }
}

impl ModelSpec {
    /// The parameters that the file gives as numbers: the structure's, then the priors', then the
    /// potential's. [`ModelSpec::build`] takes a tensor of the same name in their place, so that
    /// they can be learned, or differ from call to call.
    ///
    /// # Errors
    /// [`Error::Value`] where a matrix has ragged rows.
    pub fn numbers(&self, heads: usize, width: usize) -> Result<Vec<Numbers>, Error> {
        let mut all = self.structure.numbers();
        all.extend(self.prior.iter().flat_map(|prior| prior.numbers(heads)));
        all.extend(self.potential.numbers(width)?);
        tell_apart(&mut all);
        Ok(all)
    }

    /// The same with the tensors that stand in for them, in order.
    pub(super) fn given<T: Real>(
        &self,
        heads: usize,
        width: usize,
        tensors: &Tensors<'_, T>,
    ) -> Result<Given, Error> {
        Ok(Given::replaced(self.numbers(heads, width)?, tensors))
    }
}

/// Those of a product of priors.
pub(super) fn of_priors(priors: &[PriorSpec], heads: usize) -> Vec<Numbers> {
    let mut all = priors.iter().flat_map(|prior| prior.numbers(heads)).collect::<Vec<_>>();
    tell_apart(&mut all);
    all
}

/// Names repeats as gradients do.
fn tell_apart(numbers: &mut [Numbers]) {
    crate::gradient::number_repeats(numbers.iter_mut().map(|numbers| &mut numbers.name).collect());
}

/// Parameters in the order in which the parts of a model take them.
pub(super) struct Given(std::vec::IntoIter<Numbers>);

impl Given {
    /// `numbers`, or the tensors of their names.
    pub fn replaced<T: Real>(mut numbers: Vec<Numbers>, tensors: &Tensors<'_, T>) -> Self {
        tell_apart(&mut numbers);
        for numbers in &mut numbers {
            if let Some(tensor) = tensors.real.get(&numbers.name) {
                numbers.values = tensor.mapv(T::f64);
            }
        }
        Self(numbers.into_iter())
    }

    /// The next one, flat.
    pub fn list(&mut self) -> Vec<f64> {
        self.array().1.into_iter().collect()
    }

    /// The next one and its name.
    pub fn array(&mut self) -> (String, ArrayD<f64>) {
        let numbers = self.0.next().expect("every part takes what it named");
        (numbers.name, numbers.values)
    }
}

impl StructureSpec {
    fn numbers(&self) -> Vec<Numbers> {
        match self {
            Self::EachQueryPicksAtMostOne { null } => {
                vec![Numbers::per_head("null", null, Domain::Real)]
            }
            Self::Walk { step, .. } => step.numbers(),
            Self::EachQueryPicksOne
            | Self::EachKeyPicksOne
            | Self::Independent
            | Self::NearestAccepted => Vec::new(),
        }
    }
}

impl PriorSpec {
    pub(super) fn numbers(&self, heads: usize) -> Vec<Numbers> {
        let positive = |name, numbers| Numbers::per_head(name, numbers, Domain::Positive);
        match self {
            Self::Geometric { rho } => {
                vec![Numbers::per_head("geometric.rho", rho, Domain::UnitInterval)]
            }
            Self::Alibi(slopes) => {
                let slopes = match slopes {
                    AlibiSpec::Standard => Alibi::standard(heads).slopes().to_vec(),
                    AlibiSpec::Slopes(slopes) => slopes.clone(),
                };
                vec![Numbers::per_head("alibi.slopes", &PerHead::Each(slopes), Domain::Real)]
            }
            Self::Laplace { scale } => vec![positive("laplace.scale", scale)],
            Self::GeneralizedGaussian { scale, shape } => vec![
                positive("generalized-gaussian.scale", scale),
                positive("generalized-gaussian.shape", shape),
            ],
            Self::BetaGeometric { alpha, beta } => {
                vec![positive("beta-geometric.alpha", alpha), positive("beta-geometric.beta", beta)]
            }
            Self::Uniform
            | Self::Causal
            | Self::Window { .. }
            | Self::Segments
            | Self::Adjacency
            | Self::Bias
            | Self::RelativeBuckets { .. }
            | Self::KeyBias => Vec::new(),
        }
    }
}

impl PotentialSpec {
    pub(super) fn numbers(&self, width: usize) -> Result<Vec<Numbers>, Error> {
        Ok(match self {
            Self::Dot { scale, .. } => {
                // As [`crate::potential::Dot::scaled`].
                let usual = || PerHead::One(1.0 / (width.max(1) as f64).sqrt());
                let scale = scale.clone().unwrap_or_else(usual);
                vec![Numbers::per_head("dot.scale", &scale, Domain::Real)]
            }
            Self::Cosine { scale } => {
                vec![Numbers::per_head("cosine.scale", scale, Domain::Real)]
            }
            Self::Gaussian { precision } => {
                let rows = match precision {
                    PrecisionSpec::Scalar(precision) => vec![vec![*precision]],
                    PrecisionSpec::Matrix(rows) => rows.clone(),
                };
                let values = matrix("gaussian.precision", &rows)?.into_dyn();
                vec![Numbers::new("gaussian.precision", values, Domain::Positive)]
            }
            Self::Additive { .. } => Vec::new(),
            Self::Rotary { potential, .. } => potential.numbers(width)?,
        })
    }
}
