//! Passes over the keys that answer questions about a posterior.

use std::ops::Range;

use crate::infer::{Finding, Gradients, Merge, Request, Slopes, Values};
use crate::posterior::{Found, Posterior};
use crate::question::{IntoUpstream, Question, Upstream};
use crate::{Error, Real};

impl<'a, T: Real> Posterior<'a, T> {
    /// Answers the questions in one pass over the keys.
    ///
    /// Cost: one product of queries and keys, one exponential per possible edge, one product with
    /// the values; O(B H N (D + D_v)) memory beside the inputs.
    ///
    /// # Errors
    /// [`Error`], where a question does not fit the model or the sizes.
    pub fn ask<'v, Q: Question<'v, T>>(&self, questions: Q) -> Result<Q::Answer, Error> {
        let (mut request, plan) = self.plan(&questions)?;
        request.keeps_steps = false;
        let keys = 0..self.problem.shape.keys;
        let finding = self.inference.find(&self.problem, &request, keys, true)?;
        let mut found = Found { posterior: self, request, finding };
        questions.take(&plan, &mut found)
    }

    /// The pass that answers the questions, kept for its backward.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn pass<'v, Q: Question<'v, T>>(
        &self,
        questions: Q,
    ) -> Result<Pass<'_, 'a, 'v, T, Q>, Error> {
        let (request, plan) = self.plan(&questions)?;
        let keys = 0..self.problem.shape.keys;
        let finding = self.inference.find(&self.problem, &request, keys, true)?;
        Ok(Pass { found: Found { posterior: self, request, finding }, questions, plan })
    }

    /// Finding of a pass over `keys` alone: plain data that merges with the findings of other
    /// keys into the whole (see [`Finding`]).
    ///
    /// # Errors
    /// As [`ask`](Self::ask); [`Error::Value`] where `keys` is not a range of the keys there are.
    pub fn find<'v, Q: Question<'v, T>>(
        &self,
        questions: &Q,
        keys: Range<usize>,
    ) -> Result<Finding<T>, Error> {
        self.check_keys(&keys)?;
        let (request, _) = self.plan(questions)?;
        self.inference.find(&self.problem, &request, keys, false)
    }

    /// The pass whose finding has been merged from those of all keys. The keys may be spread over
    /// several posteriors, each told by [`Model::with_key_offset`](crate::Model::with_key_offset) where
    /// its own begin; questions about single edges are then answered for the keys held here.
    ///
    /// # Errors
    /// As [`ask`](Self::ask); [`Error::Shape`] where the finding is of other sizes or questions.
    pub fn complete<'v, Q: Question<'v, T>>(
        &self,
        questions: Q,
        mut finding: Finding<T>,
    ) -> Result<Pass<'_, 'a, 'v, T, Q>, Error> {
        let (request, plan) = self.plan(&questions)?;
        self.check_finding(&request, &finding)?;
        if !finding.complete {
            self.inference.complete(&self.problem, &request, &mut finding);
        }
        Ok(Pass { found: Found { posterior: self, request, finding }, questions, plan })
    }

    fn plan<'v, Q: Question<'v, T>>(
        &self,
        questions: &Q,
    ) -> Result<(Request<'v, T>, Q::Plan), Error> {
        let mut request = Request::new(&self.problem.shape);
        request.reads_sums = questions.reads_sums();
        let plan = questions.plan(self, &mut request)?;
        Ok((request, plan))
    }

    fn check_keys(&self, keys: &Range<usize>) -> Result<(), Error> {
        if keys.start <= keys.end && keys.end <= self.problem.shape.keys {
            return Ok(());
        }
        Err(Error::value(
            "keys",
            format!("a range within 0..{}", self.problem.shape.keys),
            format!("{keys:?}"),
        ))
    }

    /// Refuses a finding that other questions, or other sizes, have left behind.
    fn check_finding(&self, request: &Request<'_, T>, finding: &Finding<T>) -> Result<(), Error> {
        let shape = &self.problem.shape;
        let heads = shape.batch * shape.heads;
        // Edge sets are whole heads or queries, whatever keys they are over.
        let sets = self.inference.sets();
        let by_key = finding.merge == Merge::Factors && sets.is_none();
        let factors = match by_key {
            true => heads * (finding.keys.end - finding.keys.start).max(0) as usize,
            false => heads * self.factor_count(),
        };
        let queries = heads * shape.queries;
        let expected = Finding::nothing(finding.merge, request, (factors, queries), 0..0);
        let sizes = |of: &Finding<T>| {
            let linear = of.linear.iter().map(|e| e.values.len());
            let mut sizes = vec![of.factors(), of.mass.len(), of.prior.len()];
            sizes.extend(linear);
            sizes.push(of.extremal.len());
            sizes
        };
        let (mut found, mut expected) = (sizes(finding), sizes(&expected));
        // Moments of edge sets, by how many there are and how many of those fit.
        let scores = sets.map_or(0, |sets| sets.scores(shape));
        for (moments, is_there) in
            [(&finding.moments, true), (&finding.prior_moments, request.wants_prior())]
        {
            found.push(moments.len());
            found.push(moments.iter().filter(|own| own.expected.len() == scores).count());
            let is_there = sets.is_some() && is_there && request.reads_sums;
            let wanted = if is_there { factors } else { 0 };
            expected.extend([wanted; 2]);
        }
        if found == expected {
            return Ok(());
        }
        Err(Error::shape(
            "finding",
            format!("{expected:?}: factors, queries, and what the questions want of them"),
            &found,
            "Complete a finding with the posterior and the questions it was made for.",
        ))
    }
}

/// A forward pass: answers, and gradients of them.
#[derive(Debug)]
pub struct Pass<'p, 'a, 'v, T: Real, Q: Question<'v, T>> {
    found: Found<'p, 'a, 'v, T>,
    questions: Q,
    plan: Q::Plan,
}

