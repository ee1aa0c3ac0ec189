//! The seam between a transformer and the engine: one layer's posterior, and who asks it.
//!
//! A transformer needs one thing of a layer's attention, the mean Σ_j p_ij v_j. Whoever audits it
//! wants more answers, and the engine gives them in the same pass. So the forward pass does not
//! compute attention: it hands each layer's queries, keys and values to an [`Attend`] and takes
//! the mean back. [`PosteriorMean`] asks for nothing else; an audit asks everything, keeps the
//! other answers and returns the same mean.

use marginals::potential::Dot;
use marginals::prior::{Causal, PriorPart};
use marginals::question::{Mean, Question};
use marginals::spec::{ModelSpec, Tensors};
use marginals::structure::EachQueryPicksOne;
use marginals::{Error, Value};
use ndarray::{Array4, ArrayView4, s};

/// Which keys a query may pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visible {
    /// All of them (encoders).
    All,
    /// Those at its own position and before (decoders).
    Before,
}

/// One layer's attention, before anything has been computed.
#[derive(Clone, Debug)]
pub struct Layer<'pass> {
    /// Index of the layer, from 0.
    pub index: usize,
    /// Queries, `[1, H, N, D]`.
    pub queries: ArrayView4<'pass, f32>,
    /// Keys, `[1, Hk, N, D]`; Hk divides H, and key head h serves query heads h·H/Hk onwards.
    pub keys: ArrayView4<'pass, f32>,
    /// Values, `[1, Hk, N, D]`.
    pub values: ArrayView4<'pass, f32>,
    /// The model of the edges.
    pub model: &'pass ModelSpec,
    /// The tensors that the model names, and its learned numbers.
    pub tensors: &'pass Tensors<'pass, f32>,
}

impl Visible {
    /// The model of a plain transformer: each query picks one, with a uniform or causal prior and the
    /// inner product times `scale` as log-potential.
    pub fn model(self, scale: f32) -> ModelSpec {
        ModelSpec {
            structure: EachQueryPicksOne.into(),
            prior: match self {
                Self::All => Vec::new(),
                Self::Before => vec![Causal.into()],
            },
            potential: Dot::new(f64::from(scale)).into(),
            value: Value::Gather,
            query_offset: 0,
            inference: None,
        }
    }
}

impl Layer<'_> {
    /// Which keys each query may pick.
    pub fn visible(&self) -> Visible {
        match self.model.prior.iter().any(|prior| !prior.sees_ahead()) {
            true => Visible::Before,
            false => Visible::All,
        }
    }

    /// Answers questions about this layer's posterior, all in one pass over the keys.
    ///
    /// # Errors
    /// [`Error`], when a question cannot be answered of this model.
    pub fn ask<'v, Q: Question<'v, f32>>(&self, questions: Q) -> Result<Q::Answer, Error> {
        self.ask_of(self.model, self.queries, questions)
    }

    /// The same questions about the query at `position` alone.
    ///
    /// # Errors
    /// As [`Self::ask`].
    ///
    /// # Panics
    /// If `position` is not one of the queries.
    pub fn ask_one<'v, Q: Question<'v, f32>>(
        &self,
        position: usize,
        questions: Q,
    ) -> Result<Q::Answer, Error> {
        let query = self.queries.slice(s![.., .., position..position + 1, ..]);
        let offset = i64::try_from(position).expect("positions fit i64");
        let query_offset = self.model.query_offset + offset;
        self.ask_of(&ModelSpec { query_offset, ..self.model.clone() }, query, questions)
    }

    fn ask_of<'v, Q: Question<'v, f32>>(
        &self,
        model: &ModelSpec,
        queries: ArrayView4<'_, f32>,
        questions: Q,
    ) -> Result<Q::Answer, Error> {
        let (_, heads, _, width) = queries.dim();
        let model = model.build::<f32>(heads, width, self.tensors)?;
        model.posterior(queries, self.keys)?.ask(questions)
    }
}

/// Someone who asks each layer's posterior as the forward pass goes through.
pub trait Attend {
    /// Returns the posterior mean of the values, `[1, H, N, D]`.
    ///
    /// # Errors
    /// Any message; the forward pass stops and reports it with the layer's index.
    fn attend(&mut self, layer: &Layer<'_>) -> Result<Array4<f32>, String>;
}

/// Asks for the mean alone: plain inference.
#[derive(Clone, Copy, Debug, Default)]
pub struct PosteriorMean;

impl Attend for PosteriorMean {
    fn attend(&mut self, layer: &Layer<'_>) -> Result<Array4<f32>, String> {
        layer.ask(Mean(layer.values)).map_err(|error| error.to_string())
    }
}
