//! Any differentiable answers of a model's posterior as one operation.

use std::sync::Arc;

use burn::tensor::{DType, Tensor};
use marginals::question::{Named, QUESTIONS};
use marginals::spec::ModelSpec;
use marginals::{Error, Model, Value};
use ndarray::ArrayD;

use super::answers::Answers;
use super::built::{Blueprint, Source};
use super::call::{Call, Values};
use super::flex::check_format;
use super::model::AnyModel;
use super::parameters::{BIAS, Parameters};
use super::tape::record;

/// The posterior of a model, asked on Burn's tape.
///
/// All answers asked together are one node: one streaming pass forward, one backward (a walk's, one per
/// hop), O(N) memory, gradients in queries, keys, values and every parameter. What can be asked is every
/// differentiable question of [`marginals::question`], by its name. The model is built once, for the
/// forward and its backward.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use marginals::spec::ModelSpec;
/// use marginals_burn::ops::{Nodes, Parameters, Posterior};
///
/// let spec = ModelSpec::from_toml(r#"
///     structure = "each-query-picks-one"
///     prior     = ["causal", { geometric = { rho = 0.1 } }]
///     potential = "dot"
/// "#)?;
/// let device = Device::flex().autodiff();
/// let draw = || Tensor::<4>::random([1, 2, 5, 4], Distribution::Default, &device).require_grad();
/// let rho = Tensor::<1>::from_floats([0.2, 0.01], &device).require_grad();
/// let nodes = Nodes { q: draw(), k: draw(), v: Some(draw()) };
/// let parameters = Parameters::none().with("geometric.rho", rho.clone());
/// let answers = Posterior::new(spec).ask(&nodes, &parameters, &["mean", "entropy"])?;
/// let loss = answers.get::<4>("mean")?.powi_scalar(2).sum()
///     - answers.get::<3>("entropy")?.mean() * 0.1;
/// let gradients = loss.backward();
/// assert_eq!(rho.grad(&gradients).expect("a gradient").dims(), [2]);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Posterior {
    source: Source,
    smoothing: f64,
}

/// The nodes of a graph.
#[derive(Clone, Debug)]
pub struct Nodes {
    /// Queries, `[B, H, N, D]`.
    pub q: Tensor<4>,
    /// Keys, `[B, Hk, M, D]`, Hk a divisor of H.
    pub k: Tensor<4>,
    /// Values, `[B, Hk, M, Dv]`, where a question averages them.
    pub v: Option<Tensor<4>>,
}

impl Posterior {
    /// The posterior of a model given as data, walks included.
    pub fn new(spec: ModelSpec) -> Self {
        Self { source: Source::Spec(Blueprint::new(spec).into()), smoothing: 0.0 }
    }

    /// The posterior of a model with types, which holds its parameters itself: gradients flow to the
    /// nodes alone.
    pub fn of(model: impl AnyModel + 'static) -> Self {
        Self { source: Source::Typed(Arc::new(model)), smoothing: 0.0 }
    }

    /// The same whose mean is the average over keys under marginals that have had `epsilon` added, as
    /// slot attention has it (Locatello et al. 2020, Algorithm 1):
    ///
    /// ```text
    /// out_i = Σ_j (p_ij + ε) v_j / Σ_j (p_ij + ε) = (m_i a_i + ε Σ_j v_j) / (m_i + ε M),
    /// ```
    ///
    /// with m_i = Σ_j p_ij and a_i the plain average: a closed form of what the pass finds anyway.
    /// A query without mass gets the plain mean of the values. The model's value becomes
    /// [`Value::Average`].
    ///
    /// # Errors
    /// [`Error::Value`] where `epsilon` is negative or not finite.
    pub fn smoothed_average<S, P, U>(model: Model<S, P, U>, epsilon: f64) -> Result<Self, Error>
    where
        Model<S, P, U>: AnyModel + 'static,
    {
        if !(epsilon.is_finite() && epsilon >= 0.0) {
            return Err(Error::value("epsilon", "a finite number of at least 0", epsilon));
        }
        Ok(Self { smoothing: epsilon, ..Self::of(model.with_value(Value::Average)) })
    }

    /// The same with a whole-numbered tensor that the model names, such as `adjacency.indices` or
    /// `segments.q`. A model with types names none, and stays as it is.
    pub fn with_integers(self, name: &str, tensor: ArrayD<i64>) -> Self {
        let source = match self.source {
            Source::Spec(blueprint) => {
                let mut blueprint = Arc::unwrap_or_clone(blueprint);
                blueprint.integer.insert(name.to_owned(), tensor);
                Source::Spec(blueprint.into())
            }
            typed => typed,
        };
        Self { source, ..self }
    }

    /// The posterior of one pick of a walk; the same where the structure is none.
    pub fn of_one_pick(&self) -> Self {
        let source = match &self.source {
            Source::Spec(blueprint) => Source::Spec(blueprint.of_one_pick().into()),
            typed => typed.clone(),
        };
        Self { source, ..self.clone() }
    }

