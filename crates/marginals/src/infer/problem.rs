//! Problems of inference, engines that carry out its passes, and gradients.

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Mutex;

use ndarray::Array4;

use super::finding::{Finding, Merge};
use super::slopes::Slopes;
use super::statistic::Request;
use super::streaming::rule::Rule;
use crate::gradient::ParameterGradient;
use crate::potential::Potential;
use crate::prior::Prior;
use crate::tensor::Stored;
use crate::{Error, Real, Reference, Shape, Value};

/// Problem of an inference: the parts of a model but its structure, and the nodes.
pub struct Problem<'a, T: Real> {
    /// The sizes.
    pub shape: Shape,
    /// Prior of the edges.
    pub prior: Box<dyn Prior<T> + 'a>,
    /// Held by a backward pass, where the prior depends on the nodes: it keeps there what it owes them.
    pub(crate) depends_on_nodes: Option<Mutex<()>>,
    /// Potential of the edges.
    pub potential: &'a dyn Potential<T>,
    /// Use of the edges.
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
    /// Refuses part of the keys, where an inference is over all of them: `why`.
    ///
    /// # Errors
    /// [`Error::Value`].
    pub(crate) fn require_all(&self, keys: &Range<usize>, why: &str) -> Result<(), Error> {
        let all = 0..self.shape.keys;
        if *keys == all {
            return Ok(());
        }
        Err(Error::value("keys", format!("all of them, {all:?}: {why}"), format!("{keys:?}")))
    }

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

    /// A finding with log-partitions relative to what the log-weights are relative to here, where but some
    /// of the keys that were seen may be held.
    pub(crate) fn seen<'f>(&self, finding: &'f Finding<T>) -> Cow<'f, Finding<T>> {
        let shape = &self.shape;
        let own = shape.key_offset..shape.key_offset + shape.keys as i64;
        let is_own = shape.reference == Reference::Nothing || finding.keys == own;
        if finding.merge != Merge::Mixture || is_own {
            return Cow::Borrowed(finding);
        }
        let mut references = self.references(0..shape.keys);
        if references == finding.references {
            return Cow::Borrowed(finding);
        }
        references.resize(finding.factors(), 0.0);
        let mut seen = finding.clone();
        seen.refer_to(references);
        Cow::Owned(seen)
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

    /// Gradient of the values, moved out.
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

/// The passes of streaming inference in one number format, on one device.
pub trait Engine<T: Real>: Debug + Send + Sync {
    /// Finding over a range of keys.
    fn find(
        &self,
        rule: &Rule<'_, T>,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        keys: Range<usize>,
        complete: bool,
    ) -> Finding<T>;

    /// Gradients from those in what was found.
    ///
    /// # Errors
    /// [`Error::NoGradient`] where a part of the model does not define its own.
    fn backward(
        &self,
        rule: &Rule<'_, T>,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        finding: &Finding<T>,
        slopes: &Slopes<'_, T>,
        over: (Range<usize>, Values),
    ) -> Result<Gradients<T>, Error>;

    /// Σ_i p_ij of every key.
    fn column_mass(
        &self,
        rule: &Rule<'_, T>,
        problem: &Problem<'_, T>,
        finding: &Finding<T>,
    ) -> Vec<T>;

    /// p_ij of every edge.
    fn marginals(
        &self,
        rule: &Rule<'_, T>,
        problem: &Problem<'_, T>,
        finding: &Finding<T>,
    ) -> Vec<T>;
}
