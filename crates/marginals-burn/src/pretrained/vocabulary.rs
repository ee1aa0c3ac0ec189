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
