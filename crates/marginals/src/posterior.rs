//! The posterior and the questions it answers.

mod column_mass;
mod cross_entropy;
mod entropy;
mod expected_distance;
mod expected_of;
mod kl;
mod log_evidence;
mod log_partition;
mod map;
mod marginals;
mod max_probability;
mod mean;
mod partial;
mod query_mass;
mod samples;
mod top_k;
mod value_variance;

/// Questions: what can be asked of a posterior.
///
/// | question | definition | answer's shape |
/// |---|---|---|
/// | [`Mean`](question::Mean) | E\[v\] | \[B, H, N, D_v\] |
/// | [`LogPartition`](question::LogPartition) | log Z(θ) | \[B, H, F\] |
/// | [`LogEvidence`](question::LogEvidence) | log Z(θ) − log Z(log w) | \[B, H, F\] |
/// | [`Entropy`](question::Entropy) | −E\[log p\] | \[B, H, F\] |
/// | [`Kl`](question::Kl) | KL(posterior ‖ prior) | \[B, H, F\] |
/// | [`ColumnMass`](question::ColumnMass) | Σ_i p_ij | \[B, H, M\] |
/// | [`QueryMass`](question::QueryMass) | Σ_j p_ij | \[B, H, N\] |
/// | [`ExpectedDistance`](question::ExpectedDistance) | E\|i − j\| | \[B, H, N\] |
/// | [`ExpectedOf`](question::ExpectedOf) | E\[f_c(i, j)\] of given functions | \[B, H, N, C\] |
/// | [`ValueVariance`](question::ValueVariance) | E\[v²\] − E\[v\]² | \[B, H, N, D_v\] |
/// | [`MaxProbability`](question::MaxProbability) | max_j p_ij | \[B, H, F\] |
/// | [`Map`](question::Map) | argmax_j p_ij | \[B, H, F\] |
/// | [`TopK`](question::TopK) | the k best edges | \[B, H, F, k\], twice |
/// | [`Samples`](question::Samples) | exact draws | \[S, B, H, F\] |
/// | [`Marginals`](question::Marginals) | p_ij | \[B, H, N, M\] |
/// | [`Posterior::cross_entropy`], [`Posterior::kl_to`] | to another posterior | \[B, H, F\] |
///
/// F counts the factors: queries, or keys where keys choose. Information is in nats. Questions
/// asked together share one pass over the keys; column mass, marginals and draws of sets add one
/// more each.
pub mod question {
    pub use super::column_mass::ColumnMass;
    pub use super::entropy::Entropy;
    pub use super::expected_distance::ExpectedDistance;
    pub use super::expected_of::{EdgeFunctions, ExpectedOf};
    pub use super::kl::Kl;
    pub use super::log_evidence::LogEvidence;
    pub use super::log_partition::LogPartition;
    pub use super::map::Map;
    pub use super::marginals::Marginals;
    pub use super::max_probability::MaxProbability;
    pub use super::mean::Mean;
    pub use super::partial::Partial;
    pub use super::query_mass::QueryMass;
    pub use super::samples::{Draws, Samples};
    pub use super::top_k::{TopK, TopKAnswer};
    pub use super::value_variance::ValueVariance;
    pub use super::{AnyQuestion, Asked, Question};
}

use std::ops::Range;

use ndarray::{Array3, Array4, CowArray, Ix4};

use crate::infer::exact::{self, Gradients, Request, Scorer, Summary, Upstream, Values};
use crate::model::structure::{Factorisation, Structure};
use crate::potential::Potential;
use crate::prior::Prior;
use crate::{Error, Real, Shape, Value, tensor};
use partial::Partial;

/// The posterior over edges of one model and one set of queries and keys. Nothing is computed
/// until a question is asked.
pub struct Posterior<'a, T: Real> {
    pub(crate) shape: Shape,
    pub(crate) structure: &'a dyn Structure,
    pub(crate) factorisation: Factorisation,
    pub(crate) prior: &'a dyn Prior<T>,
    pub(crate) potential: &'a dyn Potential<T>,
    pub(crate) value: Value,
    pub(crate) q: CowArray<'a, T, Ix4>,
    pub(crate) k: CowArray<'a, T, Ix4>,
}

impl<'a, T: Real> Posterior<'a, T> {
    pub(crate) fn new(
        shape: Shape,
        structure: &'a dyn Structure,
        prior: &'a dyn Prior<T>,
        potential: &'a dyn Potential<T>,
        value: Value,
        q: CowArray<'a, T, Ix4>,
        k: CowArray<'a, T, Ix4>,
    ) -> Self {
        let factorisation = structure.factorisation();
        Self { shape, structure, factorisation, prior, potential, value, q, k }
    }

