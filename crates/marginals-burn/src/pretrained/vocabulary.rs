//! The next token as an edge: a hidden state is a query, and of the tokens of the vocabulary, its keys, it
//! picks one.
//!
//! The engine makes scores of tokens tile by tile: their normaliser and the likeliest of them are found, and
//! no row of tens of thousands of logits is kept.

use burn::tensor::Tensor;
use marginals::Model;
use marginals::potential::Dot;
use marginals::prior::Uniform;
use marginals::question::{LogPartition, Question};
use marginals::structure::EachQueryPicksOne;
use ndarray::{Array4, ArrayView4, s};

use crate::error::ModelError;
use crate::tensors::into_values;

/// Tokens that may come next.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    /// Vectors of the tokens, `[1, 1, V, width]`, followed by their biases where they have such.
    vectors: Array4<f32>,
    biased: bool,
    /// Bound on scores.
    cap: Option<f64>,
}

impl Vocabulary {
    /// Tokens of vectors `[V, width]`; scores are inner products with a hidden state, plus the token's bias.
    pub fn new(vectors: Tensor<2>, bias: Option<Vec<f32>>, cap: Option<f64>) -> Self {
        let [tokens, width] = vectors.dims();
        let values = into_values(vectors);
        let biased = bias.is_some();
        let (values, width) = match bias {
            None => (values, width),
            // One more coordinate, which is 1 in every hidden state.
            Some(bias) => {
                let rows = values.chunks_exact(width).zip(bias);
                let rows = rows.flat_map(|(row, bias)| row.iter().copied().chain([bias]));
                (rows.collect(), width + 1)
            }
        };
        let vectors = Array4::from_shape_vec([1, 1, tokens, width], values);
        Self { vectors: vectors.expect("one row for every token"), biased, cap }
    }

    /// Answers a question about the token after each of some rows of finished hidden states.
    ///
    /// # Errors
    /// [`ModelError`], when the rows have another width.
    pub fn ask<'v, Q: Question<'v, f32>>(
        &self,
        rows: &[f32],
        question: Q,
    ) -> Result<Q::Answer, ModelError> {
        self.posterior_of(self.queries(rows).view(), question)
    }

    fn posterior_of<'v, Q: Question<'v, f32>>(
        &self,
        queries: ArrayView4<'_, f32>,
        question: Q,
    ) -> Result<Q::Answer, ModelError> {
        let potential = Dot { softcap: self.cap, ..Dot::new(1.0) };
        let model = Model::new(EachQueryPicksOne, Uniform, potential);
        Ok(model.posterior(queries, self.vectors.view())?.ask(question)?)
    }

    /// −log P of the tokens that come next, in nats, one for each row.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn losses(
        &self,
        rows: &[f32],
        next: impl Iterator<Item = u32>,
    ) -> Result<Vec<f64>, ModelError> {
        let queries = self.queries(rows);
        let log_partition = self.posterior_of(queries.view(), LogPartition)?;
        let losses = log_partition.iter().zip(next).enumerate().map(|(row, (&log_z, id))| {
            let query = queries.slice(s![0, 0, row, ..]);
            let vector = self.vectors.slice(s![0, 0, id as usize, ..]);
            let pairs = query.iter().zip(vector);
            let score: f64 = pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            let score = match self.cap {
                Some(cap) => cap * (score / cap).tanh(),
                None => score,
            };
            f64::from(log_z) - score
        });
        Ok(losses.collect())
    }

    /// Rows as queries `[1, 1, N, width]`.
    fn queries(&self, rows: &[f32]) -> Array4<f32> {
        let width = self.vectors.dim().3;
        let own = width - usize::from(self.biased);
        let one: &[f32] = if self.biased { &[1.0] } else { &[] };
        let values = rows.chunks_exact(own).flat_map(|row| row.iter().chain(one).copied());
        Array4::from_shape_vec([1, 1, rows.len() / own, width], values.collect())
            .expect("whole rows")
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use marginals::question::Map;

    use super::*;

    const VECTORS: [[f64; 3]; 4] =
        [[1.0, 0.0, -0.5], [0.25, 2.0, 0.0], [-1.0, 1.0, 3.0], [0.0, 0.0, 0.0]];
    const BIAS: [f64; 4] = [0.5, -2.0, 0.0, 3.0];
    const ROWS: [[f64; 3]; 2] = [[1.0, 2.0, -1.0], [0.5, 0.0, 4.0]];

    fn single<const N: usize>(rows: &[[f64; 3]; N]) -> Vec<f32> {
        rows.iter().flatten().map(|x| *x as f32).collect()
    }

    #[test]
    fn losses_are_those_of_the_definition() {
        for cap in [None, Some(1.5)] {
            for biased in [false, true] {
                let vectors = TensorData::new(single(&VECTORS), [4, 3]);
                let bias = biased.then(|| BIAS.map(|x| x as f32).to_vec());
                let vectors = Tensor::from_data(vectors, &Device::flex());
                let vocabulary = Vocabulary::new(vectors, bias, cap);
                let rows = single(&ROWS);
                let losses = vocabulary.losses(&rows, [2, 0].into_iter()).unwrap();
                let likeliest = vocabulary.ask(&rows, Map).unwrap();
                for (row, (next, loss)) in ROWS.iter().zip([2, 0].into_iter().zip(losses)) {
                    let score = |token: usize| {
                        let pairs = VECTORS[token].iter().zip(row);
                        let bias = if biased { BIAS[token] } else { 0.0 };
                        let score: f64 = pairs.map(|(x, y)| x * y).sum::<f64>() + bias;
                        cap.map_or(score, |cap| cap * (score / cap).tanh())
                    };
                    let scores: [f64; 4] = std::array::from_fn(score);
                    let log_z = scores.iter().map(|score| score.exp()).sum::<f64>().ln();
                    let expected = log_z - scores[next];
                    assert!((loss - expected).abs() < 1e-6, "{cap:?} {biased}: {loss} {expected}");
                    let best = likeliest[[0, 0, usize::from(row[0] == 0.5)]] as usize;
                    assert!(scores.iter().all(|score| *score <= scores[best]), "{scores:?}");
                }
            }
        }
    }
}
