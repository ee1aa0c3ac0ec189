use super::Structure;
use crate::infer::Inference;
use crate::infer::streaming::{NullEdge, Softmax, Streaming};
use crate::model::{check_per_head, head_index, of_head};
use crate::{Error, Parameter, Real, Shape, Value};

/// Σ_j φ_ij ≤ 1: every query has one edge or none.
///
/// p_ij = e^θ_ij / (e^null + Σ_j' e^θ_ij'). The **null** log-weight is the weight of having no
/// edge; its log-potential is 0. With null = 0 this is softmax-plus-one; a learned null per head
/// is an attention sink; with σ = e^null it is divisive normalisation (Reynolds & Heeger, Neuron
/// 61, 2009). Having no edge contributes nothing to the mean, 0 to the distance, and is written
/// as key −1 by MAP, top-k and samples.
#[derive(Clone, Debug, PartialEq)]
pub struct EachQueryPicksAtMostOne {
    null: Vec<f64>,
}

impl EachQueryPicksAtMostOne {
    /// The same null log-weight for every head; −∞ is [`EachQueryPicksOne`](super::EachQueryPicksOne).
    pub fn new(null: f64) -> Self {
        Self { null: vec![null] }
    }

    /// One null log-weight per head.
    pub fn per_head(null: &[f64]) -> Self {
        Self { null: null.to_vec() }
    }
}

impl NullEdge for EachQueryPicksAtMostOne {
    fn score(&self, (_, head): (usize, usize), _query: usize) -> (f64, f64) {
        let weight = of_head(&self.null, head);
        // Its log-potential is 0.
        (weight, weight)
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter::new("null", &[self.null.len()])]
    }

    fn gradients(&self, shape: &Shape, slopes: &[f64]) -> Vec<Vec<f64>> {
        let mut sums = vec![0.0; self.null.len()];
        for (row, slope) in slopes.iter().enumerate() {
            let head = row / shape.queries.max(1) % shape.heads.max(1);
            sums[head_index(self.null.len(), head)] += slope;
        }
        vec![sums]
    }
}

impl<T: Real> Structure<T> for EachQueryPicksAtMostOne {
    fn name(&self) -> &'static str {
        "each-query-picks-at-most-one"
    }
    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Streaming::rows(Softmax { null: Some(self) }))
    }
    fn check(&self, shape: &Shape, _value: Value) -> Result<(), Error> {
        check_per_head("null", &self.null, shape)?;
        match self.null.iter().find(|x| x.is_nan() || **x == f64::INFINITY) {
            None => Ok(()),
            Some(x) => Err(Error::value("null", "a finite log-weight, or -inf", x)),
        }
    }
}
