//! The posterior over edges, and the passes that answer questions about it.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::{Array3, Array4, ArrayView, ArrayView3, ArrayView4, Dimension};

use crate::infer::slopes::flat;
use crate::infer::{
    Approximation, EdgeQuestions, Finding, Gradients, Handle, Inference, Problem, Request, Slopes,
    Values,
};
use crate::question::{IntoUpstream, Question, Upstream};
use crate::{Error, Real, Shape, Value, tensor};

/// The posterior over edges of one model and one set of queries and keys. Nothing is computed
/// until a question is asked.
#[derive(Debug)]
pub struct Posterior<'a, T: Real> {
    pub(crate) problem: Problem<'a, T>,
    pub(crate) inference: Box<dyn Inference<T> + 'a>,
    /// The structure's name.
    pub(crate) structure: &'static str,
}

impl<'a, T: Real> Posterior<'a, T> {
    pub(crate) fn new(
        problem: Problem<'a, T>,
        inference: Box<dyn Inference<T> + 'a>,
        structure: &'static str,
    ) -> Self {
        Self { problem, inference, structure }
    }

    /// The sizes.
    pub fn shape(&self) -> &Shape {
        &self.problem.shape
    }

    /// The inference that answers.
    pub fn inference(&self) -> &(dyn Inference<T> + 'a) {
        &*self.inference
    }

    /// Name of the structure.
    pub fn structure(&self) -> &'static str {
        self.structure
    }

    /// Refuses NaN in q and k, naming where; without this, NaN reaches its own rows only.
    ///
    /// # Errors
    /// [`Error::NotANumber`].
    pub fn checked(self) -> Result<Self, Error> {
        tensor::refuse_stored_nan("q", &self.problem.q).map_err(Error::of_a_check)?;
        tensor::refuse_stored_nan("k", &self.problem.k).map_err(Error::of_a_check)?;
        Ok(self)
    }

    /// The posterior by an inference in place of the exact one:
    /// [`Truncated`](crate::infer::Truncated).
    ///
    /// # Errors
    /// [`Error`], naming what the inference needs and does not find.
    pub fn by(self, inference: impl Approximation<T>) -> Result<Self, Error> {
        inference.of(self)
    }

    /// Number of independent choices per head: queries, or keys where keys choose.
    pub fn factor_count(&self) -> usize {
        self.inference.factors(&self.problem.shape)
    }

    /// Refuses a question about walks where the structure is not one of them.
    pub(crate) fn require_walk(&self, question: &str) -> Result<(), Error> {
        if self.inference.paths().is_some() {
            return Ok(());
        }
        Err(Error::NotAnswerable {
            question: question.into(),
            why: "the structure of this model takes no hops".into(),
            instead: "Ask it of the structure `walk`.".into(),
        })
    }

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

    /// What a pass over `keys` alone leaves behind: plain data that merges with the findings of other
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
        let by_key = finding.merge == crate::infer::Merge::Factors;
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
        let (found, expected) = (sizes(finding), sizes(&expected));
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

/// What a pass has found out, and of what: where questions read their answers.
#[derive(Debug)]
pub struct Found<'p, 'a, 'v, T: Real> {
    /// The posterior that was asked.
    pub posterior: &'p Posterior<'a, T>,
    /// What was wanted.
    pub request: Request<'v, T>,
    /// What was found.
    pub finding: Finding<T>,
}

impl<T: Real> Found<'_, '_, '_, T> {
    /// The sizes.
    pub fn shape(&self) -> &Shape {
        self.posterior.shape()
    }

    /// Sizes of an answer with a number per factor.
    pub fn factor_sizes(&self) -> (usize, usize, usize) {
        let shape = self.shape();
        let heads = shape.batch * shape.heads;
        // Where keys choose, a merged finding may be of more keys than are held here.
        let factors = self.finding.factors().checked_div(heads);
        (shape.batch, shape.heads, factors.unwrap_or_else(|| self.posterior.factor_count()))
    }

    /// A number of every factor, [B, H, F].
    pub fn by_factor<R: Clone>(&self, values: Vec<R>) -> Array3<R> {
        Array3::from_shape_vec(self.factor_sizes(), values).expect("one entry per factor")
    }

    /// A number of every query, [B, H, N].
    pub fn by_query<R: Clone>(&self, values: Vec<R>) -> Array3<R> {
        let shape = self.shape();
        let sizes = (shape.batch, shape.heads, shape.queries);
        Array3::from_shape_vec(sizes, values).expect("one entry per query")
    }

    /// A vector of every query, [B, H, N, width].
    pub fn by_query_of<R: Clone>(&self, width: usize, values: Vec<R>) -> Array4<R> {
        let shape = self.shape();
        let sizes = (shape.batch, shape.heads, shape.queries, width);
        Array4::from_shape_vec(sizes, values).expect("one vector per query")
    }
}

/// Refuses a gradient that has not its answer's shape.
fn check_shape<D: Dimension, T>(
    question: &str,
    gradient: &ArrayView<'_, T, D>,
    expected: &[usize],
) -> Result<(), Error> {
    if gradient.shape() == expected {
        return Ok(());
    }
    Err(Error::shape(
        format!("grad.{question}"),
        format!("{expected:?}"),
        gradient.shape(),
        "An upstream gradient has its answer's shape.",
    ))
}