    /// The sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Refuses NaN in q and k, naming where; without this, NaN reaches its own rows only.
    pub fn checked(self) -> Result<Self, Error> {
        tensor::refuse_nan("q", &self.q.view()).map_err(Error::of_a_check)?;
        tensor::refuse_nan("k", &self.k.view()).map_err(Error::of_a_check)?;
        Ok(self)
    }

    /// Number of independent choices per head: queries, or keys where keys choose.
    pub fn factor_count(&self) -> usize {
        match self.factorisation {
            Factorisation::PerKey => self.shape.keys,
            _ => self.shape.queries,
        }
    }

    pub(crate) fn scorer(&self) -> Scorer<'_, T> {
        Scorer { prior: self.prior, potential: self.potential }
    }

    /// Answers the questions in one pass over the keys.
    ///
    /// Cost: one product of queries and keys, one exponential per possible edge, one product with
    /// the values; O(B H N (D + D_v)) memory beside the inputs.
    pub fn ask<'v, Q: Question<'v, T>>(&self, questions: Q) -> Result<Q::Answer, Error> {
        questions.take(&mut self.pass(&questions)?)
    }

    /// The pass that answers the questions, kept for its backward.
    pub fn pass<'v, Q: Question<'v, T>>(
        &self,
        questions: &Q,
    ) -> Result<Pass<'_, 'a, 'v, T>, Error> {
        let mut request = Request::default();
        questions.request(self, &mut request)?;
        Ok(self.run(request))
    }

    /// The pass that left `summary` behind ([`Pass::into_summary`]) when it was asked the same
    /// questions of the same posterior: for a backward in another place than the forward, such as a
    /// framework's tape, without doing the forward again.
    pub fn resume<'v, Q: Question<'v, T>>(
        &self,
        questions: &Q,
        summary: Summary<T>,
    ) -> Result<Pass<'_, 'a, 'v, T>, Error> {
        let mut request = Request::default();
        questions.request(self, &mut request)?;
        let rows = self.shape.batch * self.shape.heads;
        let found = [summary.log_partition.len(), summary.mass.len()];
        let mean = if request.mean { request.value_width() } else { 0 };
        let expected = [rows * self.factor_count(), rows * self.shape.queries];
        if found != expected || summary.mean.len() != expected[1] * mean {
            return Err(Error::shape(
                "summary",
                format!("{expected:?} factors and queries, each with {mean} numbers of the mean"),
                &found,
                "Resume a pass with the posterior and the questions it was made for.",
            ));
        }
        Ok(Pass { posterior: self, request, summary })
    }

    pub(crate) fn run<'v>(&self, request: Request<'v, T>) -> Pass<'_, 'a, 'v, T> {
        let summary = T::summarise(self, &request);
        Pass { posterior: self, request, summary }
    }

    /// What a pass over `keys` alone leaves behind: plain data that merges with the partials of
    /// other keys into the whole (see [`Partial`]).
    pub fn partial<'v, Q: Question<'v, T>>(
        &self,
        questions: &Q,
        keys: Range<usize>,
    ) -> Result<Partial<T>, Error> {
        if keys.start > keys.end || keys.end > self.shape.keys {
            return Err(Error::value(
                "keys",
                format!("a range within 0..{}", self.shape.keys),
                format!("{keys:?}"),
            ));
        }
        let mut request = Request::default();
        questions.request(self, &mut request)?;
        let statistics = T::forward(self, &request, keys.clone());
        Ok(Partial::new(statistics, keys, self))
    }

    /// Answers the questions from a partial that covers every key.
    pub fn complete<'v, Q: Question<'v, T>>(
        &self,
        questions: &Q,
        partial: Partial<T>,
    ) -> Result<Q::Answer, Error> {
        let mut request = Request::default();
        questions.request(self, &mut request)?;
        let statistics = partial.into_whole(self)?;
        let (heads, factors) = (self.shape.heads, self.factor_count().max(1));
        let row = |row| {
            let head = row / factors;
            ((head / heads, head % heads), row % factors)
        };
        let summary = Summary::new(statistics, self, &request, row);
        questions.take(&mut Pass { posterior: self, request, summary })
    }
}

/// A forward pass: answers, and gradients of them.
pub struct Pass<'p, 'a, 'v, T: Real> {
    pub(crate) posterior: &'p Posterior<'a, T>,
    pub(crate) request: Request<'v, T>,
    pub(crate) summary: Summary<T>,
}

