//! The model language: structure × prior × potential × value.

pub mod distance;
mod nodes;
mod numbers;
pub mod part;
mod per_head;
pub mod potential;
pub mod prior;
pub mod structure;
pub(crate) mod tensors;
mod value;

pub use per_head::PerHead;
pub(crate) use per_head::{check_per_head, head_index, of_head};
pub use value::Value;

use std::sync::Mutex;

use ndarray::ArrayView4;

use nodes::Nodes;

use crate::engine::engine;
use crate::infer::{AnyInference, Problem};
use crate::{Element, Error, Posterior, Shape};
use potential::Potential;
use prior::Prior;
use structure::Structure;

/// A model of attention: which edges are possible, what is known about them, how content makes
/// them likely, and what they are used for.
///
/// ```
/// use marginals::{Model, potential::Dot, prior::{Causal, Combine, Geometric}};
/// use marginals::question::{Entropy, LogEvidence, Mean};
/// use marginals::structure::EachQueryPicksOne;
/// # use ndarray::Array4;
/// # let (q, k, v) = (Array4::<f32>::ones((1, 2, 5, 4)), Array4::<f32>::ones((1, 2, 5, 4)), Array4::<f32>::ones((1, 2, 5, 3)));
/// let prior = Causal.and(Geometric::per_head(&[0.1, 0.01]));
/// let model = Model::new(EachQueryPicksOne, prior, Dot::scaled(4));
/// let posterior = model.posterior(q.view(), k.view())?; // nothing computed yet
/// let (out, entropy, log_evidence) = posterior.ask((Mean(v.view()), Entropy, LogEvidence))?; // one pass
/// # assert_eq!(out.shape(), &[1, 2, 5, 3]);
/// # assert_eq!(entropy.shape(), &[1, 2, 5]);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Model<S, P, U> {
    pub(crate) structure: S,
    pub(crate) prior: P,
    pub(crate) potential: U,
    pub(crate) value: Value,
    pub(crate) query_offset: i64,
    pub(crate) key_offset: i64,
    pub(crate) inference: Option<AnyInference>,
}

impl<S, P, U> Model<S, P, U> {
    /// A model whose value is [`Value::Gather`] and whose first query sits beside the first key.
    pub fn new(structure: S, prior: P, potential: U) -> Self {
        let (query_offset, key_offset, inference) = (0, 0, None);
        let value = Value::Gather;
        Self { structure, prior, potential, value, query_offset, key_offset, inference }
    }

    /// The same model with another value.
    pub fn with_value(self, value: Value) -> Self {
        Self { value, ..self }
    }

    /// The same model with query i at position i + `offset`. With offset = M − N the last query sits
    /// beside the last key, as when decoding with a cache.
    pub fn with_query_offset(self, offset: i64) -> Self {
        Self { query_offset: offset, ..self }
    }

    /// The same model with key j at position j + `offset`, which is also its number in answers: for a
    /// part of a longer sequence of keys, whose findings are merged with those of the others.
    pub fn with_key_offset(self, offset: i64) -> Self {
        Self { key_offset: offset, ..self }
    }

    /// The same model, whose posteriors are by an inference in place of the exact one; see
    /// [`Posterior::by`].
    pub fn with_inference(self, inference: impl Into<AnyInference>) -> Self {
        Self { inference: Some(inference.into()), ..self }
    }

    /// The prior.
    pub fn prior(&self) -> &P {
        &self.prior
    }

    /// The same model under another prior, its other parts lent:
    ///
    /// ```
    /// # use marginals::{Model, potential::Dot, prior::{Bias, Causal, Combine}, structure::EachQueryPicksOne};
    /// let model = Model::new(EachQueryPicksOne, Causal, Dot::scaled(4));
    /// # let bias = ndarray::Array4::<f32>::zeros((1, 1, 5, 5));
    /// let biased = model.with_prior(model.prior().and(Bias::new(bias.view())));
    /// # let q = ndarray::Array4::<f32>::zeros((1, 1, 5, 4));
    /// # assert!(biased.posterior(q.view(), q.view()).is_ok());
    /// ```
    pub fn with_prior<Q>(&self, prior: Q) -> Model<&S, Q, &U> {
        Model {
            structure: &self.structure,
            prior,
            potential: &self.potential,
            value: self.value,
            query_offset: self.query_offset,
            key_offset: self.key_offset,
            inference: self.inference,
        }
    }

    /// The posterior over the edges between `q` [B, H, N, D] and `k` [B, Hk, M, D]. Checks sizes
    /// and parameters; computes nothing until a question is asked.
    pub fn posterior<'a, E>(
        &'a self,
        q: ArrayView4<'a, E>,
        k: ArrayView4<'a, E>,
    ) -> Result<Posterior<'a, E::Real>, Error>
    where
        S: Structure<E::Real>,
        E: Element,
        P: Prior<E::Real>,
        U: Potential<E::Real>,
    {
        let shape = Shape::of(&q, &k, self.query_offset)?.with_key_offset(self.key_offset)?;
        self.structure.check(&shape, self.value)?;
        self.prior.check(&shape)?;
        self.potential.check(&shape)?;
        let inference = self.structure.exact();
        let shape = Shape { reference: inference.reference(), ..shape };
        let (q, k) = (E::store(q), E::store(k));
        let bound = self.prior.bind(&Nodes::new(shape, &self.prior, (&q, &k)));
        let depends_on_nodes = bound.is_some().then(Mutex::default);
        let problem = Problem {
            shape,
            prior: bound.unwrap_or_else(|| Box::new(&self.prior)),
            depends_on_nodes,
            potential: &self.potential,
            value: self.value,
            q,
            k,
            engine: engine(),
        };
        inference.check(&problem)?;
        let exact = Posterior::new(problem, inference, self.structure.name());
        match self.inference {
            None => Ok(exact),
            Some(inference) => exact.by(inference),
        }
    }
}

/// Refuses numbers that are not finite and above 0.
pub(crate) fn check_positive(name: &str, values: &[f64]) -> Result<(), Error> {
    numbers::Domain::Positive.check(name, values)
}
