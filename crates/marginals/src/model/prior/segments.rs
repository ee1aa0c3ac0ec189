use std::collections::HashMap;
use std::ops::Range;

use marginals_kernels::TileMut;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::contract::{Coverage, Prior, PriorPart, intersect, log_count};
use super::product::Combine;
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Block, Error, Real, Shape};

/// log w_ij = 0 where query and key carry the same segment number, −∞ elsewhere: documents packed
/// into one sequence, or any partition.
///
/// Numbers need not be sorted; runs of equal numbers let whole blocks be skipped. In a file they are
/// [`Named`]: the tensors `segments.q` and `segments.k`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segments<S = SegmentNumbers> {
    #[serde(skip)]
    numbers: S,
}

/// The segment numbers of queries and keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentNumbers {
    queries: Array2<i64>,
    keys: Array2<i64>,
    /// Per batch entry: for every segment, the first and one past the last key that carries it.
    spans: Vec<HashMap<i64, Range<usize>>>,
}

impl Segments {
    /// Segment numbers of the queries [B, N] and of the keys [B, M]; a batch of 1 serves every
    /// batch entry.
    pub fn new(queries: Array2<i64>, keys: Array2<i64>) -> Self {
        let spans = keys
            .outer_iter()
            .map(|row| {
                let mut spans = HashMap::new();
                for (j, &segment) in row.iter().enumerate() {
                    let span = spans.entry(segment).or_insert(j..j);
                    span.end = j + 1;
                }
                spans
            })
            .collect();
        Self { numbers: SegmentNumbers { queries, keys, spans } }
    }
}

fn entry(rows: &Array2<i64>, batch: usize) -> usize {
    if rows.nrows() == 1 { 0 } else { batch }
}

impl<S> Combine for Segments<S> {}

impl Part for Segments<Named> {
    const NAME: &'static str = "segments";
    const MEANING: &'static str = "log w_ij = 0 within a segment, −∞ across";
    const EXAMPLE: &'static str = "\"segments\"";
    const TENSORS: &'static [NamedTensor] = &[
        NamedTensor::whole("segments.q", "[B, N]", "the segment number of each query"),
        NamedTensor::whole("segments.k", "[B, M]", "the segment number of each key"),
    ];
}

impl PriorPart for Segments<Named> {
    fn build<'a, T: Real>(&self, inputs: &Inputs<'a, T>) -> Result<Box<dyn Prior<T> + 'a>, Error> {
        Ok(Box::new(Segments::new(inputs.whole("segments.q")?, inputs.whole("segments.k")?)))
    }
}

impl<T: Real> Prior<T> for Segments {
    fn name(&self) -> &'static str {
        <Segments<Named> as Part>::NAME
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        for (name, rows, length) in [
            ("segments.q", &self.numbers.queries, shape.queries),
            ("segments.k", &self.numbers.keys, shape.keys),
        ] {
            if (rows.nrows() != 1 && rows.nrows() != shape.batch) || rows.ncols() != length {
                return Err(Error::shape(
                    name,
                    format!("[{}, {length}] (or a batch of 1)", shape.batch),
                    rows.shape(),
                    "Give one segment number per node.",
                ));
            }
        }
        Ok(())
    }
    fn add_log_weights(&self, block: &Block, mut scores: TileMut<'_, T>) {
        let queries = self.numbers.queries.row(entry(&self.numbers.queries, block.batch));
        let keys = self.numbers.keys.row(entry(&self.numbers.keys, block.batch));
        for (r, i) in block.queries.clone().enumerate() {
            let segment = queries[i];
            let row = scores.row_mut(r);
            for (x, j) in row.iter_mut().zip(block.keys.clone()) {
                if keys[j] != segment {
                    *x = T::neg_infinity();
                }
            }
        }
    }
    fn coverage(&self, block: &Block) -> Coverage {
        let queries = self.numbers.queries.row(entry(&self.numbers.queries, block.batch));
        let keys = self.numbers.keys.row(entry(&self.numbers.keys, block.batch));
        let spans = &self.numbers.spans[entry(&self.numbers.keys, block.batch)];
        let Some(&first) = block.queries.clone().next().map(|i| &queries[i]) else {
            return Coverage::Free;
        };
        let one_segment = block.queries.clone().all(|i| queries[i] == first)
            && block.keys.clone().all(|j| keys[j] == first);
        if one_segment {
            return Coverage::Free;
        }
        let touches = block.queries.clone().any(|i| {
            spans
                .get(&queries[i])
                .is_some_and(|s| s.start < block.keys.end && block.keys.start < s.end)
        });
        if touches { Coverage::Weighted } else { Coverage::Empty }
    }
    fn live_keys(&self, block: &Block) -> Range<usize> {
        let queries = self.numbers.queries.row(entry(&self.numbers.queries, block.batch));
        let spans = &self.numbers.spans[entry(&self.numbers.keys, block.batch)];
        let hull = block
            .queries
            .clone()
            .filter_map(|i| spans.get(&queries[i]).cloned())
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
            .unwrap_or(0..0);
        intersect(block.keys.clone(), hull)
    }
    fn is_mask(&self) -> bool {
        true
    }
    fn log_tail(&self, block: &Block) -> Option<f64> {
        let queries = self.numbers.queries.row(entry(&self.numbers.queries, block.batch));
        let spans = &self.numbers.spans[entry(&self.numbers.keys, block.batch)];
        Some(log_count(block, |i| spans.get(&queries[i]).cloned().unwrap_or(0..0)))
    }
}
