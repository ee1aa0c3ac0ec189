//! The seam between a transformer and the engine: one layer's posterior, and who asks it.
//!
//! A transformer needs one thing of a layer's attention, the mean Σ_j p_ij v_j. Whoever audits it
//! wants more answers, and the engine gives them in the same pass. So the forward pass does not
//! compute attention: it hands each layer's queries, keys and values to an [`Attend`] and takes
//! the mean back. [`PosteriorMean`] asks for nothing else; an audit asks everything, keeps the
//! other answers and returns the same mean.

use std::ops::Range;

use marginals::part::Part;
use marginals::potential::Dot;
use marginals::prior::{Bias, Causal, PriorPart, Window};
use marginals::question::{Mean, Question};
use marginals::spec::{AnyPrior, ModelSpec, Tensors};
use marginals::structure::EachQueryPicksOne;
use marginals::{Error, Value};
use ndarray::{Array4, ArrayView4, Axis, s};

/// Which keys a query may pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visible {
    /// All of them (encoders).
    All,
    /// Those at its own position and before (decoders).
    Before,
    /// Those of a window around its own position (layers with a sliding window).
    Window {
        /// How far back.
        left: usize,
        /// How far ahead.
        right: usize,
    },
}

/// One layer's attention, before anything has been computed.
#[derive(Clone, Debug)]
pub struct Layer<'pass> {
    /// Index of the layer, from 0.
    pub index: usize,
    /// Queries, `[B, H, N, D]`, of B texts that go through the model together; mostly it is one.
    pub queries: ArrayView4<'pass, f32>,
    /// Keys, `[B, Hk, N, D]`; Hk divides H, and key head h serves query heads h·H/Hk onwards.
    pub keys: ArrayView4<'pass, f32>,
    /// Values, `[B, Hk, N, D]`.
    pub values: ArrayView4<'pass, f32>,
    /// The model of the edges.
    pub model: &'pass ModelSpec,
    /// The tensors that the model names, and its learned numbers.
    pub tensors: &'pass Tensors<'pass, f32>,
}

impl Visible {
    /// Keys that the priors of a model leave to a query: those of its causal priors and windows.
    pub fn of(model: &ModelSpec) -> Self {
        let (mut left, mut right) = (usize::MAX, usize::MAX);
        for prior in &model.prior {
            if let AnyPrior::Window(window) = prior {
                (left, right) = (left.min(window.left), right.min(window.right));
            } else if !prior.sees_ahead() {
                right = 0;
            }
        }
        match (left, right) {
            (usize::MAX, usize::MAX) => Self::All,
            (usize::MAX, 0) => Self::Before,
            _ => Self::Window { left, right },
        }
    }

    /// Whether keys ahead of a query are among them.
    pub fn sees_ahead(self) -> bool {
        match self {
            Self::All => true,
            Self::Before => false,
            Self::Window { right, .. } => right > 0,
        }
    }

    /// Keys of the query at a position, of as many keys as there are.
    pub fn keys(self, query: usize, keys: usize) -> Range<usize> {
        match self {
            Self::All => 0..keys,
            Self::Before => 0..(query + 1).min(keys),
            Self::Window { left, right } => {
                query.saturating_sub(left)..query.saturating_add(right).saturating_add(1).min(keys)
            }
        }
    }

    /// Model of a plain transformer: each query picks one, with a prior that is uniform over these keys
    /// and the inner product times `scale` as log-potential.
    pub fn model(self, scale: f64) -> ModelSpec {
        ModelSpec {
            structure: EachQueryPicksOne.into(),
            prior: match self {
                Self::All => Vec::new(),
                Self::Before => vec![Causal.into()],
                Self::Window { left, right } => vec![Window { left, right }.into()],
            },
            potential: Dot::new(scale).into(),
            value: Value::Gather,
            query_offset: 0,
            inference: None,
        }
    }
}

impl Layer<'_> {
    /// Which keys each query may pick.
    pub fn visible(&self) -> Visible {
        Visible::of(self.model)
    }

    /// Answers questions about this layer's posterior, all in one pass over the keys.
    ///
    /// # Errors
    /// [`Error`], when a question cannot be answered of this model.
    pub fn ask<'v, Q: Question<'v, f32>>(&self, questions: Q) -> Result<Q::Answer, Error> {
        self.ask_of(self.model, self.tensors, self.queries, questions)
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
        let model = ModelSpec { query_offset, ..self.model.clone() };
        self.ask_of(&model, &self.tensors_of(position), query, questions)
    }

    /// The tensors that the model names, of a dense prior the row of one query alone.
    fn tensors_of(&self, position: usize) -> Tensors<'_, f32> {
        let nodes = self.queries.dim().2;
        let real = self.tensors.real.iter().map(|(name, array)| {
            let mut view = array.view();
            if name == Bias::NAME && view.ndim() == 4 && view.shape()[2] == nodes {
                view.slice_axis_inplace(Axis(2), (position..position + 1).into());
            }
            (name.clone(), view.into())
        });
        Tensors { real: real.collect(), integer: self.tensors.integer.clone() }
    }

    fn ask_of<'v, Q: Question<'v, f32>>(
        &self,
        model: &ModelSpec,
        tensors: &Tensors<'_, f32>,
        queries: ArrayView4<'_, f32>,
        questions: Q,
    ) -> Result<Q::Answer, Error> {
        let (_, heads, _, width) = queries.dim();
        let model = model.build::<f32>(heads, width, tensors)?;
        model.posterior(queries, self.keys)?.ask(questions)
    }
}

/// Someone who asks each layer's posterior as the forward pass goes through.
pub trait Attend {
    /// Returns the posterior mean of the values, `[B, H, N, D]`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_keys_are_those_of_the_model() {
        let windows = [(5, 0), (0, 0), (2, 1)].map(|(left, right)| Visible::Window { left, right });
        for visible in [Visible::All, Visible::Before].into_iter().chain(windows) {
            let model = visible.model(1.0);
            assert_eq!(Visible::of(&model), visible);
            let nodes = 4;
            let one = Array4::<f32>::zeros([1, 1, nodes, 1]);
            let tensors = Tensors::default();
            let model = model.build::<f32>(1, 1, &tensors).unwrap();
            let posterior = model.posterior(one.view(), one.view()).unwrap();
            let p = posterior.ask(marginals::question::Marginals).unwrap();
            for query in 0..nodes {
                let keys = visible.keys(query, nodes);
                for key in 0..nodes {
                    assert_eq!(p[[0, 0, query, key]] > 0.0, keys.contains(&key), "{visible:?}");
                    assert!(key <= query || visible.sees_ahead() || !keys.contains(&key));
                }
            }
        }
        let both = ModelSpec {
            prior: vec![Causal.into(), Window { left: 2, right: 7 }.into()],
            ..Visible::All.model(1.0)
        };
        assert_eq!(Visible::of(&both), Visible::Window { left: 2, right: 0 });
    }
}
