//! Structures as data.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::ModelSpec;
use crate::model::PerHead;
use crate::model::part::{AnyPart, Description, Domain, NamedTensor, Sizes, Values, Weight};
use crate::model::tensors::{Tensors, in_f64, with_axes};
use crate::structure::{
    EachKeyPicksOne, EachQueryPicksAtMostOne, EachQueryPicksOne, Independent, Structure, Walk,
};
use crate::{Error, Real};

/// A [structure](crate::structure) as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "structure", rename_all = "kebab-case", deny_unknown_fields)]
pub enum StructureSpec {
    /// [`EachQueryPicksOne`](crate::structure::EachQueryPicksOne).
    EachQueryPicksOne,
    /// [`EachQueryPicksAtMostOne`](crate::structure::EachQueryPicksAtMostOne).
    EachQueryPicksAtMostOne {
        /// Log-weight of having no edge.
        #[serde(default = "softmax_plus_one")]
        null: PerHead,
    },
    /// [`EachKeyPicksOne`](crate::structure::EachKeyPicksOne).
    EachKeyPicksOne,
    /// [`Independent`](crate::structure::Independent).
    Independent,
    /// [`Walk`](crate::structure::Walk). Where the file gives no weights they are the tensor
    /// `walk.weights` or `walk.log-weights`, and without one the same for every number of hops.
    Walk {
        /// The most hops; as many as the weights say where it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hops: Option<usize>,
        /// Weights of 0, 1, … hops.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weights: Option<HopWeights>,
        /// The structure of one step.
        #[serde(default = "one_pick")]
        step: Box<StructureSpec>,
    },
}

fn one_pick() -> Box<StructureSpec> {
    Box::new(StructureSpec::EachQueryPicksOne)
}

/// Weights over the number of hops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a list of the weights of 0, 1, … hops, or one such list per head: `[0.2, 0.8]` or \
                 `[[0.2, 0.8], [0.5, 0.5]]`"
)]
pub enum HopWeights {
    /// The same for every head.
    One(Vec<f64>),
    /// A list per head.
    Each(Vec<Vec<f64>>),
}

fn softmax_plus_one() -> PerHead {
    PerHead::One(0.0)
}

const WALK: &[NamedTensor] = &[
    NamedTensor::real("walk.weights", "[H, hops + 1]", "weights of 0, 1, … hops")
        .only("if the file has none"),
    NamedTensor::real("walk.log-weights", "[H, hops + 1]", "their logarithms")
        .only("if the file has none"),
];

/// What is told of each.
pub(super) const STRUCTURES: &[Description] = &[
    Description::written(
        "structure",
        "each-query-picks-one",
        "Σ_j φ_ij = 1: p is a softmax over the keys",
        "\"each-query-picks-one\"",
        || &[],
    ),
    Description::written(
        "structure",
        "each-query-picks-at-most-one",
        "Σ_j φ_ij ≤ 1: p is a softmax with a null edge of log-weight `null`, 0 by default",
        "{ each-query-picks-at-most-one = { null = 0.5 } }",
        || &["null"],
    ),
    Description::written(
        "structure",
        "each-key-picks-one",
        "Σ_i φ_ij = 1: p is a softmax over the queries",
        "\"each-key-picks-one\"",
        || &[],
    ),
    Description::written(
        "structure",
        "independent",
        "every set of edges: p is the logistic function of the score",
        "\"independent\"",
        || &[],
    ),
    Description::written(
        "structure",
        "walk",
        "paths of h ≤ H picks of a one-step structure, h ~ weights: E[v] = Σ_h P(h) P^h V",
        "{ walk = { hops = 2, weights = [0.2, 0.5, 0.3] } }",
        || &["hops", "weights", "step"],
    )
    .reading(WALK),
];

