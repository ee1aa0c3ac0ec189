//! The gates of a GRU as one node on the tape.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use super::flex::{Number, Primitive, by_format, numbers, vector};
use super::tape::pass_on;

/// The state that follows `state`, from what a GRU makes of its input and of its state:
///
/// ```text
/// r = σ(a_r + b_r),  z = σ(a_z + b_z),  n = tanh(a_n + r ⊙ b_n),  h' = (1 − z) ⊙ n + z ⊙ h
/// ```
///
/// with a = W x + bias, b = U h + bias, and the gates side by side in the order r, z, n: PyTorch's
/// `GRUCell`, whose reset gate acts on U h and not on h.
///
/// # Shapes
/// - a, b: `[..., 3 width]`
/// - state: `[..., width]`
/// - output: as state
pub(crate) fn gated(a: Tensor<3>, b: Tensor<3>, state: Tensor<3>) -> Tensor<3> {
    let (a, b, state) = (a.into_dispatch(), b.into_dispatch(), state.into_dispatch());
    Tensor::from_dispatch(Dispatch::gates(a, b, state))
}

/// GRU gates on the backends that have them.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait GatesBackend: Backend {
    /// See [`gated`].
    fn gates(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        state: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl GatesBackend for Flex {
    fn gates(a: Primitive, b: Primitive, state: Primitive) -> Primitive {
        by_format!(a.dtype(), T => forward::<T>(&[a, b, state].map(|x| x.to_contiguous())))
    }
}

impl<C: CheckpointStrategy> GatesBackend for Autodiff<Flex, C> {
    fn gates(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        state: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let guards = [a.node(), b.node(), state.node()];
        let inputs = [a.into_primitive(), b.into_primitive(), state.into_primitive()]
            .map(|tensor| tensor.to_contiguous());
        let out = by_format!(inputs[0].dtype(), T => forward::<T>(&inputs));
        match Gates.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(inputs, out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

#[derive(Debug)]
struct Gates;

impl Backward<Flex, 3> for Gates {
    type State = [Primitive; 3];

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        pass_on(ops, grads, |inputs, upstream| {
            let upstream = upstream.to_contiguous();
            by_format!(upstream.dtype(), T => backward::<T>(&inputs, &upstream))
        });
    }
}

/// r, z, n of one entry.
struct Gate<T> {
    reset: T,
    update: T,
    new: T,
}

impl<T: Number> Gate<T> {
    /// Of entry `c` of a row whose gates are `width` apart.
    #[inline(always)]
    fn of(a: &[T], b: &[T], width: usize, c: usize) -> Self {
        let logistic = |x: T| T::one() / (T::one() + (-x).exp());
        let reset = logistic(a[c] + b[c]);
        let update = logistic(a[width + c] + b[width + c]);
        let new = (a[2 * width + c] + reset * b[2 * width + c]).tanh();
        Self { reset, update, new }
    }
}

fn width(state: &Primitive) -> usize {
    state.layout().shape().iter().last().copied().unwrap_or(0)
}

fn forward<T: Number>(inputs: &[Primitive; 3]) -> Primitive {
    let [a, b, state] = inputs.each_ref().map(numbers::<T>);
    let width = width(&inputs[2]);
    let mut out = Vec::with_capacity(state.len());
    for (row, state) in state.chunks(width.max(1)).enumerate() {
        let span = 3 * width * row..3 * width * (row + 1);
        for (c, &h) in state.iter().enumerate() {
            let Gate { update, new, .. } = Gate::of(&a[span.clone()], &b[span.clone()], width, c);
            out.push(new + update * (h - new));
        }
    }
    vector(out, inputs[2].layout().shape().clone())
}

fn backward<T: Number>(inputs: &[Primitive; 3], upstream: &Primitive) -> [Primitive; 3] {
    let [a, b, state] = inputs.each_ref().map(numbers::<T>);
    let (g, width) = (numbers::<T>(upstream), width(&inputs[2]));
    let [mut da, mut db] = [vec![T::zero(); a.len()], vec![T::zero(); b.len()]];
    let mut dh = vec![T::zero(); state.len()];
    for row in 0..state.len() / width.max(1) {
        let span = 3 * width * row..3 * width * (row + 1);
        let (da, db) = (&mut da[span.clone()], &mut db[span.clone()]);
        let (a, b) = (&a[span.clone()], &b[span]);
        for c in 0..width {
            let at = row * width + c;
            let Gate { reset, update, new } = Gate::of(a, b, width, c);
            let to_new = g[at] * (T::one() - update) * (T::one() - new * new);
            let to_update = g[at] * (state[at] - new) * update * (T::one() - update);
            let to_reset = to_new * b[2 * width + c] * reset * (T::one() - reset);
            (da[c], db[c]) = (to_reset, to_reset);
            (da[width + c], db[width + c]) = (to_update, to_update);
            (da[2 * width + c], db[2 * width + c]) = (to_new, to_new * reset);
            dh[at] = g[at] * update;
        }
    }
    let shapes = inputs.each_ref().map(|tensor| tensor.layout().shape().clone());
    let [of_a, of_b, of_state] = shapes;
    [vector(da, of_a), vector(db, of_b), vector(dh, of_state)]
}
