//! Any differentiable answers of a model's posterior as one operation.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients as Tape;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchTensorKind, Flex, backend_extension};
use burn::tensor::Tensor;
use marginals::infer::exact::{Gradients, Summary, Upstream};
use marginals::question::{
    AnyQuestion, Asked, ColumnMass, Entropy, ExpectedDistance, Kl, LogEvidence, LogPartition, Mean,
    QueryMass, Question as Asks, ValueVariance,
};
use marginals::spec::{ModelSpec, StructureSpec, Tensors};
use marginals::{Error, Pass};
use ndarray::{Array3, ArrayD, ArrayView, ArrayView3, ArrayView4, CowArray, Ix4, IxDyn};

use super::answers::{Answers, Place, Question, Sizes};
use super::attend::Kept;
use super::flex::{
    Number, Primitive, by_format, check_format, flat, numbers, readable, row, tensor, view,
};
use super::parameters::{BIAS, Named, Parameters};
use super::plain;
use super::tape::{pass_on, retrieve};

/// The posterior of a model given as data, asked on Burn's tape.
///
/// On the flex backend all answers asked together are one node: one streaming pass forward, one
/// backward, O(N) memory, gradients in queries, keys, values and every parameter. Elsewhere the same
/// answers are made of plain tensor operations, with the N × M matrix that takes
/// ([`Posterior::ask_plainly`]).
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use marginals::spec::ModelSpec;
/// use marginals_burn::ops::{Nodes, Parameters, Posterior, Question};
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
/// let answers =
///     Posterior::new(spec)?.ask(&nodes, &parameters, &[Question::Mean, Question::Entropy])?;
/// let loss = answers.get::<4>(Question::Mean)?.powi_scalar(2).sum()
///     - answers.get::<3>(Question::Entropy)?.mean() * 0.1;
/// let gradients = loss.backward();
/// assert_eq!(rho.grad(&gradients).expect("a gradient").dims(), [2]);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Posterior {
    pub(super) spec: Arc<ModelSpec>,
    pub(super) integer: Arc<BTreeMap<String, ArrayD<i64>>>,
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
    /// The posterior of a factored model.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`] for walks, which are several posteriors.
    pub fn new(spec: ModelSpec) -> Result<Self, Error> {
        if matches!(spec.structure, StructureSpec::Walk { .. }) {
            return Err(Error::NotAnswerable {
                question: "a walk as one operation".into(),
                why: "it takes a posterior for every hop".into(),
                instead: "Use `marginals_burn::Multihop`.".into(),
            });
        }
        Ok(Self { spec: spec.into(), integer: Arc::default() })
    }

    /// The same with a whole-numbered tensor that the model names, such as `adjacency.indices` or
    /// `segments.q`.
    pub fn with_integers(self, name: &str, tensor: ArrayD<i64>) -> Self {
        let mut integer = Arc::unwrap_or_clone(self.integer);
        integer.insert(name.to_owned(), tensor);
        Self { integer: integer.into(), ..self }
    }

    /// The model.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Answers the questions, all in one pass. Gradients flow to the nodes and the parameters.
    ///
    /// # Errors
    /// [`Error`], where sizes do not fit each other or the model, a parameter lies outside its range,
    /// a tensor that the model names is missing, numbers are neither `f32` nor `f64`, or no question is
    /// asked.
    ///
    /// # Panics
    /// Burn's backward cannot report an error: it panics where a part of the model does not define its
    /// gradient. All those that model files name do.
    pub fn ask(
        &self,
        nodes: &Nodes,
        parameters: &Parameters,
        questions: &[Question],
    ) -> Result<Answers, Error> {
        let places = self.check(nodes, parameters, questions)?;
        if !on_flex(&nodes.q) {
            return plain::ask(self, nodes, parameters, questions);
        }
        let (device, format) = (nodes.q.device(), nodes.q.dtype());
        let bias = parameters.get(BIAS);
        let (small, packed) = parameters.pack(format, &device);
        let call = Call {
            posterior: self.clone(),
            places: places.clone().into(),
            bias: bias.map(|bias| bias.shape.clone()),
            small: small.into(),
            failure: Arc::default(),
        };
        let absent = || Tensor::<1>::zeros([0], (&device, format));
        let v = match &nodes.v {
            Some(v) if questions.iter().any(|question| question.averages_values()) => {
                v.clone().into_dispatch()
            }
            _ => absent().into_dispatch(),
        };
        let bias = bias.map_or_else(absent, |bias| bias.flat.clone());
        let (q, k) = (nodes.q.clone().into_dispatch(), nodes.k.clone().into_dispatch());
        let failure = call.failure.clone();
        let (bias, packed) = (bias.into_dispatch(), packed.into_dispatch());
        let answers = Dispatch::ask(q, k, v, bias, packed, call);
        match failure.get() {
            Some(error) => Err(error.clone()),
            None => Ok(Answers::unpack(&Tensor::from_dispatch(answers), &places)),
        }
    }

    /// The same answers by plain tensor operations: each intermediate, the N × M marginals among them,
    /// is on the tape. It runs on every backend, and there it is what [`Posterior::ask`] does.
    ///
    /// # Errors
    /// As [`Posterior::ask`].
    pub fn ask_plainly(
        &self,
        nodes: &Nodes,
        parameters: &Parameters,
        questions: &[Question],
    ) -> Result<Answers, Error> {
        self.check(nodes, parameters, questions)?;
        plain::ask(self, nodes, parameters, questions)
    }

    /// Where the answers lie; refuses what can be seen from the sizes.
    fn check(
        &self,
        nodes: &Nodes,
        parameters: &Parameters,
        questions: &[Question],
    ) -> Result<Vec<Place>, Error> {
        let Nodes { q, k, v } = nodes;
        check_format("q", q.dtype(), q.dtype())?;
        check_format("k", k.dtype(), q.dtype())?;
        parameters.check()?;
        for Named { name, flat, .. } in parameters.iter() {
            check_format(name, flat.dtype(), q.dtype())?;
        }
        if questions.is_empty() {
            return Err(Error::value("questions", "at least one", "none"));
        }
        let repeated = |(i, question)| questions[..i].contains(question);
        if let Some((_, question)) = questions.iter().enumerate().find(|&asked| repeated(asked)) {
            return Err(Error::value("questions", "each question once", question.name()));
        }
        let ([batch, heads, queries, _], [_, key_heads, keys, _]) = (q.dims(), k.dims());
        let averages = questions.iter().find(|question| question.averages_values());
        let value_width = match (averages, v) {
            (None, _) => 0,
            (Some(question), None) => {
                return Err(Error::MissingTensor {
                    name: "v".into(),
                    why: format!("the values, [B, Hk, M, Dv], for `{}`", question.name()),
                    present: vec!["q".into(), "k".into()],
                });
            }
            (Some(_), Some(v)) => {
                check_format("v", v.dtype(), q.dtype())?;
                let found = v.dims();
                if found[..3] != [batch, key_heads, keys] {
                    return Err(Error::shape(
                        "v",
                        format!("[{batch}, {key_heads}, {keys}, Dv], one value per key"),
                        &found,
                        "Values belong to keys: batch, key heads and keys are those of k.",
                    ));
                }
                found[3]
            }
        };
        let factors = match self.spec.structure {
            StructureSpec::EachKeyPicksOne => keys,
            _ => queries,
        };
        let sizes = Sizes { batch, heads, queries, keys, factors, value_width };
        Ok(Place::pack(questions, &sizes))
    }
}

