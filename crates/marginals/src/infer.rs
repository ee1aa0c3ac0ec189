//! Inference: from a model and its nodes to what questions are answered from.
//!
//! An [`Inference`] takes a [`Problem`] (structure, prior, potential, value, nodes) and leaves a
//! [`Finding`] behind: plain data that merges, travels and resumes a backward pass. A structure names
//! the inference that is exact for it.
//!
//! | inference | what it is for |
//! |---|---|
//! | [`streaming`] | structures that fall apart into queries, keys or edges: one pass over tiles of scores |
//! | [`walk`] | paths of several picks: a streaming pass per hop |
//! | [`truncated`] | blocks of edges that provably weigh next to nothing are left out, and by how much is told |
//! | [`expanding`] | windows that grow while it matters, with a bound on the mass left out |
//! | [`collapsed`] | nodes that are unknown too: the edges are summed out, and the evidence is climbed |

pub mod collapsed;
pub mod expanding;
pub mod finding;
pub mod slopes;
pub mod statistic;
pub mod streaming;
pub mod truncated;
pub mod walk;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Mutex;

use ndarray::Array4;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::gradient::ParameterGradient;
use crate::potential::Potential;
use crate::prior::Prior;
use crate::tensor::Stored;
use crate::{Error, Parameter, Posterior, Real, Reference, Shape, Value};

pub use finding::{Exactness, Finding, Merge, Report};
pub use slopes::Slopes;
pub use statistic::{EdgeFunction, Extremal, Function, Handle, Linear, Request};
pub use truncated::{Approximation, Certificate, Kept, Truncated};

/// What an inference is about: the parts of a model but its structure, and the nodes.
pub struct Problem<'a, T: Real> {
    /// The sizes.
    pub shape: Shape,
    /// What is known about edges beforehand.
    pub prior: Box<dyn Prior<T> + 'a>,
    /// Held by a backward pass, where the prior depends on the nodes: it keeps there what it owes them.
    pub(crate) depends_on_nodes: Option<Mutex<()>>,
    /// How content makes them likely.
    pub potential: &'a dyn Potential<T>,
    /// What they are used for.
    pub value: Value,
    pub(crate) q: Stored<'a, T>,
    pub(crate) k: Stored<'a, T>,
    pub(crate) engine: &'a dyn Engine<T>,
}

impl<T: Real> Debug for Problem<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (prior, potential) = (self.prior.name(), self.potential.name());
        write!(f, "prior {prior}, potential {potential} over {:?}", self.shape)
    }
}

impl<T: Real> Problem<'_, T> {
    /// The prior's [references](Prior::add_references), what all log-weights of a query (or of a key) have
    /// in common: by factor over [B, H, F], of a range of keys where they are of keys. Empty where all
    /// are 0.
    pub(crate) fn references(&self, keys: Range<usize>) -> Vec<f64> {
        let shape = &self.shape;
        let factors = match shape.reference {
            Reference::Nothing => return Vec::new(),
            Reference::OfQuery => shape.queries,
            Reference::OfKey => keys.len(),
        };
        let mut all = vec![0.0; shape.batch * shape.heads * factors];
        for (head, own) in shape.all_heads().zip(all.chunks_exact_mut(factors.max(1))) {
            let block = shape.block(head, 0..shape.queries, keys.clone());
            self.prior.add_references(&block, own);
        }
        if all.iter().all(|&reference| reference == 0.0) { Vec::new() } else { all }
    }
}

/// Where the gradient of values goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Into a tensor of its own.
    Apart,
    /// Into that of the keys: they are one tensor, and its own features.
    Keys,
}

/// Gradients of a loss with respect to everything the answers depend on.
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// Of the queries, [B, H, N, D].
    pub q: Array4<T>,
    /// Of the keys, [B, Hk, M, D]; 0 outside the range that was differentiated.
    pub k: Array4<T>,
    /// Of the tensors of values, in the order in which the questions named them; `None` where they are
    /// the keys themselves, or no question averaged them.
    pub values: Vec<Option<Array4<T>>>,
    /// Of the learnable parameters: the structure's, the prior's, those of edge functions, the
    /// potential's.
    pub parameters: Vec<ParameterGradient<T>>,
}

impl<T: Real> Gradients<T> {
    /// The gradient of the parameter called `name`.
    pub fn parameter(&self, name: &str) -> Option<&ndarray::ArrayD<T>> {
        self.parameters.iter().find(|p| p.name == name).map(|p| &p.gradient)
    }

    /// The gradient of the values, where one tensor of them was averaged.
    pub fn v(&self) -> Option<&Array4<T>> {
        self.values.first().and_then(Option::as_ref)
    }

    /// The same, moved out.
    pub fn take_v(&mut self) -> Option<Array4<T>> {
        self.values.first_mut().and_then(Option::take)
    }

