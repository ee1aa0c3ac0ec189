//! The tensors both sides work on: drawn once, kept in a file that the other side reads.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use marginals_kernels::random::philox;
use ndarray::{Array, Array1, Array4, ArrayD, Dimension, ShapeBuilder};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

use crate::work::Size;

/// Queries, keys, values and whatever else a piece of work reads; batch 1, f32.
pub struct Inputs {
    /// [1, H, N, D].
    pub q: Array4<f32>,
    /// [1, H, M, D].
    pub k: Array4<f32>,
    /// [1, H, M, D].
    pub v: Array4<f32>,
    /// ∂loss/∂mean, [1, H, N, D].
    pub upstream: Array4<f32>,
    /// ALiBi's slopes, one per head.
    pub slopes: Array1<f32>,
    /// A learned bias per head, [1, H, N, M]; empty where the work has none.
    pub bias: Array4<f32>,
    /// A module's weights by name; empty where the work has none.
    pub weights: BTreeMap<&'static str, ArrayD<f32>>,
}

impl Inputs {
    /// Standard normal tensors of `size`, a bias only if wanted: it is the largest by far.
    pub fn draw(size: Size, with_bias: bool) -> Self {
        let Size { heads, queries, keys, dim } = size;
        let bias_keys = if with_bias { keys } else { 0 };
        Self {
            q: normal((1, heads, queries, dim), 1),
            k: normal((1, heads, keys, dim), 2),
            v: normal((1, heads, keys, dim), 3),
            upstream: normal((1, heads, queries, dim), 4),
            // Press, Smith & Lewis, "Train short, test long" (ICLR 2022): 2^(−8h/H), h = 1..H.
            slopes: (1..=heads).map(|h| (-8.0 * h as f32 / heads as f32).exp2()).collect(),
            bias: normal((1, heads, queries, bias_keys), 5),
            weights: BTreeMap::new(),
        }
    }

    /// Adds weights of the given shapes: of about the size that PyTorch draws, around 1 where they
    /// scale a normalisation.
    pub fn draw_weights(&mut self, shapes: Vec<(&'static str, Vec<usize>)>) {
        for (stream, (name, shape)) in (6..).zip(shapes) {
            let inputs = shape.last().map_or(1.0, |&width| width as f32);
            let around = f32::from(name.starts_with("norm") && name.ends_with("weight"));
            let weight = normal(shape, stream).mapv(|x| around + x / inputs.sqrt());
            self.weights.insert(name, weight);
        }
    }

    /// Only what a forward pass reads: memory is being counted.
    pub fn draw_forward(size: Size) -> Self {
        let none = Size { queries: 0, keys: 0, ..size };
        Self {
            q: normal((1, size.heads, size.queries, size.dim), 1),
            k: normal((1, size.heads, size.keys, size.dim), 2),
            v: normal((1, size.heads, size.keys, size.dim), 3),
            ..Self::draw(none, false)
        }
    }

    /// Writes the tensors for the other side.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut tensors = vec![
            ("q", view(&self.q)?),
            ("k", view(&self.k)?),
            ("v", view(&self.v)?),
            ("upstream", view(&self.upstream)?),
            ("alibi.slopes", view(&self.slopes)?),
        ];
        let named: Vec<_> =
            self.weights.iter().map(|(name, weight)| (format!("weights.{name}"), weight)).collect();
        for (name, weight) in &named {
            tensors.push((name.as_str(), view(weight)?));
        }
        if !self.bias.is_empty() {
            tensors.push(("bias", view(&self.bias)?));
        }
        serialize_to_file(tensors, None, path)
            .with_context(|| format!("the inputs cannot be written to {}", path.display()))
    }
}

/// Independent standard normal numbers by Box and Muller's method, a function of the stream alone.
fn normal<S: ShapeBuilder>(shape: S, stream: u32) -> Array<f32, S::Dim> {
    let mut array = Array::<f32, S::Dim>::zeros(shape);
    let numbers = array.as_slice_mut().expect("just made in row-major order");
    numbers.par_chunks_mut(4).enumerate().for_each(|(index, four)| {
        let bits =
            philox([index as u32, (index >> 32) as u32, stream, 0], [0x6d61_7267, 0x696e_616c]);
        // (0, 1]: 24 bits are all an f32 holds, and the logarithm must stay finite.
        let unit = |bits: u32| ((bits >> 8) + 1) as f32 / (1 << 24) as f32;
        let pair = |a, b| {
            let (radius, angle) = ((-2.0 * unit(a).ln()).sqrt(), std::f32::consts::TAU * unit(b));
            [radius * angle.cos(), radius * angle.sin()]
        };
        let [[a, b], [c, d]] = [pair(bits[0], bits[1]), pair(bits[2], bits[3])];
        for (number, drawn) in four.iter_mut().zip([a, b, c, d]) {
            *number = drawn;
        }
    });
    array
}

/// An array as the little-endian bytes that the format holds.
fn view<D: Dimension>(array: &Array<f32, D>) -> Result<TensorView<'_>> {
    let numbers = array.as_slice().expect("made in row-major order");
    Ok(TensorView::new(Dtype::F32, array.shape().to_vec(), bytemuck::cast_slice(numbers))?)
}