/// Whether a tensor lies where the operation runs.
fn on_flex(tensor: &Tensor<4>) -> bool {
    match tensor.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(_) => true,
        DispatchTensorKind::Autodiff(inner) => matches!(*inner, DispatchTensorKind::Flex(_)),
        #[allow(unreachable_patterns)]
        // Which other backends there are is for Burn's features to say.
        _ => false,
    }
}

/// What one call of the operation knows beside its tensors.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    posterior: Posterior,
    places: Arc<[Place]>,
    /// Shape of the bias, where there is one.
    bias: Option<Vec<usize>>,
    /// Names and shapes of the packed parameters.
    small: Arc<[(String, Vec<usize>)]>,
    /// Burn's operations cannot return an error. Theirs is left here.
    failure: Arc<OnceLock<Error>>,
}

/// The operation on the backends that have it.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait PosteriorBackend: Backend {
    /// Every answer, packed. `v` and `bias` may have no entries.
    fn ask(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        packed: FloatTensor<Self>,
        call: Call,
    ) -> FloatTensor<Self>;
}

impl PosteriorBackend for Flex {
    fn ask(
        q: Primitive,
        k: Primitive,
        v: Primitive,
        bias: Primitive,
        packed: Primitive,
        call: Call,
    ) -> Primitive {
        forward(&call, [q, k, v, bias, packed]).0
    }
}

