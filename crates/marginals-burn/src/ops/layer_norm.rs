//! Layer normalisation as one node on the tape.
//!
//! Burn's own is composed of a dozen operations under autodiff, each of which reads and writes the
//! whole tensor: on thousands of rows it costs more than the attention behind it.

use burn::tensor::Tensor;
use marginals::{Error, Real};
use marginals_kernels::InstructionSet;
use rayon::prelude::*;

use super::flex::{Number, Primitive, check_format, numbers, vector};
use super::tape::{Forward, Operation, record};

/// y = γ (x − E\[x\]) / √(Var\[x\] + ε) + β over the last axis (Ba et al. 2016, eq. 4), the variance
/// being the mean square about the mean, as PyTorch and Burn have it.
///
/// With x̂ the normalised row and g = ∂L/∂y, σ² = Var + ε,
///
/// ```text
/// ∂L/∂x = (γ g − mean(γ g) − x̂ mean(γ g x̂)) / σ,   ∂L/∂γ = Σ g x̂,   ∂L/∂β = Σ g.
/// ```
///
/// The backward makes x̂ again from x, so nothing is kept but x, γ and two numbers per row.
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
    let inputs = [x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch()];
    Ok(Tensor::from_dispatch(record(LayerNorm { epsilon }, inputs)?.0))
}

/// Layer normalisation of x by γ and β.
#[derive(Clone, Copy, Debug)]
struct LayerNorm {
    epsilon: f64,
}

impl Operation<3> for LayerNorm {
    /// Statistics of each row that [`forward`] found.
    type Kept<T: Number> = Primitive;
    type Report = ();

    fn forward<T: Number>(&self, inputs: &[Primitive; 3]) -> Result<Forward<Primitive, ()>, Error> {
        let inputs = inputs.each_ref().map(|tensor| tensor.to_contiguous());
        let (output, kept) = forward::<T>(&inputs, self.epsilon);
        Ok(Forward { output, kept, report: () })
    }

    fn backward<T: Number>(
        &self,
        [x, gamma, _]: &[Primitive; 3],
        moments: Primitive,
        upstream: Primitive,
    ) -> [Option<Primitive>; 3] {
        let found = [x.to_contiguous(), gamma.to_contiguous(), moments];
        backward::<T>(&found, &upstream.to_contiguous()).map(Some)
    }
}

/// Rows a task takes: the cut, and with it the order of the sums, depends on the sizes alone.
const ROWS: usize = 256;

/// The output, and E\[x\] and 1/√(Var\[x\] + ε) of each row side by side, `[rows, 2]`.
fn forward<T: Number>(inputs: &[Primitive; 3], epsilon: f64) -> (Primitive, Primitive) {
    let [x, gamma, beta] = inputs.each_ref().map(numbers::<T>);
    let width = gamma.len();
    let rows = x.len() / width.max(1);
    let mut out = vec![T::zero(); x.len()];
    let mut moments = vec![T::zero(); 2 * rows];
    let runs = out.par_chunks_mut((ROWS * width).max(1)).zip(moments.par_chunks_mut(2 * ROWS));
    runs.zip(x.par_chunks((ROWS * width).max(1))).for_each(|((out, moments), x)| {
        InstructionSet::detect().run(
            #[inline(always)]
            || forward_rows(out, moments, x, [gamma, beta], T::of(epsilon)),
        );
    });
    let shape = inputs[0].layout().shape().clone();
    (vector(out, shape), vector(moments, [rows, 2]))
}

#[inline(always)]
fn forward_rows<T: Real>(
    out: &mut [T],
    moments: &mut [T],
    x: &[T],
    [gamma, beta]: [&[T]; 2],
    epsilon: T,
) {
    let width = gamma.len();
    let count = T::of(width as f64);
    let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
    for ((out, x), moments) in rows.zip(moments.chunks_exact_mut(2)) {
        let [sum] = sums(x, x, x, |x, _, _| [x]);
        let mean = sum / count;
        let [square] = sums(x, x, x, |x, _, _| [(x - mean) * (x - mean)]);
        let scale = (square / count + epsilon).sqrt().recip();
        moments.copy_from_slice(&[mean, scale]);
        let weights = gamma.iter().zip(beta);
        for ((out, &x), (&gamma, &beta)) in out.iter_mut().zip(x).zip(weights) {
            *out = (x - mean) * scale * gamma + beta;
        }
    }
}

