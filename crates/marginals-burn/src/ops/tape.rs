//! One node on Burn's tape, whatever the operation.

use std::fmt::{self, Debug};
use std::marker::PhantomData;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::{
    BalancedCheckpointing, CheckpointStrategy, NoCheckpointing,
};
use burn::backend::autodiff::grads::Gradients as Tape;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, BackendTensor, DispatchAutodiffContext, DispatchTensor,
    DispatchTensorKind, Flex,
};
use burn::tensor::{DType, GradientCheckpointingStrategy};
use marginals::Error;

use super::flex::{Number, Primitive};

/// A function of N tensors whose gradients are written out. It runs in the number format of the first
/// of them, which has been found to be `f32` or `f64`.
pub(super) trait Operation<const N: usize>: Clone + Debug + Send + 'static {
    /// State that the backward needs of the forward, beside the inputs.
    type Kept<T: Number>: Clone + Send + 'static;
    /// Report of the forward, beside its output.
    type Report;

    /// The output, with what a backward needs.
    ///
    /// # Errors
    /// [`Error`], where the inputs do not fit.
    fn forward<T: Number>(
        &self,
        inputs: &[Primitive; N],
    ) -> Result<Forward<Self::Kept<T>, Self::Report>, Error>;

    /// The output alone, where no backward follows.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    fn forward_alone<T: Number>(
        &self,
        inputs: &[Primitive; N],
    ) -> Result<(Primitive, Self::Report), Error> {
        let Forward { output, report, .. } = self.forward::<T>(inputs)?;
        Ok((output, report))
    }

    /// Gradients in the inputs, from that in the output; `None` where there is none.
    fn backward<T: Number>(
        &self,
        inputs: &[Primitive; N],
        kept: Self::Kept<T>,
        upstream: Primitive,
    ) -> [Option<Primitive>; N];
}

/// Result of a forward that a backward may follow.
pub(super) struct Forward<K, R> {
    pub output: Primitive,
    pub kept: K,
    pub report: R,
}

/// Carries out an operation, as one node on the tape where an input is tracked. The inputs are kept, or
/// made again, as the tape's checkpointing says.
///
/// # Errors
/// [`Error::Value`] on another backend than flex, and those of the forward.
pub(super) fn record<O: Operation<N>, const N: usize>(
    operation: O,
    inputs: [DispatchTensor; N],
) -> Result<(DispatchTensor, O::Report), Error> {
    let none = DispatchAutodiffContext::Disabled;
    let autodiff = inputs.iter().fold(none, |all, input| all.merge(input.autodiff));
    let (kind, report) = match autodiff {
        DispatchAutodiffContext::Disabled => {
            let inputs = try_each(inputs, |input| match input.kind {
                DispatchTensorKind::Flex(tensor) => Ok(tensor.float()),
                #[allow(unreachable_patterns, reason = "Burn's features say what there is")]
                other => Err(elsewhere(&other)),
            })?;
            let (output, report) = alone(&operation, &inputs)?;
            (DispatchTensorKind::Flex(BackendTensor::Float(output)), report)
        }
        DispatchAutodiffContext::Enabled(strategy) => {
            let (output, report) = match strategy {
                GradientCheckpointingStrategy::Disabled => {
                    tracked::<O, NoCheckpointing, N>(operation, inputs)?
                }
                GradientCheckpointingStrategy::Balanced => {
                    tracked::<O, BalancedCheckpointing, N>(operation, inputs)?
                }
            };
            let output = DispatchTensorKind::Flex(BackendTensor::Autodiff(output));
            (DispatchTensorKind::Autodiff(output.into()), report)
        }
    };
    Ok((DispatchTensor { kind, autodiff }, report))
}

fn try_each<A, B, const N: usize>(
    list: [A; N],
    f: impl Fn(A) -> Result<B, Error>,
) -> Result<[B; N], Error> {
    let all = list.into_iter().map(f).collect::<Result<Vec<_>, _>>()?;
    match all.try_into() {
        Ok(all) => Ok(all),
        Err(_) => unreachable!("as many as before"),
    }
}

