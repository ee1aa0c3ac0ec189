//! Expanding attention as one operation.

use std::sync::{Arc, OnceLock};

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients as Tape;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use marginals::potential::Potential;
use marginals::spec::{ExpandingInference, ExpandingSpec, Sizes, Tensors};
use marginals::zoo::expanding::{Expanding as Engine, ExpandingUpstream, Expansion, Inference};
use marginals::{Error, Real};
use ndarray::{Array3, ArrayView3, ArrayView4, Ix4};

use super::flex::{Number, Primitive, check_format, flat, numbers, readable, row, tensor, view};
use super::tape::{pass_on, retrieve};

/// Expanding attention on Burn's tape, on the flex backend: a window per query that grows until what
/// is left outside weighs less than the tolerance (see [`marginals::zoo::expanding`]).
#[derive(Clone, Debug)]
pub struct Expanding {
    spec: Arc<ExpandingSpec>,
}

/// What expanding attention found.
#[derive(Clone, Debug)]
pub struct Expanded {
    /// E\[v\], `[B, H, N, Dv]`.
    pub mean: Tensor<4>,
    /// The log-evidence under exact inference, its bound under the mean field, `[B, H, N]`, in nats.
    pub log_evidence: Tensor<3>,
    /// E\[ρ\], `[B, H, N]`.
    pub rho: Tensor<3>,
    /// What the search for the windows came to; no gradients flow through it.
    pub report: Arc<ExpandingReport>,
}

/// What the search for the windows came to, by query: `[B, H, N]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpandingReport {
    /// Keys in the window.
    pub window: Array3<usize>,
    /// Times the window grew.
    pub growths: Array3<usize>,
    /// Bound on the posterior mass outside the window.
    pub lost: Array3<f64>,
    /// Steps of coordinate ascent; 0 under exact inference.
    pub steps: Array3<usize>,
    /// E\[d\], how far behind itself the query looks.
    pub distance: Array3<f64>,
}

impl Expanding {
    /// The mechanism that a model file describes; α and β come with each call.
    pub fn new(spec: ExpandingSpec) -> Self {
        Self { spec: spec.into() }
    }

    /// Expands the windows of `q` over `k` and averages `v` in them. Gradients flow to the nodes and
    /// to α and β, at the windows that were found.
    ///
    /// # Shapes
    /// - q: `[B, H, N, D]`
    /// - k: `[B, Hk, M, D]`
    /// - v: `[B, Hk, M, Dv]`
    /// - alpha, beta: `[H]` or `[1]`, above 0
    ///
    /// # Errors
    /// [`Error`], where sizes do not fit, a number lies outside its range, numbers are neither `f32`
    /// nor `f64`, or the potential gives no bound that a window could be found by.
    pub fn forward(
        &self,
        [q, k, v]: [Tensor<4>; 3],
        [alpha, beta]: [Tensor<1>; 2],
    ) -> Result<Expanded, Error> {
        let format = q.dtype();
        check_format("q", format, format)?;
        for (name, found) in [("k", &k), ("v", &v)] {
            check_format(name, found.dtype(), format)?;
        }
        for (name, found) in [("alpha", &alpha), ("beta", &beta)] {
            check_format(name, found.dtype(), format)?;
        }
        let ([batch, heads, queries, _], [.., width]) = (q.dims(), v.dims());
        let call =
            Call { expanding: self.clone(), of_alpha: alpha.dims()[0], found: Arc::default() };
        let concentrations = Tensor::cat(vec![alpha, beta], 0).into_dispatch();
        let (q, k, v) = (q.into_dispatch(), k.into_dispatch(), v.into_dispatch());
        let found = call.found.clone();
        let packed = Tensor::<1>::from_dispatch(Dispatch::expand(q, k, v, concentrations, call));
        let report = match found.get() {
            Some(Ok(report)) => report.clone(),
            Some(Err(error)) => return Err(error.clone()),
            None => unreachable!("the operation leaves a report or an error"),
        };
        let rows = batch * heads * queries;
        let numbers = |at: usize| {
            packed.clone().narrow(0, rows * (width + at), rows).reshape([batch, heads, queries])
        };
        Ok(Expanded {
            mean: packed.clone().narrow(0, 0, rows * width).reshape([batch, heads, queries, width]),
            log_evidence: numbers(0),
            rho: numbers(1),
            report,
        })
    }

    /// The engine with these α and β, and the potential.
    fn engine<T: Real>(
        &self,
        concentrations: &[T],
        of_alpha: usize,
        width: usize,
    ) -> Result<(Engine, Box<dyn Potential<T>>), Error> {
        let spec = &*self.spec;
        let (alpha, beta) = concentrations.split_at(of_alpha);
        let list = |numbers: &[T]| numbers.iter().map(|x| x.f64()).collect::<Vec<_>>();
        let engine = Engine::per_head(&list(alpha), &list(beta))
            .with_inference(match &spec.inference {
                ExpandingInference::Exact => Inference::Exact,
                ExpandingInference::MeanField(engine) => Inference::MeanField(engine.build()),
            })
            .with_tolerance(spec.lost)
            .with_first_keys(spec.first_keys)
            .with_query_offset(spec.query_offset);
        let sizes = Sizes { heads: 1, key_heads: 1, width };
        Ok((engine, spec.potential.build_for(sizes, &Tensors::default())?))
    }
}

/// What one call of the operation knows beside its tensors.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    expanding: Expanding,
    /// How many of the concentrations are α's.
    of_alpha: usize,
    /// Burn's operations return tensors and nothing else. The rest is left here.
    found: Arc<OnceLock<Result<Arc<ExpandingReport>, Error>>>,
}