impl<'v, T: Real> Pass<'_, '_, 'v, T> {
    /// The answers to questions this pass was made for.
    pub fn answer<Q: Question<'v, T>>(&self, questions: &Q) -> Result<Q::Answer, Error> {
        questions.answer(self)
    }

    /// What the pass found out, without what it borrowed; see [`Posterior::resume`].
    pub fn into_summary(self) -> Summary<T> {
        self.summary
    }

    /// Gradients of a loss whose gradients with respect to the answers are `upstream`.
    ///
    /// Exact for every question of the table that is differentiable, in any combination, asked
    /// before or not. Cost: five products of the forward's two, O(N) memory.
    pub fn backward(&self, upstream: &Upstream<'_, T>) -> Result<Gradients<T>, Error> {
        self.backward_of(upstream, Values::Apart)
    }

    fn backward_of(
        &self,
        upstream: &Upstream<'_, T>,
        values: Values,
    ) -> Result<Gradients<T>, Error> {
        self.check_upstream(upstream)?;
        let mut request = Request::default();
        if exact::needs(&mut request, upstream) && self.lacks(&request) {
            request.values = self.request.values.as_ref().map(|v| v.view().into());
            request.functions = self.request.functions;
            let again = self.posterior.run(request);
            let summary = &again.summary;
            return T::backward(self.posterior, &again.request, summary, upstream, values);
        }
        T::backward(self.posterior, &self.request, &self.summary, upstream, values)
    }

    /// The same where the values are the keys themselves, as in slots and associative memories:
    /// `k` of the result is the sum of both gradients, and `v` is absent.
    ///
    /// Where one tensor was given as both (and the potential compares it as it is) the two are added
    /// up in one place: less time, and one tensor of the keys' size less.
    pub fn backward_shared(&self, upstream: &Upstream<'_, T>) -> Result<Gradients<T>, Error> {
        let Some(values) = &self.request.values else {
            return self.backward(upstream);
        };
        let k = &self.posterior.k;
        if values.dim() != k.dim() {
            return Err(Error::shape(
                "v",
                format!("{:?}, the shape of k", k.shape()),
                values.shape(),
                "Values that are the keys have their shape.",
            ));
        }
        let one = values.as_ptr() == k.as_ptr() && values.strides() == k.strides();
        if one && self.posterior.potential.keys_are_features() && upstream.value_variance.is_none()
        {
            return self.backward_of(upstream, Values::Keys);
        }
        let mut found = self.backward(upstream)?;
        if let Some(v) = found.v.take() {
            found.k += &v;
        }
        Ok(found)
    }

    /// Whether the forward pass left out something that `wanted` wants.
    fn lacks(&self, wanted: &Request<'_, T>) -> bool {
        let have = &self.request;
        (wanted.mean && !have.mean)
            || (wanted.second_moment && !have.second_moment)
            || (wanted.entropy && !have.entropy)
            || (wanted.expected_log_weight && !have.expected_log_weight)
            || (wanted.prior_log_partition && !have.prior_log_partition)
            || (wanted.distance && !have.distance)
    }

    fn check_upstream(&self, upstream: &Upstream<'_, T>) -> Result<(), Error> {
        let shape = &self.posterior.shape;
        let (b, h, n) = (shape.batch, shape.heads, shape.queries);
        let width = self.request.value_width();
        for (name, gradient) in
            [("grad.mean", &upstream.mean), ("grad.value-variance", &upstream.value_variance)]
        {
            let Some(gradient) = gradient else { continue };
            if self.request.values.is_none() {
                return Err(Error::NotAnswerable {
                    question: name.into(),
                    why: "the pass was not given values".into(),
                    instead: "Ask for the mean or the value variance in the forward pass.".into(),
                });
            }
            if gradient.dim() != (b, h, n, width) {
                return Err(Error::shape(
                    name,
                    format!("[{b}, {h}, {n}, {width}]"),
                    gradient.shape(),
                    "An upstream gradient has its answer's shape.",
                ));
            }
        }
        if let Some(gradient) = &upstream.expected_of {
            let count = self.request.function_count();
            self.require(count > 0, "grad.expected-of")?;
            if gradient.dim() != (b, h, n, count) {
                return Err(Error::shape(
                    "grad.expected-of",
                    format!("[{b}, {h}, {n}, {count}]"),
                    gradient.shape(),
                    "An upstream gradient has its answer's shape.",
                ));
            }
        }
        let factors = self.posterior.factor_count();
        for (name, gradient, last) in [
            ("grad.log-partition", &upstream.log_partition, factors),
            ("grad.log-evidence", &upstream.log_evidence, factors),
            ("grad.entropy", &upstream.entropy, factors),
            ("grad.kl", &upstream.kl, factors),
            ("grad.column-mass", &upstream.column_mass, shape.keys),
            ("grad.expected-distance", &upstream.expected_distance, n),
            ("grad.query-mass", &upstream.query_mass, n),
        ] {
            let Some(gradient) = gradient else { continue };
            if gradient.dim() != (b, h, last) {
                return Err(Error::shape(
                    name,
                    format!("[{b}, {h}, {last}]"),
                    gradient.shape(),
                    "An upstream gradient has its answer's shape.",
                ));
            }
        }
        Ok(())
    }

    /// A quantity of every factor.
    pub(crate) fn by_factor<R: Clone>(&self, values: Vec<R>) -> Array3<R> {
        let shape = &self.posterior.shape;
        let dimensions = (shape.batch, shape.heads, self.posterior.factor_count());
        Array3::from_shape_vec(dimensions, values).expect("one entry per factor")
    }

    /// A vector of every query.
    pub(crate) fn by_query<R: Clone>(&self, values: Vec<R>) -> Array4<R> {
        let shape = &self.posterior.shape;
        let width = self.request.value_width();
        let dimensions = (shape.batch, shape.heads, shape.queries, width);
        Array4::from_shape_vec(dimensions, values).expect("one value per query")
    }

    /// Refuses a question that this pass was not made for.
    pub(crate) fn require(&self, asked: bool, question: &str) -> Result<(), Error> {
        if asked {
            return Ok(());
        }
        Err(Error::NotAnswerable {
            question: question.into(),
            why: "this pass was made for other questions".into(),
            instead: "Name it when making the pass.".into(),
        })
    }
}

