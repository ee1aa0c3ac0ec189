//! The gates of a GRU as one node on the tape.

use burn::tensor::Tensor;
use marginals::Error;

use super::flex::{Number, Primitive, check_format, numbers, vector};
use super::tape::{Forward, Operation, record};

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
///
/// # Errors
/// [`Error::Value`] where the numbers are neither `f32` nor `f64`.
pub(crate) fn gated(a: Tensor<3>, b: Tensor<3>, state: Tensor<3>) -> Result<Tensor<3>, Error> {
    check_format("state", state.dtype(), state.dtype())?;
    let inputs = [a.into_dispatch(), b.into_dispatch(), state.into_dispatch()];
    Ok(Tensor::from_dispatch(record(Gates, inputs)?.0))
}

/// The gates of a GRU from a, b and the state.
#[derive(Clone, Copy, Debug)]
struct Gates;

impl Operation<3> for Gates {
    type Kept<T: Number> = ();
    type Report = ();

    fn forward<T: Number>(&self, inputs: &[Primitive; 3]) -> Result<Forward<(), ()>, Error> {
        let inputs = inputs.each_ref().map(|tensor| tensor.to_contiguous());
        Ok(Forward { output: forward::<T>(&inputs), kept: (), report: () })
    }

    fn backward<T: Number>(
        &self,
        inputs: &[Primitive; 3],
        (): (),
        upstream: Primitive,
    ) -> [Option<Primitive>; 3] {
        let inputs = inputs.each_ref().map(|tensor| tensor.to_contiguous());
        backward::<T>(&inputs, &upstream.to_contiguous()).map(Some)
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