impl<T: Real> Found<'_, '_, '_, T> {
    /// What queries gathered, as the model's value has it: as it is, or over their mass.
    pub fn gathered(&self, mut rows: Array4<T>) -> Array4<T> {
        let average = self.posterior.problem.value == Value::Average;
        let (mass, scale) = (&self.finding.mass, &self.finding.log_scale);
        if !average && scale.is_empty() {
            return rows;
        }
        for (i, mut row) in rows.rows_mut().into_iter().enumerate() {
            if average {
                let mass = mass[i];
                row.mapv_inplace(|x| if mass == T::zero() { mass } else { x / mass });
            } else {
                let scale = scale[i].exp();
                row.mapv_inplace(|x| x * scale);
            }
        }
        rows
    }

    /// Adds the gradient in what every query [gathered](Self::gathered) of a statistic.
    pub fn add_gathered_gradient<'g>(
        &'g self,
        statistic: Handle,
        gradient: ArrayView4<'g, T>,
        slopes: &mut Slopes<'g, T>,
    ) {
        let width = gradient.dim().3;
        let gradient = flat(gradient);
        if self.posterior.problem.value == Value::Gather {
            slopes.add_linear(statistic, self.scaled(gradient, width));
            return;
        }
        // A gathered sum over the mass: g/m on the sum, and the rest on the mass.
        let gathered = &self.finding.expectation(statistic).values;
        let (mut on_sum, mut on_mass) = (gradient.into_owned(), Vec::new());
        for (i, &mass) in self.finding.mass().iter().enumerate() {
            let mut through = T::zero();
            for c in i * width..(i + 1) * width {
                // A gradient of 0 takes no part, whatever the query holds.
                let idle = mass == T::zero() || on_sum[c] == T::zero();
                let g = if idle { T::zero() } else { on_sum[c] / mass };
                on_sum[c] = g;
                if g != T::zero() {
                    through -= g * gathered[c] / mass;
                }
            }
            on_mass.push(through);
        }
        slopes.add_linear(statistic, Cow::Owned(on_sum));
        slopes.add_mass(Cow::Owned(on_mass));
    }

    /// A number that every query gathered, without a scale.
    pub fn unscaled(&self, values: Vec<T>) -> Vec<T> {
        self.finding.unscaled(values, 1)
    }

    /// The gradient in what queries gathered, in the scale it was gathered in.
    pub fn scaled<'g>(&self, gradient: Cow<'g, [T]>, width: usize) -> Cow<'g, [T]> {
        self.finding.scaled(gradient, width)
    }

    /// Refuses a gradient in a vector of every query that is shaped otherwise.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn check_by_query_of<'g>(
        &self,
        question: &str,
        gradient: Option<ArrayView4<'g, T>>,
        width: usize,
    ) -> Result<Option<ArrayView4<'g, T>>, Error> {
        let Some(gradient) = gradient else { return Ok(None) };
        let shape = self.shape();
        let expected = [shape.batch, shape.heads, shape.queries, width];
        check_shape(question, &gradient, &expected).map(|()| Some(gradient))
    }

    /// Refuses a gradient in a number of every query that is shaped otherwise.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn check_by_query<'g>(
        &self,
        question: &str,
        gradient: Option<ArrayView3<'g, T>>,
    ) -> Result<Option<ArrayView3<'g, T>>, Error> {
        let Some(gradient) = gradient else { return Ok(None) };
        let shape = self.shape();
        let expected = [shape.batch, shape.heads, shape.queries];
        check_shape(question, &gradient, &expected).map(|()| Some(gradient))
    }

    /// Refuses a gradient in a number of every factor that is shaped otherwise.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn check_by_factor<'g>(
        &self,
        question: &str,
        gradient: Option<ArrayView3<'g, T>>,
    ) -> Result<Option<ArrayView3<'g, T>>, Error> {
        let Some(gradient) = gradient else { return Ok(None) };
        let (b, h, f) = self.factor_sizes();
        check_shape(question, &gradient, &[b, h, f]).map(|()| Some(gradient))
    }

    /// Refuses a gradient in a number of every key that is shaped otherwise.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn check_by_key<'g>(
        &self,
        question: &str,
        gradient: Option<ArrayView3<'g, T>>,
    ) -> Result<Option<ArrayView3<'g, T>>, Error> {
        let Some(gradient) = gradient else { return Ok(None) };
        let shape = self.shape();
        let expected = [shape.batch, shape.heads, shape.keys];
        check_shape(question, &gradient, &expected).map(|()| Some(gradient))
    }

    /// Questions about single edges, where the inference answers them.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`].
    pub fn edges(&self, question: &str) -> Result<&dyn EdgeQuestions<T>, Error> {
        self.posterior.inference.edges().ok_or_else(|| Error::NotAnswerable {
            question: question.into(),
            why: format!(
                "the structure `{}` has no marginals of single edges",
                self.posterior.structure
            ),
            instead: "Ask the posterior of one step.".into(),
        })
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

    /// What the pass found out: plain data, for a backward in another place than the forward, such as a
    /// framework's tape; see [`Posterior::complete`].
    pub fn into_finding(self) -> Finding<T> {
        self.found.finding
    }

    /// What the pass found out.
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
