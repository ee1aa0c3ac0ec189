//! Models that are built once for a forward and its backward.

use std::collections::BTreeMap;
use std::sync::Arc;

use marginals::prior::{Bias, Combine, Prior, Product};
use marginals::spec::{AnyPrior, AnyStructure, ModelSpec, SpecModel, Tensors};
use marginals::{Error, Posterior};
use ndarray::{ArrayD, ArrayView4};

use super::flex::Number;
use super::model::AnyModel;

/// Subject of a posterior.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Spec(Arc<Blueprint>),
    Typed(Arc<dyn AnyModel>),
}

/// A model as data. The prior `bias` is apart: its tensor is as large as the scores, and is read where
/// it lies.
#[derive(Clone, Debug)]
pub(super) struct Blueprint {
    /// The model without it.
    spec: ModelSpec,
    /// How often it stands among the priors.
    biases: usize,
    /// Tensors that the model names in whole numbers.
    pub integer: BTreeMap<String, ArrayD<i64>>,
}

impl Blueprint {
    pub fn new(mut spec: ModelSpec) -> Self {
        let all = spec.prior.len();
        spec.prior.retain(|prior| !matches!(prior, AnyPrior::Bias(_)));
        let biases = all - spec.prior.len();
        Self { spec, biases, integer: BTreeMap::new() }
    }

    /// The same for one pick of a walk, where it is one.
    pub fn of_one_pick(&self) -> Self {
        let mut one = self.clone();
        if let AnyStructure::Walk(walk) = &self.spec.structure {
            one.spec.structure = walk.step().clone();
        }
        one
    }
}

/// A model ready to run, without the bias.
pub(super) enum Built<T: Number> {
    Spec { model: SpecModel<'static, T>, biases: usize },
    Typed(Arc<dyn AnyModel>),
}

impl<T: Number> Built<T> {
    /// Builds it for `heads` query heads of `width` numbers.
    pub fn new(
        source: &Source,
        [heads, width]: [usize; 2],
        tensors: &Tensors<'_, T>,
    ) -> Result<Self, Error> {
        Ok(match source {
            Source::Typed(model) => Self::Typed(model.clone()),
            Source::Spec(blueprint) => Self::Spec {
                model: blueprint.spec.build_owned(heads, width, tensors)?,
                biases: blueprint.biases,
            },
        })
    }

    /// Calls `f` with the posterior of some nodes.
    pub fn with_posterior<R>(
        &self,
        q: ArrayView4<'_, T>,
        k: ArrayView4<'_, T>,
        bias: Option<ArrayView4<'_, T>>,
        f: impl FnOnce(&Posterior<'_, T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        match self {
            Self::Typed(model) => f(&T::posterior(&**model, q, k)?),
            Self::Spec { model, biases: 0 } => f(&model.posterior(q, k)?),
            Self::Spec { model, biases } => {
                let bias = bias.ok_or_else(|| Error::MissingTensor {
                    name: "bias".into(),
                    why: "log-weights, for the prior `bias`".into(),
                    present: Vec::new(),
                })?;
                let bias = || Box::new(Bias::new(bias)) as Box<dyn Prior<T> + '_>;
                let biases = Product((0..*biases).map(|_| bias()).collect());
                let model = model.with_prior(model.prior().and(biases));
                f(&model.posterior(q, k)?)
            }
        }
    }
}
