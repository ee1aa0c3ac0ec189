//! Layer normalisation as one node on the tape.
//!
//! Burn's own is composed of a dozen operations under autodiff, each of which reads and writes the
//! whole tensor: on thousands of rows it costs more than the attention behind it.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use marginals::{Error, Real};
use marginals_kernels::InstructionSet;
use rayon::prelude::*;

use super::flex::{Number, Primitive, by_format, check_format, numbers, vector};

/// y = γ (x − E\[x\]) / √(Var\[x\] + ε) + β over the last axis (Ba et al. 2016, eq. 4), the variance
/// being the mean square about the mean, as PyTorch and Burn have it.
///
/// With x̂ the normalised row and g = ∂L/∂y, σ² = Var + ε,
///
/// ```text
/// ∂L/∂x = (γ g − mean(γ g) − x̂ mean(γ g x̂)) / σ,   ∂L/∂γ = Σ g x̂,   ∂L/∂β = Σ g.
/// ```
///
/// The backward makes x̂ again from x, so nothing is kept but the inputs themselves.
///
/// # Shapes
/// - x: `[..., width]`
/// - gamma, beta: `[width]`
/// - output: as x
///
/// # Errors
/// [`Error::Shape`] where γ or β is not as long as the last axis, [`Error::Value`] where the numbers
/// are neither `f32` nor `f64`.
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Result<Tensor<D>, Error> {
    check_format("x", x.dtype(), x.dtype())?;
    let width = x.dims()[D - 1];
    for (name, found) in [("gamma", &gamma), ("beta", &beta)] {
        check_format(name, found.dtype(), x.dtype())?;
        if found.dims() != [width] {
            return Err(Error::shape(
                name,
                format!("[{width}], the last axis of x"),
                &found.dims(),
                "Give one number for each entry of a row.",
            ));
        }
    }
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    Ok(Tensor::from_dispatch(Dispatch::normalise(x, gamma, beta, epsilon)))
}

/// Layer normalisation on the backends that have it.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait NormalisationBackend: Backend {
    /// See [`layer_norm`]; everything has been checked.
    fn normalise(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;
}

impl NormalisationBackend for Flex {
    fn normalise(x: Primitive, gamma: Primitive, beta: Primitive, epsilon: f64) -> Primitive {
        by_format!(x.dtype(), T => {
            forward::<T>(&[x, gamma, beta].map(|tensor| tensor.to_contiguous()), epsilon)
        })
    }
}

impl<C: CheckpointStrategy> NormalisationBackend for Autodiff<Flex, C> {
    fn normalise(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let guards = [x.node(), gamma.node(), beta.node()];
        let inputs = [x.into_primitive(), gamma.into_primitive(), beta.into_primitive()]
            .map(|tensor| tensor.to_contiguous());
        let out = by_format!(inputs[0].dtype(), T => forward::<T>(&inputs, epsilon));
        match Normalisation.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((inputs, epsilon), out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }
}

#[derive(Debug)]
struct Normalisation;

impl Backward<Flex, 3> for Normalisation {
    type State = ([Primitive; 3], f64);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let upstream = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (inputs, epsilon) = ops.state;
        let found = by_format!(upstream.dtype(), T => backward::<T>(&inputs, &upstream, epsilon));
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// Rows a task takes: the cut, and with it the order of the sums, depends on the sizes alone.
const ROWS: usize = 256;

fn forward<T: Number>(inputs: &[Primitive; 3], epsilon: f64) -> Primitive {
    let [x, gamma, beta] = inputs.each_ref().map(numbers::<T>);
    let width = gamma.len();
    let mut out = vec![T::zero(); x.len()];
    if width > 0 {
        let runs = out.par_chunks_mut(ROWS * width).zip(x.par_chunks(ROWS * width));
        runs.for_each(|(out, x)| {
            InstructionSet::detect().run(
                #[inline(always)]
                || {
                    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                        let (mean, scale) = moments(x, epsilon);
                        for c in 0..width {
                            out[c] = (x[c] - mean) * scale * gamma[c] + beta[c];
                        }
                    }
                },
            );
        });
    }
    vector(out, inputs[0].layout().shape().clone())
}

fn backward<T: Number>(
    inputs: &[Primitive; 3],
    upstream: &Primitive,
    epsilon: f64,
) -> [Primitive; 3] {
    let [x, gamma, _] = inputs.each_ref().map(numbers::<T>);
    let (g, width) = (numbers::<T>(upstream), gamma.len());
    let mut dx = vec![T::zero(); x.len()];
    let mut sums = [vec![T::zero(); width], vec![T::zero(); width]];
    if width > 0 {
        let size = ROWS * width;
        let runs = dx.par_chunks_mut(size).zip(x.par_chunks(size)).zip(g.par_chunks(size));
        let parts: Vec<_> =
            runs.map(|((dx, x), g)| backward_rows(dx, x, g, gamma, epsilon)).collect();
        for part in parts {
            for (sum, part) in sums.iter_mut().zip(part) {
                sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
            }
        }
    }
    let [of_gamma, of_beta] = sums.map(|sum| vector(sum, [width]));
    [vector(dx, inputs[0].layout().shape().clone()), of_gamma, of_beta]
}

/// Fills in the gradient of some rows; returns their share of those of γ and β.
fn backward_rows<T: Real>(
    dx: &mut [T],
    x: &[T],
    g: &[T],
    gamma: &[T],
    epsilon: f64,
) -> [Vec<T>; 2] {
    let width = gamma.len();
    let count = T::of(width as f64);
    let [mut of_gamma, mut of_beta] = [vec![T::zero(); width], vec![T::zero(); width]];
    InstructionSet::detect().run(
        #[inline(always)]
        || {
            let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width));
            for ((dx, x), g) in rows.zip(g.chunks_exact(width)) {
                let (mean, scale) = moments(x, epsilon);
                let flat = sum(width, |c| gamma[c] * g[c]) / count;
                let along = sum(width, |c| gamma[c] * g[c] * ((x[c] - mean) * scale)) / count;
                for c in 0..width {
                    let normal = (x[c] - mean) * scale;
                    of_gamma[c] += g[c] * normal;
                    of_beta[c] += g[c];
                    dx[c] = scale * (gamma[c] * g[c] - flat - normal * along);
                }
            }
        },
    );
    [of_gamma, of_beta]
}

/// E\[x\] and 1/√(Var\[x\] + ε).
#[inline(always)]
fn moments<T: Real>(x: &[T], epsilon: f64) -> (T, T) {
    let count = T::of(x.len() as f64);
    let mean = sum(x.len(), |c| x[c]) / count;
    let variance = sum(x.len(), |c| (x[c] - mean) * (x[c] - mean)) / count;
    (mean, (variance + T::of(epsilon)).sqrt().recip())
}

/// Σ_c f(c) in interleaved partial sums, so that the compiler can use vectors.
#[inline(always)]
fn sum<T: Real>(count: usize, f: impl Fn(usize) -> T) -> T {
    const LANES: usize = 16;
    let mut sums = [T::zero(); LANES];
    let whole = count / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += f(start + lane);
        }
    }
    let mut total = T::zero();
    for sum in sums {
        total += sum;
    }
    (whole..count).for_each(|c| total += f(c));
    total
}