/// The error of a tensor on another backend.
#[allow(dead_code, reason = "Burn's features say whether there is another")]
fn elsewhere(tensor: &DispatchTensorKind) -> Error {
    let device = burn::backend::TensorMetadata::device(tensor);
    let expected = "Burn's flex backend, which this operation runs on: `Device::flex()`";
    Error::value("device", expected, format!("{device:?}"))
}

type Tracked<C> = FloatTensor<Autodiff<Flex, C>>;

/// The node, where gradients may be asked for.
fn tracked<O: Operation<N>, C: CheckpointStrategy, const N: usize>(
    operation: O,
    inputs: [DispatchTensor; N],
) -> Result<(Tracked<C>, O::Report), Error> {
    let inputs: [Tracked<C>; N] = try_each(inputs, |input| match input.kind {
        DispatchTensorKind::Flex(tensor) => {
            Ok(<Autodiff<Flex, C> as AutodiffBackend>::from_inner(tensor.float()))
        }
        DispatchTensorKind::Autodiff(inner) => match *inner {
            DispatchTensorKind::Flex(tensor) => Ok(tensor.autodiff()),
            other => Err(elsewhere(&other)),
        },
        #[allow(unreachable_patterns, reason = "Burn's features say what there is")]
        other => Err(elsewhere(&other)),
    })?;
    let guards = inputs.each_ref().map(|input| input.node());
    match Node::<O>(PhantomData).prepare::<C>(guards).compute_bound().stateful() {
        OpsKind::Tracked(mut prepared) => {
            let nodes = inputs.each_ref().map(|input| prepared.checkpoint(input));
            let inputs = inputs.map(|input| input.into_primitive());
            let (output, kept, report) = match inputs[0].dtype() {
                DType::F64 => {
                    let Forward { output, kept, report } = operation.forward::<f64>(&inputs)?;
                    (output, Kept::Double(kept), report)
                }
                _ => {
                    let Forward { output, kept, report } = operation.forward::<f32>(&inputs)?;
                    (output, Kept::Single(kept), report)
                }
            };
            Ok((prepared.finish(Taped { operation, nodes, kept }, output), report))
        }
        OpsKind::UnTracked(prepared) => {
            let (output, report) = alone(&operation, &inputs.map(|input| input.into_primitive()))?;
            Ok((prepared.finish(output), report))
        }
    }
}

fn alone<O: Operation<N>, const N: usize>(
    operation: &O,
    inputs: &[Primitive; N],
) -> Result<(Primitive, O::Report), Error> {
    match inputs[0].dtype() {
        DType::F64 => operation.forward_alone::<f64>(inputs),
        _ => operation.forward_alone::<f32>(inputs),
    }
}

/// State that a forward left behind, in the format it ran in.
enum Kept<O: Operation<N>, const N: usize> {
    Single(O::Kept<f32>),
    Double(O::Kept<f64>),
}

impl<O: Operation<N>, const N: usize> Clone for Kept<O, N> {
    fn clone(&self) -> Self {
        match self {
            Self::Single(kept) => Self::Single(kept.clone()),
            Self::Double(kept) => Self::Double(kept.clone()),
        }
    }
}

/// State of one call that the tape keeps.
#[derive(Clone)]
struct Taped<O: Operation<N>, const N: usize> {
    operation: O,
    nodes: [NodeId; N],
    kept: Kept<O, N>,
}

impl<O: Operation<N>, const N: usize> Debug for Taped<O, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.operation, self.nodes)
    }
}

/// The backward of an operation, for Burn.
#[derive(Debug)]
struct Node<O>(PhantomData<fn() -> O>);

impl<O: Operation<N>, const N: usize> Backward<Flex, N> for Node<O> {
    type State = Taped<O, N>;

    fn backward(self, ops: Ops<Self::State, N>, tape: &mut Tape, checkpointer: &mut Checkpointer) {
        let upstream = tape.consume::<Flex>(&ops.node);
        let Taped { operation, nodes, kept } = ops.state;
        let inputs = nodes.map(|node| checkpointer.retrieve_node_output::<Primitive>(node));
        let found = match kept {
            Kept::Single(kept) => operation.backward::<f32>(&inputs, kept, upstream),
            Kept::Double(kept) => operation.backward::<f64>(&inputs, kept, upstream),
        };
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            // Nobody tracks an input without a parent.
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                tape.register::<Flex>(parent.id, gradient);
            }
        }
    }
}