impl<'v, T: Real, Q: Question<'v, T>> Pass<'_, '_, 'v, T, Q> {
    /// The answers.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`] where the structure does not answer a question.
    pub fn answer(&self) -> Result<Q::Answer, Error> {
        self.questions.answer(&self.plan, &self.found)
    }

    /// The answers, moved out where they can be.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn into_answer(mut self) -> Result<Q::Answer, Error> {
        self.questions.take(&self.plan, &mut self.found)
    }

    /// Finding of the pass, moved out: plain data, for a backward in another place than the forward, such as a
    /// framework's tape; see [`Posterior::complete`].
    pub fn into_finding(self) -> Finding<T> {
        self.found.finding
    }

    /// Finding of the pass.
    pub fn finding(&self) -> &Finding<T> {
        &self.found.finding
    }

    /// Gradients of a loss whose gradients in the answers are `upstream`, which has the shape of the
    /// questions: an array for each that is differentiable, or `None`, and `()` for the others.
    ///
    /// ```
    /// # use marginals::{Model, potential::Dot, prior::Uniform, structure::EachQueryPicksOne};
    /// # use marginals::question::{Entropy, Map, Mean};
    /// # use ndarray::Array4;
    /// # let (q, k, v) = (Array4::<f64>::ones((1, 1, 3, 4)), Array4::<f64>::ones((1, 1, 6, 4)), Array4::<f64>::ones((1, 1, 6, 2)));
    /// # let model = Model::new(EachQueryPicksOne, Uniform, Dot::scaled(4));
    /// # let posterior = model.posterior(q.view(), k.view())?;
    /// let pass = posterior.pass((Mean(v.view()), Entropy, Map))?;
    /// let (mean, entropy, map) = pass.answer()?;
    /// let (d_mean, d_entropy) = (&mean * 2.0, ndarray::Array3::ones(entropy.dim()));
    /// let gradients = pass.backward((&d_mean, &d_entropy, ()))?;
    /// # assert_eq!(gradients.q.dim(), q.dim());
    /// # assert_eq!(gradients.v().unwrap().dim(), v.dim());
    /// # let _ = map;
    /// # Ok::<(), marginals::Error>(())
    /// ```
    ///
    /// Exact for every differentiable question. Cost: five products of the forward's two, O(N) memory.
    ///
    /// # Errors
    /// [`Error::Shape`] where a gradient has not its answer's shape, and [`Error::NoGradient`] where a
    /// part of the model does not define its own.
    pub fn backward<'g>(
        &'g self,
        upstream: impl IntoUpstream<<Q::Upstream as Upstream>::Of<'g, T>>,
    ) -> Result<Gradients<T>, Error> {
        let keys = 0..self.found.shape().keys;
        self.differentiate(upstream.into_upstream(), keys, Values::Apart)
    }

    /// Gradients where the values are the keys themselves, as in slots and associative memories: that of
    /// `k` is the sum of both, and there is none of the values.
    ///
    /// Where one tensor was given as both (and the potential compares it as it is) the two are added
    /// up in one place: less time, and one tensor of the keys' size less.
    ///
    /// # Errors
    /// As [`backward`](Self::backward); [`Error::Shape`] where the values are not shaped as the keys.
    pub fn backward_shared<'g>(
        &'g self,
        upstream: impl IntoUpstream<<Q::Upstream as Upstream>::Of<'g, T>>,
    ) -> Result<Gradients<T>, Error> {
        let keys = 0..self.found.shape().keys;
        let (problem, request) = (&self.found.posterior.problem, &self.found.request);
        let upstream = upstream.into_upstream();
        let [values] = request.values.as_slice() else {
            return self.differentiate(upstream, keys, Values::Apart);
        };
        if values.tensor.dim() != problem.k.dim() {
            let [keys, values] =
                [problem.k.dim(), values.tensor.dim()].map(|(b, h, m, d)| [b, h, m, d]);
            return Err(Error::shape(
                "v",
                format!("{keys:?}, the shape of k"),
                &values,
                "Values that are the keys have their shape.",
            ));
        }
        let one = values.tensor.layout().is_some() && values.tensor.layout() == problem.k.layout();
        let plain = request.averages_plainly();
        if one && plain && problem.potential.keys_are_features() {
            return self.differentiate(upstream, keys, Values::Keys);
        }
        let mut found = self.differentiate(upstream, keys, Values::Apart)?;
        if let Some(v) = found.take_v() {
            found.k += &v;
        }
        Ok(found)
    }

    /// Gradients through some of the keys alone: of the queries what those contribute, of keys and
    /// values those of the range. Over a partition of the keys the queries' add up to the whole.
    ///
    /// # Errors
    /// As [`backward`](Self::backward); [`Error::Value`] where `keys` is not a range of the keys here.
    pub fn backward_over<'g>(
        &'g self,
        keys: Range<usize>,
        upstream: impl IntoUpstream<<Q::Upstream as Upstream>::Of<'g, T>>,
    ) -> Result<Gradients<T>, Error> {
        self.found.posterior.check_keys(&keys)?;
        self.differentiate(upstream.into_upstream(), keys, Values::Apart)
    }

    fn differentiate<'g>(
        &'g self,
        upstream: <Q::Upstream as Upstream>::Of<'g, T>,
        keys: Range<usize>,
        values: Values,
    ) -> Result<Gradients<T>, Error> {
        let Found { posterior, request, finding } = &self.found;
        let mut slopes = Slopes::new(request.linear.len());
        self.questions.backward(&self.plan, &self.found, upstream, &mut slopes)?;
        posterior.inference.backward(&posterior.problem, request, finding, &slopes, keys, values)
    }
}