/// The operation on the backends that have it.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait ExpandingBackend: Backend {
    /// Mean, log-evidence and E\[ρ\], packed.
    fn expand(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        concentrations: FloatTensor<Self>,
        call: Call,
    ) -> FloatTensor<Self>;
}

impl ExpandingBackend for Flex {
    fn expand(
        q: Primitive,
        k: Primitive,
        v: Primitive,
        concentrations: Primitive,
        call: Call,
    ) -> Primitive {
        forward(&call, [q, k, v, concentrations]).0
    }
}

impl<C: CheckpointStrategy> ExpandingBackend for Autodiff<Flex, C> {
    fn expand(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        concentrations: FloatTensor<Self>,
        call: Call,
    ) -> FloatTensor<Self> {
        let inputs = [q, k, v, concentrations];
        let guards = inputs.each_ref().map(|tensor| tensor.node());
        match Expands.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
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

/// The windows and what was found in them, in the format it ran in.
#[derive(Clone, Debug)]
enum Kept {
    Single(Arc<Expansion<f32>>),
    Double(Arc<Expansion<f64>>),
}

/// What the tape keeps of one forward.
#[derive(Clone, Debug)]
struct Taped {
    nodes: [NodeId; 4],
    call: Call,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Expands;

impl Backward<Flex, 4> for Expands {
    type State = Taped;

    fn backward(self, ops: Ops<Taped, 4>, grads: &mut Tape, checkpointer: &mut Checkpointer) {
        pass_on(ops, grads, |Taped { nodes, call, kept }, upstream| {
            let inputs = retrieve(nodes, checkpointer);
            let upstream = upstream.to_contiguous();
            match kept.expect("the forward went well") {
                Kept::Single(kept) => backward::<f32>(&call, inputs, &kept, &upstream),
                Kept::Double(kept) => backward::<f64>(&call, inputs, &kept, &upstream),
            }
        });
    }
}

/// Nodes as the engine reads them, and the concentrations.
fn as_read<T: Number>([q, k, v, concentrations]: [Primitive; 4]) -> [Primitive; 4] {
    let [q, k, v] = [q, k, v].map(readable::<T>);
    [q, k, v, concentrations.to_contiguous()]
}

fn forward(call: &Call, inputs: [Primitive; 4]) -> (Primitive, Option<Kept>) {
    match inputs[0].dtype() {
        burn::tensor::DType::F64 => {
            let (answers, kept) = expand::<f64>(call, inputs);
            (answers, kept.map(|kept| Kept::Double(kept.into())))
        }
        _ => {
            let (answers, kept) = expand::<f32>(call, inputs);
            (answers, kept.map(|kept| Kept::Single(kept.into())))
        }
    }
}

/// The packed answers, and what the backward needs.
fn expand<T: Number>(call: &Call, inputs: [Primitive; 4]) -> (Primitive, Option<Expansion<T>>) {
    let inputs = as_read::<T>(inputs);
    let [q, k, v, concentrations] = &inputs;
    let [q, k, v] = [q, k, v].map(view::<T, Ix4>);
    let found = call.expanding.engine(numbers(concentrations), call.of_alpha, q.dim().3).and_then(
        |(engine, potential)| {
            let found = engine.attend(&*potential, q, k, v)?;
            let report = ExpandingReport {
                window: found.window.clone(),
                growths: found.growths.clone(),
                lost: found.lost.clone(),
                steps: found.steps.clone(),
                distance: found.distance.clone(),
            };
            let single = |x: &Array3<f64>| x.mapv(T::of);
            let mut packed = flat(found.mean.clone());
            packed.extend(single(&found.log_evidence));
            packed.extend(single(&found.rho_mean));
            Ok((packed, report, found.into_expansion()))
        },
    );
    let (report, packed, kept) = match found {
        Ok((packed, report, kept)) => (Ok(report.into()), packed, Some(kept)),
        Err(error) => (Err(error), Vec::new(), None),
    };
    // A call is made once.
    let _ = call.found.set(report);
    (row(packed), kept)
}

fn backward<T: Number>(
    call: &Call,
    inputs: [Primitive; 4],
    kept: &Expansion<T>,
    upstream: &Primitive,
) -> [Primitive; 4] {
    let inputs = as_read::<T>(inputs);
    let [q, k, v, concentrations] = &inputs;
    let [q, k, v] = [q, k, v].map(view::<T, Ix4>);
    let ((b, h, n, width), heads_width) = ((q.dim().0, q.dim().1, q.dim().2, v.dim().3), q.dim().3);
    let packed = numbers::<T>(upstream);
    let (of_mean, rest) = packed.split_at(b * h * n * width);
    let (of_evidence, of_rho) = rest.split_at(b * h * n);
    let three = |entries| ArrayView3::from_shape([b, h, n], entries).expect("the answer's size");
    let upstream = ExpandingUpstream {
        mean: ArrayView4::from_shape([b, h, n, width], of_mean).ok(),
        log_evidence: Some(three(of_evidence)),
        rho: Some(three(of_rho)),
    };
    let found = call
        .expanding
        .engine(numbers(concentrations), call.of_alpha, heads_width)
        .and_then(|(engine, potential)| engine.backward(&*potential, [q, k, v], kept, &upstream))
        .expect("what the forward accepted, the backward differentiates");
    let own = found.alpha.iter().chain(&found.beta).map(|&x| T::of(x)).collect();
    [tensor(found.q), tensor(found.k), tensor(found.v), row(own)]
}
