//! Nodes that are there, of every batch entry of a ragged batch.

use super::tables::Lengths;
use crate::model::part::NamedTensor;
use crate::model::tensors::Inputs;
use crate::{Error, Real, Shape};

/// Name of the tensor.
pub(crate) const LENGTHS: &str = "lengths";

/// The tensor of how many queries of every batch entry are there.
pub(crate) const OF_QUERIES: NamedTensor =
    NamedTensor::whole(LENGTHS, "[B]", "queries that are there").only("if present");

/// Lengths of every batch entry: of queries, and of keys where these are not all there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ragged {
    queries: Vec<usize>,
    keys: Vec<usize>,
}

impl Ragged {
    /// So many queries, all keys.
    pub fn queries(lengths: &[usize]) -> Self {
        Self { queries: lengths.to_vec(), keys: Vec::new() }
    }

    /// So many queries and keys.
    pub fn both(queries: &[usize], keys: &[usize]) -> Self {
        Self { queries: queries.to_vec(), keys: keys.to_vec() }
    }

    /// The tensor `lengths` [B], if there is one.
    pub fn of_queries<T: Real>(inputs: &Inputs<'_, T>) -> Result<Self, Error> {
        if !inputs.has_whole(LENGTHS) {
            return Ok(Self::default());
        }
        let lengths = inputs.indices(LENGTHS)?;
        if lengths.nrows() != 1 {
            return Err(Error::shape(
                LENGTHS,
                "[B]",
                lengths.shape(),
                "One number per batch entry.",
            ));
        }
        Ok(Self::queries(&lengths.into_iter().collect::<Vec<_>>()))
    }

    /// Refuses lengths of another batch, and such as are beyond the sizes.
    pub fn check(&self, shape: &Shape) -> Result<(), Error> {
        for (lengths, nodes, name) in
            [(&self.queries, shape.queries, "queries"), (&self.keys, shape.keys, "keys")]
        {
            if lengths.is_empty() {
                continue;
            }
            if lengths.len() != shape.batch {
                let expected = format!("[{}], one number per batch entry", shape.batch);
                return Err(Error::shape(
                    LENGTHS,
                    expected,
                    &[lengths.len()],
                    "Give one for each.",
                ));
            }
            if let Some(length) = lengths.iter().find(|&&length| length > nodes) {
                return Err(Error::value(LENGTHS, format!("at most {nodes}, the {name}"), length));
            }
        }
        Ok(())
    }

    /// Those of every batch entry; `whole` where there are none.
    pub fn of(&self, batch: usize, whole: Lengths) -> Lengths {
        let of = |lengths: &[usize], whole| lengths.get(batch).copied().unwrap_or(whole);
        Lengths { queries: of(&self.queries, whole.queries), keys: of(&self.keys, whole.keys) }
    }
}