impl AnyPart for StructureSpec {
    fn name(&self) -> &'static str {
        match self {
            Self::EachQueryPicksOne => "each-query-picks-one",
            Self::EachQueryPicksAtMostOne { .. } => "each-query-picks-at-most-one",
            Self::EachKeyPicksOne => "each-key-picks-one",
            Self::Independent => "independent",
            Self::Walk { .. } => "walk",
        }
    }
    fn visit<'p>(&'p self, f: &mut dyn FnMut(&'p dyn AnyPart)) {
        f(self);
        if let Self::Walk { step, .. } = self {
            step.visit(f);
        }
    }
    fn tensors(&self) -> &'static [NamedTensor] {
        if let Self::Walk { .. } = self { WALK } else { &[] }
    }
    fn weights(&self, _sizes: &Sizes) -> Vec<Weight> {
        Vec::new()
    }
    fn numbers(&self) -> Vec<(&'static str, Domain, &dyn Values)> {
        match self {
            Self::EachQueryPicksAtMostOne { null } => vec![("null", Domain::Real, null)],
            Self::Walk { step, .. } => step.numbers(),
            Self::EachQueryPicksOne | Self::EachKeyPicksOne | Self::Independent => Vec::new(),
        }
    }
    fn settle(&mut self, _sizes: &Sizes) {}
    fn change_numbers(
        &mut self,
        f: &mut dyn FnMut(&mut dyn Values) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self {
            Self::EachQueryPicksAtMostOne { null } => f(null),
            Self::Walk { step, .. } => step.change_numbers(f),
            Self::EachQueryPicksOne | Self::EachKeyPicksOne | Self::Independent => Ok(()),
        }
    }
}

impl StructureSpec {
    /// The structure; of one step, for a walk.
    pub(super) fn build(&self) -> Result<Box<dyn Structure>, Error> {
        Ok(match self {
            Self::EachQueryPicksOne => Box::new(EachQueryPicksOne),
            Self::EachQueryPicksAtMostOne { null } => {
                Box::new(EachQueryPicksAtMostOne::per_head(null.values()))
            }
            Self::EachKeyPicksOne => Box::new(EachKeyPicksOne),
            Self::Independent => Box::new(Independent),
            Self::Walk { step, .. } if matches!(**step, Self::Walk { .. }) => {
                return Err(Error::value("walk.step", "a structure of one step", "a walk"));
            }
            Self::Walk { step, .. } => step.build()?,
        })
    }
}

impl ModelSpec {
    /// The walk, where that is the structure; [`build`](Self::build) then makes the model of one
    /// step.
    pub fn walk<T: Real>(&self, tensors: &Tensors<'_, T>) -> Result<Option<Walk>, Error> {
        let StructureSpec::Walk { hops, weights, .. } = &self.structure else { return Ok(None) };
        let tensor = |name: &str| -> Result<Option<Array2<f64>>, Error> {
            let tensor = tensors.real.get(name);
            tensor.map(|tensor| Ok(in_f64(with_axes(name, tensor.view())?))).transpose()
        };
        let walk = match weights {
            Some(HopWeights::One(list)) => Walk::new(list)?,
            Some(HopWeights::Each(rows)) => Walk::per_head(matrix(rows)?)?,
            None => match (tensor("walk.log-weights")?, tensor("walk.weights")?, hops) {
                (Some(log_weights), ..) => Walk::from_log_weights_per_head(log_weights)?,
                (None, Some(weights), _) => Walk::per_head(weights)?,
                (None, None, Some(hops)) => Walk::uniform(*hops)?,
                (None, None, None) => {
                    return Err(Error::value("walk.hops", "a number, or weights", "neither"));
                }
            },
        };
        match hops {
            Some(hops) if *hops != walk.hops() => Err(Error::value(
                "walk.weights",
                format!("{} of them: for 0, 1, … {hops} hops", hops + 1),
                walk.hops() + 1,
            )),
            _ => Ok(Some(walk)),
        }
    }
}

/// Rows of numbers as a matrix.
fn matrix(rows: &[Vec<f64>]) -> Result<Array2<f64>, Error> {
    let columns = rows.first().map_or(0, Vec::len);
    match Array2::from_shape_vec((rows.len(), columns), rows.concat()) {
        Ok(matrix) if rows.iter().all(|row| row.len() == columns) => Ok(matrix),
        _ => Err(Error::value("walk.weights", "rows of equal length", "ragged rows")),
    }
}