    /// Answers the questions, all in one pass. Gradients flow to the nodes and the parameters.
    ///
    /// # Errors
    /// [`Error`], where sizes do not fit each other or the model, a parameter lies outside its range,
    /// a tensor that the model names is missing, numbers are neither `f32` nor `f64`, tensors are not on
    /// Burn's flex backend, no question is asked, or one that is not differentiable.
    ///
    /// # Panics
    /// Burn's backward cannot report an error: it panics where a part of the model does not define its
    /// gradient. All those that model files name do.
    pub fn ask(
        &self,
        nodes: &Nodes,
        parameters: &Parameters,
        questions: &[&str],
    ) -> Result<Answers, Error> {
        let questions = differentiable(questions)?;
        let averages = questions.iter().any(|named| named.entry.averages_values);
        let Nodes { q, k, v } = nodes.clone();
        let v = v.filter(|_| averages);
        let values = if v.is_some() { Values::Apart } else { Values::Absent };
        self.call([q, k], v, values, parameters, questions)
    }

    /// The posterior mean of the values.
    ///
    /// # Shapes
    /// - q: `[B, H, N, D]`
    /// - k: `[B, Hk, M, D]`, Hk a divisor of H
    /// - v: `[B, Hk, M, Dv]`
    /// - output: `[B, H, N, Dv]`
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    ///
    /// # Panics
    /// As [`ask`](Self::ask).
    pub fn mean(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Result<Tensor<4>, Error> {
        self.ask(&Nodes { q, k, v: Some(v) }, &Parameters::none(), &["mean"])?.get("mean")
    }

    /// The same where keys are their own values, as in slots and associative memories. Their two
    /// gradients come back as one tensor, which saves a pass over each.
    ///
    /// # Shapes
    /// - q: `[B, H, N, D]`
    /// - x: `[B, Hk, M, D]`, Hk a divisor of H
    /// - output: `[B, H, N, D]`
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    ///
    /// # Panics
    /// As [`ask`](Self::ask).
    pub fn mean_of_keys(&self, q: Tensor<4>, x: Tensor<4>) -> Result<Tensor<4>, Error> {
        let mean = differentiable(&["mean"])?;
        self.call([q, x], None, Values::Keys, &Parameters::none(), mean)?.get("mean")
    }

    fn call(
        &self,
        [q, k]: [Tensor<4>; 2],
        v: Option<Tensor<4>>,
        values: Values,
        parameters: &Parameters,
        questions: Vec<Named>,
    ) -> Result<Answers, Error> {
        let (device, format) = (q.device(), q.dtype());
        check_formats(format, [("q", q.dtype()), ("k", k.dtype())])?;
        check_formats(format, v.iter().map(|v| ("v", v.dtype())))?;
        check_formats(format, parameters.iter().map(|p| (&*p.name, p.flat.dtype())))?;
        parameters.check()?;
        let bias = parameters.get(BIAS);
        let (places, packed) = parameters.pack(format, &device);
        let call = Call {
            source: self.source.clone(),
            questions: questions.into(),
            values,
            smoothing: self.smoothing,
            bias: bias.map(|bias| bias.shape.clone()),
            packed: places.into(),
        };
        let absent = || Tensor::<1>::zeros([0], (&device, format)).into_dispatch();
        let inputs = [
            q.into_dispatch(),
            k.into_dispatch(),
            v.map_or_else(absent, Tensor::into_dispatch),
            bias.map_or_else(absent, |bias| bias.flat.clone().into_dispatch()),
            packed.into_dispatch(),
        ];
        let (answers, places) = record(call, inputs)?;
        Ok(Answers::new(answers, places))
    }
}

fn check_formats<'n>(
    expected: DType,
    tensors: impl IntoIterator<Item = (&'n str, DType)>,
) -> Result<(), Error> {
    tensors.into_iter().try_for_each(|(name, format)| check_format(name, format, expected))
}

/// The questions called so; refuses those that the tape has no use for.
fn differentiable(names: &[&str]) -> Result<Vec<Named>, Error> {
    if names.is_empty() {
        return Err(Error::value("questions", "at least one", "none"));
    }
    let mut all: Vec<Named> = Vec::with_capacity(names.len());
    for name in names {
        let named = Named::parse(name)?;
        if !named.entry.differentiable {
            let known = QUESTIONS.iter().filter(|entry| entry.differentiable);
            let known: Vec<&str> = known.map(|entry| entry.name).collect();
            return Err(Error::NotAnswerable {
                question: named.entry.name.into(),
                why: "it has no gradient, and this is an operation on the tape".into(),
                instead: format!(
                    "Ask {} here, and this of a `marginals::Posterior`.",
                    known.join(", ")
                ),
            });
        }
        if all.contains(&named) {
            return Err(Error::value("questions", "each question once", name));
        }
        all.push(named);
    }
    Ok(all)
}
