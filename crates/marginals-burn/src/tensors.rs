//! Between Burn's tensors and the engine's array views.

use burn::tensor::{Device, Int, Tensor, TensorData};
use ndarray::{Array4, ArrayView4};

/// Vocabulary indices as the `[1, N]` tensor an embedding takes.
pub(crate) fn indices(ids: &[u32], device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i64> = ids.iter().copied().map(i64::from).collect();
    let shape = [1, ids.len()];
    Tensor::from_data(TensorData::new(ids, shape), device)
}

/// The values of a tensor in row-major order.
///
/// # Panics
/// If the tensor does not hold `f32`, which none in this crate can.
pub(crate) fn into_values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("the models hold f32 tensors only")
}

/// Rows `[B·N, H·D]` of some texts seen as heads `[B, H, N, D]`, without a copy.
pub(crate) fn split_heads(
    rows: &[f32],
    texts: usize,
    nodes: usize,
    heads: usize,
) -> ArrayView4<'_, f32> {
    let dim = rows.len() / (texts * nodes * heads);
    ArrayView4::from_shape([texts, nodes, heads, dim], rows)
        .expect("a projection gives every node the same number of values")
        .permuted_axes([0, 2, 1, 3])
}

/// Heads `[B, H, N, D]` laid side by side into rows `[B·N, H·D]`.
pub(crate) fn merge_heads(heads: &Array4<f32>, device: &Device) -> Tensor<2> {
    let (texts, count, nodes, dim) = heads.dim();
    let heads = heads.as_standard_layout();
    let values = heads.as_slice().expect("the layout is standard");
    let mut rows = Vec::with_capacity(values.len());
    for text in 0..texts {
        for node in 0..nodes {
            for head in 0..count {
                let first = ((text * count + head) * nodes + node) * dim;
                rows.extend_from_slice(&values[first..first + dim]);
            }
        }
    }
    Tensor::from_data(TensorData::new(rows, [texts * nodes, count * dim]), device)
}

/// The values of heads `[1, H, N, D]` as the engine takes them.
pub(crate) fn heads_view(values: &[f32], shape: [usize; 4]) -> ArrayView4<'_, f32> {
    ArrayView4::from_shape(shape, values).expect("as many values as the tensor had")
}
