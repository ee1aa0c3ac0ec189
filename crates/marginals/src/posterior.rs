//! The posterior over edges, and what a pass has found out of it.

use std::borrow::Cow;

use ndarray::{Array3, Array4, ArrayView, ArrayView3, ArrayView4, Dimension};

use crate::infer::slopes::flat;
use crate::infer::{
    ChoiceQuestions, EdgeQuestions, Finding, Handle, Inference, Problem, Request, SetQuestions,
    Slopes,
};
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

/// An inference that is chosen in place of the exact one: [`Posterior::by`].
pub trait Approximation<T: Real> {
    /// The posterior by this inference.
    ///
    /// # Errors
    /// [`Error`], naming what it needs and does not find.
    fn of<'a>(self, exact: Posterior<'a, T>) -> Result<Posterior<'a, T>, Error>;
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
    /// [`Truncated`](crate::infer::Truncated), or of matchings [`Entropic`](crate::infer::Entropic).
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

    /// Questions about whole edge sets; where the structure is not of those whose edges depend on each other,
    /// `instead` is what can be asked.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`].
    pub(crate) fn require_sets(
        &self,
        question: &str,
        instead: &str,
    ) -> Result<&dyn SetQuestions<T>, Error> {
        self.inference.sets().ok_or_else(|| Error::NotAnswerable {
            question: question.into(),
            why: "its structure, or the inference in place of the exact one, does not choose whole edge sets"
                .into(),
            instead: format!("Ask for {instead}; `chain` and its like answer it."),
        })
    }

    /// Refuses a question about walks where the structure is not one of them.
    pub(crate) fn require_walk(&self, question: &str) -> Result<(), Error> {
        if self.inference.steps().is_some() {
            return Ok(());
        }
        Err(Error::NotAnswerable {
            question: question.into(),
            why: "the structure of this model takes no hops".into(),
            instead: "Ask it of the structure `walk`.".into(),
        })
    }
}

/// Result of a pass and its inputs: where questions read their answers.
#[derive(Debug)]
pub struct Found<'p, 'a, 'v, T: Real> {
    /// The posterior that was asked.
    pub posterior: &'p Posterior<'a, T>,
    /// Statistics that were wanted.
    pub request: Request<'v, T>,
    /// Finding of the pass.
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
    /// Sums that queries gathered, as the model's value has them: as they are, or over their mass.
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
        self.posterior.inference.edges().ok_or_else(|| self.refused(question))
    }

    /// Questions about choices, where factors are such.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`].
    pub fn choices(&self, question: &str) -> Result<&dyn ChoiceQuestions<T>, Error> {
        self.edges(question)?.choices().ok_or_else(|| Error::NotAnswerable {
            question: question.into(),
            why: format!(
                "under inference `{}` the choices of `{}` are not of single edges by their scores",
                self.posterior.inference.name(),
                self.posterior.structure
            ),
            instead: "Compare the marginals of both.".into(),
        })
    }

    fn refused(&self, question: &str) -> Error {
        Error::NotAnswerable {
            question: question.into(),
            why: format!(
                "the structure `{}` has no marginals of single edges",
                self.posterior.structure
            ),
            instead: "Ask the posterior of one step.".into(),
        }
    }
}
