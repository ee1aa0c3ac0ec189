use super::{Factorisation, Structure};
use crate::{Error, Parameter, Shape};

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

impl Structure for EachQueryPicksAtMostOne {
    fn name(&self) -> &'static str {
        "each-query-picks-at-most-one"
    }
    fn factorisation(&self) -> Factorisation {
        Factorisation::PerQuery { null: Some(self.null.clone()) }
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        crate::model::check_per_head("null", &self.null, shape)?;
        match self.null.iter().find(|x| x.is_nan() || **x == f64::INFINITY) {
            None => Ok(()),
            Some(x) => Err(Error::value("null", "a finite log-weight, or -inf", x)),
        }
    }
    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter::new("null", &[self.null.len()])]
    }
}