/// A question, or several: what a pass must find out, and how the answer reads.
///
/// `'v` is how long borrowed values live.
pub trait Question<'v, T: Real> {
    /// The answer.
    type Answer;

    /// Adds what this question needs to what the pass finds out.
    fn request(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error>;

    /// Reads the answer off a pass.
    fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Self::Answer, Error>;

    /// The same off a pass that is read once, so that a large answer may be moved out.
    fn take(&self, pass: &mut Pass<'_, '_, 'v, T>) -> Result<Self::Answer, Error> {
        self.answer(pass)
    }
}

/// Several questions chosen at run time: ask for the pass with this, then for each answer.
pub struct Asked<'q, 'v, T: Real>(pub Vec<&'q dyn AnyQuestion<'v, T>>);

/// A question without its answer's type.
pub trait AnyQuestion<'v, T: Real> {
    /// As [`Question::request`].
    fn request_any(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error>;
}

impl<'v, T: Real, Q: Question<'v, T>> AnyQuestion<'v, T> for Q {
    fn request_any(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        self.request(posterior, request)
    }
}

impl<'v, T: Real> Question<'v, T> for Asked<'_, 'v, T> {
    type Answer = ();
    fn request(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<(), Error> {
        self.0.iter().try_for_each(|question| question.request_any(posterior, request))
    }
    fn answer(&self, _pass: &Pass<'_, '_, 'v, T>) -> Result<(), Error> {
        Ok(())
    }
}

macro_rules! several {
    ($($question:ident $index:tt),+) => {
        impl<'v, T: Real, $($question: Question<'v, T>),+> Question<'v, T> for ($($question,)+) {
            type Answer = ($($question::Answer,)+);
            fn request(
                &self,
                posterior: &Posterior<'_, T>,
                request: &mut Request<'v, T>,
            ) -> Result<(), Error> {
                $(self.$index.request(posterior, request)?;)+
                Ok(())
            }
            fn answer(&self, pass: &Pass<'_, '_, 'v, T>) -> Result<Self::Answer, Error> {
                Ok(($(self.$index.answer(pass)?,)+))
            }
            fn take(&self, pass: &mut Pass<'_, '_, 'v, T>) -> Result<Self::Answer, Error> {
                Ok(($(self.$index.take(pass)?,)+))
            }
        }
    };
}
several!(A 0);
several!(A 0, B 1);
several!(A 0, B 1, C 2);
several!(A 0, B 1, C 2, D 3);
several!(A 0, B 1, C 2, D 3, E 4);
several!(A 0, B 1, C 2, D 3, E 4, F 5);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12);
