use ndarray::Array2;

use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use super::each_query_picks_one::EachQueryPicksOne;
use crate::infer::Inference;
use crate::infer::walk::Walking;
use crate::infer::walk::hops::{HopDistribution, check_hops};
use crate::model::part::{AnyPart, List, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Error, Real, Shape, Value};

/// Paths of at most H picks: multihop attention.
///
/// Every node first draws a number of hops h ≤ H from P(h), then walks: h times it picks a key as a
/// one-step model says and goes to stand there. With P the one-step posterior of self-attention,
///
/// ```text
/// p(h, x_1 … x_h | x_0) = P(h) Π_t P[x_t, x_t+1],        E[v] = Σ_h P(h) P^h V.
/// ```
///
/// The picks of one path depend on each other, so the structure is **coupled**: each is made by the
/// structure of one step. Sources:
/// Singh & Buckley, arXiv 2304.04556 (multihop attention; Algorithm 2 of the NeurIPS 2023 version)
/// for two hops; Wang et al., arXiv 2009.14332 (attention diffusion), for weights over many.
///
/// The weights over h = 0 … H are non-negative and normalised here; h = 0 stays where it started and
/// reads its own value.
///
/// ```
/// use marginals::{Model, potential::Dot, prior::Causal};
/// use marginals::structure::{EachQueryPicksOne, Walk};
/// # use ndarray::Array4;
/// # let (q, k, v) = (Array4::<f32>::ones((1, 2, 5, 4)), Array4::<f32>::ones((1, 2, 5, 4)), Array4::<f32>::ones((1, 2, 5, 3)));
/// # use marginals::question::Mean;
/// let walk = Walk::new(&[1.0, 2.0, 1.0])?.of(EachQueryPicksOne); // no hop, one hop, two hops
/// let model = Model::new(walk, Causal, Dot::scaled(4));
/// let posterior = model.posterior(q.view(), k.view())?; // nothing computed yet
/// let out = posterior.ask(Mean(v.view()))?; // two streaming passes
/// # assert_eq!(out.shape(), &[1, 2, 5, 3]);
/// # Ok::<(), marginals::Error>(())
/// ```
///
/// In a file the weights are [`HopWeights`], or the tensor `walk.weights` or `walk.log-weights`, and
/// without any the same for every number of hops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound(
    serialize = "S: Serialize, W: Serialize + Default + PartialEq",
    deserialize = "S: Deserialize<'de> + From<EachQueryPicksOne>, W: Deserialize<'de> + Default"
))]
pub struct Walk<S = EachQueryPicksOne, W = HopDistribution> {
    /// H, the most hops; as many as the weights say where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hops: Option<usize>,
    /// Weights of 0, 1, … hops.
    #[serde(default, skip_serializing_if = "is_default")]
    weights: W,
    /// The structure of one step.
    #[serde(default = "one_pick")]
    step: Box<S>,
}

fn is_default<W: Default + PartialEq>(weights: &W) -> bool {
    *weights == W::default()
}

fn one_pick<S: From<EachQueryPicksOne>>() -> Box<S> {
    Box::new(S::from(EachQueryPicksOne))
}

/// Weights over the number of hops, in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a list of the weights of 0, 1, … hops, or one such list per head: `[0.2, 0.8]` or \
                 `[[0.2, 0.8], [0.5, 0.5]]`"
)]
pub enum HopWeights {
    /// One list for every head.
    One(Vec<f64>),
    /// A list per head.
    Each(Vec<Vec<f64>>),
}

impl Walk {
    /// Weights over 0, 1, …, H hops, the same for every head; each pick is one of
    /// [`EachQueryPicksOne`].
    ///
    /// P(h) = weights\[h\] / Σ weights. Refuses weights that are negative, not finite or all 0, and
    /// fewer than two of them: a walk without a hop is no walk.
    pub fn new(weights: &[f64]) -> Result<Self, Error> {
        Self::per_head(Array2::from_shape_fn((1, weights.len()), |(_, h)| weights[h]))
    }

    /// Weights over the number of hops by head, [H, hops + 1].
    pub fn per_head(weights: Array2<f64>) -> Result<Self, Error> {
        Ok(Self::taking(HopDistribution::of_weights(weights)?))
    }

    /// Log-weights over 0, 1, …, H hops, the same for every head: P(h) = softmax(log-weights).
    ///
    /// The form to learn them in. −∞ is a number of hops that is impossible, and stays so.
    pub fn from_log_weights(log_weights: &[f64]) -> Result<Self, Error> {
        let rows = Array2::from_shape_fn((1, log_weights.len()), |(_, h)| log_weights[h]);
        Self::from_log_weights_per_head(rows)
    }

    /// Log-weights over the number of hops by head, [H, hops + 1].
    pub fn from_log_weights_per_head(log_weights: Array2<f64>) -> Result<Self, Error> {
        Ok(Self::taking(HopDistribution::of_log_weights(log_weights)?))
    }

    /// As likely to take any number of hops up to `hops`; there may be 2²⁰ of them.
    pub fn uniform(hops: usize) -> Result<Self, Error> {
        check_hops(hops)?;
        Self::new(&vec![1.0; hops + 1])
    }