impl<C: CheckpointStrategy> PosteriorBackend for Autodiff<Flex, C> {
    fn ask(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        packed: FloatTensor<Self>,
        call: Call,
    ) -> FloatTensor<Self> {
        let inputs = [q, k, v, bias, packed];
        let guards = inputs.each_ref().map(|tensor| tensor.node());
        match Answering.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                // The strategy decides whether these are kept or made again.
                let nodes = inputs.each_ref().map(|tensor| prepared.checkpoint(tensor));
                let (answers, kept) = forward(&call, inputs.map(|tensor| tensor.into_primitive()));
                prepared.finish(Taped { nodes, call, kept }, answers)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(forward(&call, inputs.map(|tensor| tensor.into_primitive())).0)
            }
        }
    }
}

/// What the tape keeps of one forward.
#[derive(Clone, Debug)]
struct Taped {
    nodes: [NodeId; 5],
    call: Call,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Answering;

impl Backward<Flex, 5> for Answering {
    type State = Taped;

    fn backward(self, ops: Ops<Taped, 5>, grads: &mut Tape, checkpointer: &mut Checkpointer) {
        pass_on(ops, grads, |Taped { nodes, call, kept }, upstream| {
            let inputs = retrieve(nodes, checkpointer);
            let upstream = upstream.to_contiguous();
            by_format!(upstream.dtype(), T => {
                let kept = T::kept(kept.expect("the forward went well"));
                let summary = kept.expect("forward and backward run in one format");
                let inputs = inputs.map(readable_any::<T>);
                backward::<T>(&call, &inputs, summary, numbers::<T>(&upstream))
            })
        });
    }
}

/// The engine reads nodes with any strides before the last, and parameters in a row.
fn readable_any<T: Number>(tensor: Primitive) -> Primitive {
    match tensor.layout().num_dims() {
        4 => readable::<T>(tensor),
        _ => tensor.to_contiguous(),
    }
}

/// The packed answers, and what the backward needs of the pass. Where the library refuses, the
/// reason is left in the call and the answers are empty.
fn forward(call: &Call, inputs: [Primitive; 5]) -> (Primitive, Option<Kept>) {
    by_format!(inputs[0].dtype(), T => {
        let inputs = inputs.map(readable_any::<T>);
        let found = call.with_pass::<T, _>(&inputs, None, |pass, nodes| {
            Ok((call.answers(&pass, nodes)?, T::keep(pass.into_summary())))
        });
        match found {
            Ok((answers, kept)) => (row(answers), Some(kept)),
            Err(error) => {
                // The first error is the one to tell.
                let _ = call.failure.set(error);
                (row(Vec::<T>::new()), None)
            }
        }
    })
}

/// Gradients in the inputs, from that in the packed answers.
fn backward<T: Number>(
    call: &Call,
    inputs: &[Primitive; 5],
    summary: Summary<T>,
    upstream: &[T],
) -> [Option<Primitive>; 5] {
    let gradients = call
        .with_pass::<T, _>(inputs, Some(summary), |pass, _| pass.backward(&call.upstream(upstream)))
        .expect("what the forward accepted, the backward differentiates");
    let Gradients { q, k, v, mut parameters } = gradients;
    let mut take = |name: &str, shape: &[usize]| {
        match parameters.iter().position(|parameter| parameter.name == name) {
            Some(index) => flat(parameters.swap_remove(index).gradient),
            // The model does not name it.
            None => vec![T::zero(); shape.iter().product()],
        }
    };
    let bias = call.bias.as_ref().map(|shape| row(take(BIAS, shape)));
    let packed = call.small.iter().flat_map(|(name, shape)| take(name, shape)).collect();
    let node = tensor::<T, Ix4>;
    [Some(node(q)), Some(node(k)), v.map(node), bias, Some(row(packed))]
}

impl Call {
    /// Calls `f` with the pass that answers the questions, made anew or resumed.
    fn with_pass<T: Number, R>(
        &self,
        inputs: &[Primitive; 5],
        summary: Option<Summary<T>>,
        f: impl for<'p, 'a, 'v> FnOnce(
            Pass<'p, 'a, 'v, T>,
            Option<ArrayView4<'v, T>>,
        ) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let [q, k, v, bias, packed] = inputs;
        let (q, k) = (view::<T, Ix4>(q), view::<T, Ix4>(k));
        let averages = self.places.iter().any(|place| place.question.averages_values());
        let v = averages.then(|| view::<T, Ix4>(v));
        let tensors = self.tensors::<T>(bias, numbers(packed));
        let model = self.posterior.spec.build::<T>(q.dim().1, q.dim().3, &tensors)?;
        let posterior = model.posterior(q, k)?;
        let (mean, variance) = (v.map(Mean), v.map(ValueVariance));
        let mut asked: Vec<&dyn AnyQuestion<'_, T>> = Vec::new();
        for place in self.places.iter() {
            match place.question {
                Question::Mean => asked.extend(mean.as_ref().map(|q| q as &dyn AnyQuestion<'_, T>)),
                Question::ValueVariance => {
                    asked.extend(variance.as_ref().map(|q| q as &dyn AnyQuestion<'_, T>));
                }
                Question::LogPartition => asked.push(&LogPartition),
                Question::LogEvidence => asked.push(&LogEvidence),
                Question::Entropy => asked.push(&Entropy),
                Question::Kl => asked.push(&Kl),
                Question::ColumnMass => asked.push(&ColumnMass),
                Question::QueryMass => asked.push(&QueryMass),
                Question::ExpectedDistance => asked.push(&ExpectedDistance),
            }
        }
        let asked = Asked(asked);
        let pass = match summary {
            None => posterior.pass(&asked)?,
            Some(summary) => posterior.resume(&asked, summary)?,
        };
        f(pass, v)
    }

    /// The tensors that the model names, where they lie.
    fn tensors<'t, T: Number>(&self, bias: &'t Primitive, packed: &'t [T]) -> Tensors<'t, T> {
        let mut real = BTreeMap::new();
        let mut insert = |name: &str, shape: &[usize], entries: &'t [T]| {
            let array = ArrayView::from_shape(IxDyn(shape), entries).expect("as many as packed");
            real.insert(name.to_owned(), CowArray::from(array));
        };
        if let Some(shape) = &self.bias {
            insert(BIAS, shape, numbers(bias));
        }
        let mut rest = packed;
        for (name, shape) in self.small.iter() {
            let (own, after) = rest.split_at(shape.iter().product());
            insert(name, shape, own);
            rest = after;
        }
        Tensors { real, integer: (*self.posterior.integer).clone() }
    }

    /// The answers, one after another.
    fn answers<'v, T: Number>(
        &self,
        pass: &Pass<'_, '_, 'v, T>,
        v: Option<ArrayView4<'v, T>>,
    ) -> Result<Vec<T>, Error> {
        let values = || v.expect("there are values where a question averages them");
        let mut packed: Vec<T> = Vec::new();
        for place in self.places.iter() {
            // The first answer's own buffer is the start of the packed one.
            let mut append = |answer: Vec<T>| match packed.is_empty() {
                true => packed = answer,
                false => packed.extend(answer),
            };
            let numbers = match place.question {
                Question::Mean => {
                    append(flat(pass.answer(&Mean(values()))?));
                    continue;
                }
                Question::ValueVariance => {
                    append(flat(pass.answer(&ValueVariance(values()))?));
                    continue;
                }
                Question::LogPartition => answer(pass, LogPartition)?,
                Question::LogEvidence => answer(pass, LogEvidence)?,
                Question::Entropy => answer(pass, Entropy)?,
                Question::Kl => answer(pass, Kl)?,
                Question::ColumnMass => answer(pass, ColumnMass)?,
                Question::QueryMass => answer(pass, QueryMass)?,
                Question::ExpectedDistance => answer(pass, ExpectedDistance)?,
            };
            append(flat(numbers));
        }
        Ok(packed)
    }

    /// What comes from upstream, cut out of the packed gradient.
    fn upstream<'g, T: Number>(&self, packed: &'g [T]) -> Upstream<'g, T> {
        let mut upstream = Upstream::default();
        for place in self.places.iter() {
            let entries = &packed[place.start..place.start + place.len()];
            let vectors = ArrayView4::from_shape(place.shape, entries).expect("the answer's size");
            let [b, h, n, _] = place.shape;
            let numbers = || ArrayView3::from_shape([b, h, n], entries).expect("the answer's size");
            match place.question {
                Question::Mean => upstream.mean = Some(vectors),
                Question::ValueVariance => upstream.value_variance = Some(vectors),
                Question::LogPartition => upstream.log_partition = Some(numbers()),
                Question::LogEvidence => upstream.log_evidence = Some(numbers()),
                Question::Entropy => upstream.entropy = Some(numbers()),
                Question::Kl => upstream.kl = Some(numbers()),
                Question::ColumnMass => upstream.column_mass = Some(numbers()),
                Question::QueryMass => upstream.query_mass = Some(numbers()),
                Question::ExpectedDistance => upstream.expected_distance = Some(numbers()),
            }
        }
        upstream
    }
}

fn answer<'v, T: Number, Q: Asks<'v, T, Answer = Array3<T>>>(
    pass: &Pass<'_, '_, 'v, T>,
    question: Q,
) -> Result<Array3<T>, Error> {
    pass.answer(&question)
}
