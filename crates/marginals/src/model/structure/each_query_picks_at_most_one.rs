use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use crate::infer::Inference;
use crate::infer::streaming::{NullEdge, Softmax, Streaming};
use crate::model::part::{Number, Part, Values};
use crate::model::tensors::Inputs;
use crate::{Error, Parameter, PerHead, Real, Shape, Value, number};

/// Σ_j φ_ij ≤ 1: every query has one edge or none.
///
/// p_ij = e^θ_ij / (e^null + Σ_j' e^θ_ij'). The **null** log-weight is the weight of having no
/// edge; its log-potential is 0. With null = 0 this is softmax-plus-one; a learned null per head
/// is an attention sink; with σ = e^null it is divisive normalisation (Reynolds & Heeger, Neuron
/// 61, 2009). Having no edge contributes nothing to the mean, 0 to the distance, and is written
/// as key −1 by MAP, top-k and samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EachQueryPicksAtMostOne {
    /// Log-weight of having no edge.
    #[serde(default = "softmax_plus_one")]
    pub null: PerHead,
}

fn softmax_plus_one() -> PerHead {
    PerHead::One(0.0)
}

impl EachQueryPicksAtMostOne {
    /// The same null log-weight for every head; −∞ is [`EachQueryPicksOne`](super::EachQueryPicksOne).
    pub fn new(null: impl Into<PerHead>) -> Self {
        Self { null: null.into() }
    }

    /// One null log-weight per head.
    pub fn per_head(null: &[f64]) -> Self {
        Self::new(null)
    }
}

impl Part for EachQueryPicksAtMostOne {
    const NAME: &'static str = "each-query-picks-at-most-one";
    const MEANING: &'static str =
        "Σ_j φ_ij ≤ 1: p is a softmax with a null edge of log-weight `null`, 0 by default";
    const EXAMPLE: &'static str = "{ each-query-picks-at-most-one = { null = 0.5 } }";
    const NUMBERS: &'static [Number<Self>] = &[number!("null", Real, null)];
}

impl StructurePart for EachQueryPicksAtMostOne {
    fn build<T: Real>(&self, _inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl NullEdge for EachQueryPicksAtMostOne {
    fn score(&self, (_, head): (usize, usize), _query: usize) -> (f64, f64) {
        let weight = self.null.of(head);
        // Its log-potential is 0.
        (weight, weight)
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.learnable()
    }

    fn gradients(&self, shape: &Shape, slopes: &[f64]) -> Vec<Vec<f64>> {
        let mut sums = vec![0.0; self.null.values().len()];
        for (row, slope) in slopes.iter().enumerate() {
            let head = row / shape.queries.max(1) % shape.heads.max(1);
            sums[self.null.index(head)] += slope;
        }
        vec![sums]
    }
}

impl<T: Real> Structure<T> for EachQueryPicksAtMostOne {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Streaming::rows(Softmax { null: Some(self) }))
    }
    fn check(&self, shape: &Shape, _value: Value) -> Result<(), Error> {
        Values::check(&self.null, "null", shape)?;
        match self.null.values().iter().find(|x| x.is_nan() || **x == f64::INFINITY) {
            None => Ok(()),
            Some(x) => Err(Error::value("null", "a finite log-weight, or -inf", x)),
        }
    }
}
