//! Posteriors as matrices, for judging: toy sequences are short enough to look at every edge.

use burn::tensor::{Tensor, TensorData};
use marginals::Error;
use marginals_burn::ops::{Nodes, Parameters, Posterior};

/// P(φ_ij), `[B, N, M]`, of one head.
pub fn marginals(
    posterior: &Posterior,
    nodes: &Nodes,
    parameters: &Parameters,
) -> Result<Tensor<3>, Error> {
    let answers = posterior.ask(nodes, parameters, &["marginals"])?;
    Ok(answers.get::<4>("marginals")?.squeeze_dim(1))
}

/// The likeliest edge of each query in place of all: 1 for it and 0 for the others. Where no edge is
/// the likeliest of all, or none is possible, there is none.
pub fn hard(marginals: &Tensor<3>) -> Tensor<3> {
    let [batch, queries, keys] = marginals.dims();
    let mut edges = floats(marginals.clone());
    for row in edges.chunks_exact_mut(keys) {
        let best = (0..keys).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
        let (most, none) = (row[best], 1.0 - row.iter().sum::<f32>());
        row.fill(0.0);
        if most > 0.0 && most >= none {
            row[best] = 1.0;
        }
    }
    Tensor::from_data(TensorData::new(edges, [batch, queries, keys]), &marginals.device())
}

/// The entries, in row-major order.
pub fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("models of the toy problems compute in f32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_likeliest_edge_is_the_only_one_left() {
        let rows = [[0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [0.1, 0.2, 0.1], [0.0, 0.0, 0.0]];
        let soft = Tensor::<2>::from_floats(rows, &Device::flex()).reshape([1, 4, 3]);
        let expected = [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(floats(hard(&soft)), expected);
    }
}