fn backward<T: Number>(taped: &[Primitive; 3], upstream: &Primitive) -> [Primitive; 3] {
    let [x, gamma, moments] = taped.each_ref().map(numbers::<T>);
    let (g, width) = (numbers::<T>(upstream), gamma.len());
    let mut dx = vec![T::zero(); x.len()];
    let size = (ROWS * width).max(1);
    let runs = dx.par_chunks_mut(size).zip(x.par_chunks(size));
    let runs = runs.zip(g.par_chunks(size)).zip(moments.par_chunks(2 * ROWS));
    let parts: Vec<[Vec<T>; 2]> = runs
        .map(|(((dx, x), g), moments)| {
            let mut of_weights = [vec![T::zero(); width], vec![T::zero(); width]];
            InstructionSet::detect().run(
                #[inline(always)]
                || backward_rows(dx, &mut of_weights, x, g, gamma, moments),
            );
            of_weights
        })
        .collect();
    let mut totals = [vec![T::zero(); width], vec![T::zero(); width]];
    for part in parts {
        for (total, part) in totals.iter_mut().zip(part) {
            total.iter_mut().zip(part).for_each(|(total, x)| *total += x);
        }
    }
    let [of_gamma, of_beta] = totals.map(|total| vector(total, [width]));
    [vector(dx, taped[0].layout().shape().clone()), of_gamma, of_beta]
}

/// Fills in the gradient of some rows and adds their share of those of γ and β.
#[inline(always)]
fn backward_rows<T: Real>(
    dx: &mut [T],
    [of_gamma, of_beta]: &mut [Vec<T>; 2],
    x: &[T],
    g: &[T],
    gamma: &[T],
    moments: &[T],
) {
    let width = gamma.len();
    let count = T::of(width as f64);
    let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(g.chunks_exact(width));
    for (((dx, x), g), moments) in rows.zip(moments.chunks_exact(2)) {
        let (mean, scale) = (moments[0], moments[1]);
        let [flat, along] = sums(x, g, gamma, |x, g, gamma| {
            let weighted = gamma * g;
            [weighted, weighted * ((x - mean) * scale)]
        });
        let (flat, along) = (flat / count, along / count);
        let weights = of_gamma.iter_mut().zip(of_beta.iter_mut()).zip(gamma);
        let entries = dx.iter_mut().zip(x).zip(g);
        for (((dx, &x), &g), ((of_gamma, of_beta), &gamma)) in entries.zip(weights) {
            let normal = (x - mean) * scale;
            *of_gamma += g * normal;
            *of_beta += g;
            *dx = scale * (gamma * g - flat - normal * along);
        }
    }
}

/// Σ f(a, b, c) over rows of one length, in interleaved partial sums so that the compiler can use
/// vectors.
#[inline(always)]
fn sums<T: Real, const N: usize>(
    a: &[T],
    b: &[T],
    c: &[T],
    f: impl Fn(T, T, T) -> [T; N],
) -> [T; N] {
    const LANES: usize = 16;
    let mut partial = [[T::zero(); LANES]; N];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let (c, c_rest) = c.as_chunks::<LANES>();
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        for lane in 0..LANES {
            let terms = f(a[lane], b[lane], c[lane]);
            for n in 0..N {
                partial[n][lane] += terms[n];
            }
        }
    }
    for (lane, ((&a, &b), &c)) in a_rest.iter().zip(b_rest).zip(c_rest).enumerate() {
        let terms = f(a, b, c);
        for n in 0..N {
            partial[n][lane] += terms[n];
        }
    }
    partial.map(|mut lanes| {
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
        }
        lanes[0]
    })
}