    /// Every gradient by name: `q`, `k`, `v` (`v.2` of a second tensor of values), then the
    /// parameters.
    pub fn into_named(self) -> Vec<(String, ndarray::ArrayD<T>)> {
        let mut named =
            vec![("q".to_owned(), self.q.into_dyn()), ("k".to_owned(), self.k.into_dyn())];
        for (index, values) in self.values.into_iter().enumerate() {
            let name = if index == 0 { "v".to_owned() } else { format!("v.{}", index + 1) };
            named.extend(values.map(|values| (name, values.into_dyn())));
        }
        named.extend(self.parameters.into_iter().map(|p| (p.name, p.gradient)));
        named
    }
}

/// A way of inferring the posterior over edges.
pub trait Inference<T: Real>: Debug + Send + Sync {
    /// The name used in messages and model files.
    fn name(&self) -> &'static str;

    /// Refuses problems that it is not for.
    ///
    /// # Errors
    /// [`Error`], naming what does not fit.
    fn check(&self, _problem: &Problem<'_, T>) -> Result<(), Error> {
        Ok(())
    }

    /// Reference that log-weights may be relative to: its posterior must not depend on it, and log Z gets
    /// back what was taken out.
    fn reference(&self) -> Reference {
        Reference::Nothing
    }

    /// Refuses questions about the log-partition where it has none to tell.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`], naming what is answered.
    fn require_log_partition(&self, _question: &str) -> Result<(), Error> {
        Ok(())
    }

    /// Refuses questions about single edges where it does not answer them.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`], naming what is answered.
    fn require_edges(&self, _question: &str) -> Result<(), Error> {
        Ok(())
    }

    /// Number of independent choices per head.
    fn factors(&self, shape: &Shape) -> usize {
        shape.queries
    }

    /// What is found over a range of keys. Where `complete`, they are all, and what factors may choose
    /// beside their keys is taken in.
    ///
    /// # Errors
    /// [`Error`], where the range is not one that it can be run over.
    fn find(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        keys: Range<usize>,
        complete: bool,
    ) -> Result<Finding<T>, Error>;

    /// Takes in what factors may choose beside their keys, once all of these have been merged.
    fn complete(
        &self,
        _problem: &Problem<'_, T>,
        _request: &Request<'_, T>,
        finding: &mut Finding<T>,
    ) {
        finding.complete = true;
    }

    /// Gradients of everything from those in what was found, over a range of keys.
    ///
    /// # Errors
    /// [`Error::NoGradient`] where a part of the model does not define its own.
    fn backward(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        finding: &Finding<T>,
        slopes: &Slopes<'_, T>,
        keys: Range<usize>,
        values: Values,
    ) -> Result<Gradients<T>, Error>;

    /// Questions about single edges, where it answers them.
    fn edges(&self) -> Option<&dyn EdgeQuestions<T>> {
        None
    }

    /// Questions about paths, where it answers them.
    fn paths(&self) -> Option<&walk::Walking<'_, T>> {
        None
    }

    /// Learnable parameters of the structure.
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }
}

/// An inference in place of the exact one, as data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnyInference {
    /// [`Truncated`].
    Truncated(Truncated),
}

impl<T: Real> Approximation<T> for AnyInference {
    fn of<'a>(self, exact: Posterior<'a, T>) -> Result<Posterior<'a, T>, Error> {
        match self {
            Self::Truncated(truncated) => truncated.of(exact),
        }
    }
}

impl From<Truncated> for AnyInference {
    fn from(truncated: Truncated) -> Self {
        Self::Truncated(truncated)
    }
}

/// Questions about single edges: passes over the posterior, its normalisers known.
pub trait EdgeQuestions<T: Real> {
    /// Σ_i p_ij of every key, [B, H, M] flat.
    fn column_mass(&self, problem: &Problem<'_, T>, finding: &Finding<T>) -> Vec<T>;

    /// p_ij, [B, H, N, M] flat.
    fn marginals(&self, problem: &Problem<'_, T>, finding: &Finding<T>) -> Vec<T>;

    /// Whether a query has at most one edge, whose probability depends on its score and a normaliser.
    fn has_one_edge(&self) -> bool;

    /// Whether draws are of sets of edges, and not of one edge per factor.
    fn draws_sets(&self) -> bool;

    /// Draws of independent edges, one byte each, [S, B, H, N, M] flat.
    fn draw_sets(
        &self,
        problem: &Problem<'_, T>,
        finding: &Finding<T>,
        count: usize,
        seed: u64,
    ) -> Vec<u8>;

    /// −E_p[log q] of every factor, q being the same inference of another problem.
    fn cross_entropy(
        &self,
        problem: &Problem<'_, T>,
        finding: &Finding<T>,
        other: (&dyn EdgeQuestions<T>, &Problem<'_, T>, &Finding<T>),
    ) -> Result<Vec<T>, Error>;

    /// log p_ij of one edge; `None` where it depends on others.
    fn log_probability(
        &self,
        problem: &Problem<'_, T>,
        finding: &Finding<T>,
        head: (usize, usize),
        edge: (usize, usize),
    ) -> Option<T>;

    /// The rule behind it, for comparisons of two.
    fn rule(&self) -> &streaming::Rule<'_, T>;
}
