//! Models, and the posteriors that they and their inputs make.

use ndarray::{Array2, Array3, Axis, s};

use super::{FurtherPrior, Inputs, Place, Potential, Prior, per_head};
use crate::{Arithmetic, Head, Law, NullEdge, Problem, Structure, ValueKind};

/// The empty choice of at-most-one. Per-query numbers are B × H × N, each of the first two axes full or
/// 1.
#[derive(Clone, Debug)]
pub enum Null {
    /// A log-weight of the prior, once or per head: [`Model::null_log_weight`].
    LogWeight,
    /// A log-weight of 0: softmax-plus-one.
    One,
    /// A logit per query that comes from the content: log w is 0 and log ψ the logit.
    Logit(Array3<f64>),
    /// P(none) = 1 − σ(g) under prior and posterior, g once or per head.
    Gate(Vec<f64>),
    /// P(none) = 1 − σ(g) under prior and posterior, g per query.
    GatePerQuery(Array3<f64>),
}

/// Structure, prior, potential and value: what the library calls a model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Φ.
    pub structure: Structure,
    /// How probabilities follow from scores; other than the exponential family only with
    /// at-most-one.
    pub law: Law,
    /// Log-weight of the null edge, once or per head; read by at-most-one with
    /// [`Null::LogWeight`] only.
    pub null_log_weight: Vec<f64>,
    /// The empty choice; read by at-most-one only.
    pub null: Null,
    /// Factors of the prior; their log-weights add. None is the uniform prior.
    pub priors: Vec<Prior>,
    /// More factors of the prior.
    pub further_priors: Vec<FurtherPrior>,
    /// ψ.
    pub potential: Potential,
    /// Gather or average.
    pub value_kind: ValueKind,
    /// Query i sits at position i + offset.
    pub query_offset: i64,
}

impl Model {
    /// log w, N × M, of one batch entry and head, as matrices whose sum it is.
    pub fn log_weight(&self, inputs: &Inputs, batch: usize, head: usize) -> Vec<Array2<f64>> {
        let (queries, keys) = (inputs.q.dim().2, inputs.k.dim().2);
        let place = Place { batch, head, queries, keys, query_offset: self.query_offset };
        let mut terms: Vec<_> = self.priors.iter().flat_map(|prior| prior.terms(&place)).collect();
        let (last, first): (Vec<_>, Vec<_>) =
            self.further_priors.iter().partition(|prior| prior.reads_masks());
        for prior in first {
            terms.extend(prior.terms(&place, inputs, |_, _| true));
        }
        let masks = terms.clone();
        let allowed = |i: usize, j: usize| masks.iter().all(|w| w[[i, j]] != f64::NEG_INFINITY);
        for prior in last {
            terms.extend(prior.terms(&place, inputs, allowed));
        }
        terms
    }

    /// The posterior of one batch entry and head, in exact arithmetic.
    pub fn problem(&self, inputs: &Inputs, batch: usize, head: usize) -> Problem {
        let key_head = inputs.key_head(head);
        let q = inputs.q.slice(s![batch, head, .., ..]);
        let k = inputs.k.slice(s![batch, key_head, .., ..]);
        Problem {
            structure: self.structure,
            law: self.law,
            value_kind: self.value_kind,
            arithmetic: Arithmetic::Exact,
            log_weight: self.log_weight(inputs, batch, head),
            log_potential: self.potential.matrix((head, key_head), q, k, self.query_offset),
            null: (0..q.nrows()).map(|query| self.null_edge(batch, head, query)).collect(),
            value: inputs.v.index_axis(Axis(0), batch).index_axis(Axis(0), key_head).to_owned(),
            query_offset: self.query_offset,
        }
    }

    fn null_edge(&self, batch: usize, head: usize, query: usize) -> NullEdge {
        let of_query = |x: &Array3<f64>| {
            let full = |size: usize, index: usize| if size == 1 { 0 } else { index };
            x[[full(x.dim().0, batch), full(x.dim().1, head), query]]
        };
        let weighted = |log_weight, log_potential| NullEdge::Weighted { log_weight, log_potential };
        match &self.null {
            Null::LogWeight => weighted(per_head(&self.null_log_weight, head), 0.0),
            Null::One => weighted(0.0, 0.0),
            Null::Logit(logit) => weighted(0.0, of_query(logit)),
            Null::Gate(gate) => NullEdge::Gated { gate: per_head(gate, head) },
            Null::GatePerQuery(gate) => NullEdge::Gated { gate: of_query(gate) },
        }
    }

    /// The posterior of one batch entry and head as matrices, in plain arithmetic.
    ///
    /// # Panics
    /// If a [`Head`] has no words for the law or the null edge.
    pub fn head(&self, inputs: &Inputs, batch: usize, head: usize) -> Head {
        assert_eq!(self.law, Law::ExponentialFamily, "the law of a head; ask for a problem");
        let null_log_weight = match &self.null {
            Null::LogWeight => per_head(&self.null_log_weight, head),
            Null::One => 0.0,
            other => panic!("the null edge of a head is not {other:?}; ask for a problem"),
        };
        let problem = self.problem(inputs, batch, head);
        let shape = (problem.queries(), problem.keys());
        Head {
            structure: self.structure,
            value_kind: self.value_kind,
            log_weight: Array2::from_shape_fn(shape, |(i, j)| problem.prior(i, j)),
            log_potential: problem.log_potential,
            null_log_weight,
            value: problem.value,
            query_offset: self.query_offset,
        }
    }

    /// Every learnable parameter by name, to read or to move. A part that occurs twice is listed
    /// twice, in order.
    pub fn parameters_mut(&mut self) -> Vec<(&'static str, &mut [f64])> {
        const CONTIGUOUS: &str = "parameters are owned and in standard layout";
        let mut out = Vec::new();
        let null = self.structure == Structure::EachQueryPicksAtMostOne
            && self.law == Law::ExponentialFamily;
        if null {
            out.extend(match &mut self.null {
                Null::LogWeight => Some(("null", &mut self.null_log_weight[..])),
                Null::One => None,
                Null::Logit(logit) => Some(("null.logit", logit.as_slice_mut().expect(CONTIGUOUS))),
                Null::Gate(gate) => Some(("null.gate", &mut gate[..])),
                Null::GatePerQuery(gate) => {
                    Some(("null.gate", gate.as_slice_mut().expect(CONTIGUOUS)))
                }
            });
        }
        for prior in &mut self.priors {
            out.extend(prior.parameters_mut());
        }
        for prior in &mut self.further_priors {
            out.extend(prior.parameters_mut());
        }
        out.extend(self.potential.parameters_mut());
        out
    }
}