    /// Always takes `hops` hops: E\[v\] = P^hops V.
    pub fn exactly(hops: usize) -> Result<Self, Error> {
        check_hops(hops)?;
        let mut weights = vec![0.0; hops + 1];
        weights[hops] = 1.0;
        Self::new(&weights)
    }

    fn taking(weights: HopDistribution) -> Self {
        Self { hops: None, weights, step: Box::new(EachQueryPicksOne) }
    }

    /// The walk each pick of which is one of `step`.
    pub fn of<S>(self, step: S) -> Walk<S> {
        Walk { hops: None, weights: self.weights, step: Box::new(step) }
    }
}

impl<S> Walk<S> {
    /// H, the most hops a path may have.
    pub fn hops(&self) -> usize {
        self.weights.hops()
    }

    /// P(h).
    pub fn distribution(&self) -> &HopDistribution {
        &self.weights
    }
}

impl<S: List + 'static> Part for Walk<S, Option<HopWeights>> {
    const NAME: &'static str = "walk";
    const MEANING: &'static str =
        "paths of h ≤ H picks of a one-step structure, h ~ weights: E[v] = Σ_h P(h) P^h V";
    const EXAMPLE: &'static str = "{ walk = { hops = 2, weights = [0.2, 0.5, 0.3] } }";
    const TENSORS: &'static [NamedTensor] = &[
        NamedTensor::real("walk.weights", "[H, hops + 1]", "weights of 0, 1, … hops")
            .only("if the file has none"),
        NamedTensor::real("walk.log-weights", "[H, hops + 1]", "their logarithms")
            .only("if the file has none"),
    ];

    fn inner(&self) -> Vec<&dyn AnyPart> {
        vec![self.step.part()]
    }
    fn inner_mut(&mut self) -> Vec<&mut dyn AnyPart> {
        vec![self.step.part_mut()]
    }
}

impl<S: List + StructurePart + 'static> StructurePart for Walk<S, Option<HopWeights>> {
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        if self.step.part().name() == Self::NAME {
            return Err(Error::value("walk.step", "a structure of one step", "a walk"));
        }
        Ok(Box::new(self.walk(inputs)?.of(self.step.build(inputs)?)))
    }

    fn couples_queries(&self) -> bool {
        self.step.couples_queries()
    }
}

impl<S: List + 'static> Walk<S, Option<HopWeights>> {
    /// The structure of one step.
    pub fn step(&self) -> &S {
        &self.step
    }

    /// The walk of the same steps whose weights are a tensor that comes with every call.
    pub fn reading_weights(&self) -> Self
    where
        S: Clone,
    {
        Self { hops: None, weights: None, step: self.step.clone() }
    }

    /// P(h), from the file or from the tensor it names.
    ///
    /// # Errors
    /// [`Error`], where the weights are no distribution, or not of `hops` hops.
    pub(crate) fn walk<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Walk, Error> {
        let inputs = inputs.of(self);
        let walk = match &self.weights {
            Some(HopWeights::One(list)) => Walk::new(list)?,
            Some(HopWeights::Each(rows)) => Walk::per_head(matrix(rows)?)?,
            None if inputs.has("walk.log-weights") => {
                Walk::from_log_weights_per_head(inputs.array("walk.log-weights")?)?
            }
            None if inputs.has("walk.weights") => Walk::per_head(inputs.array("walk.weights")?)?,
            None => match self.hops {
                Some(hops) => Walk::uniform(hops)?,
                None => return Err(Error::value("walk.hops", "a number, or weights", "neither")),
            },
        };
        match self.hops {
            Some(hops) if hops != walk.hops() => Err(Error::value(
                "walk.weights",
                format!("{} of them: for 0, 1, … {hops} hops", hops.saturating_add(1)),
                walk.hops() + 1,
            )),
            _ => Ok(walk),
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

impl<T: Real, S: Structure<T>> Structure<T> for Walk<S> {
    fn name(&self) -> &'static str {
        "walk"
    }

    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Walking::new(&self.weights, self.step.exact(), self.step.name()))
    }

    /// Needs one edge per query ([`EachQueryPicksOne`] or
    /// [`EachQueryPicksAtMostOne`](super::EachQueryPicksAtMostOne)), queries and keys that are the
    /// same nodes (N keys, offsets 0), and [`Value::Gather`].
    fn check(&self, shape: &Shape, value: Value) -> Result<(), Error> {
        if value != Value::Gather {
            return Err(Error::NotAnswerable {
                question: "walk".into(),
                why: "a walk carries values from node to node as they are, and the model averages \
                      them"
                    .into(),
                instead: "Leave the model's value at `gather`.".into(),
            });
        }
        for (name, offset) in
            [("query-offset", shape.query_offset), ("key-offset", shape.key_offset)]
        {
            if offset != 0 {
                let expected = "0: a walk goes on from the key it picked, so query i must be key i";
                return Err(Error::value(name, expected, offset));
            }
        }
        if shape.keys != shape.queries {
            return Err(Error::shape(
                "k",
                format!("[B, Hk, {}, D], one key per query", shape.queries),
                &[shape.batch, shape.key_heads, shape.keys, shape.key_width],
                "A walk goes on from the key it picked, so queries and keys are the same nodes.",
            ));
        }
        self.step.check(shape, value)?;
        self.weights.check(shape)
    }
}
