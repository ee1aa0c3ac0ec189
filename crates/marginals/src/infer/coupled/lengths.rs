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

/// The tensor of how many queries and keys of every batch entry are there.
pub(crate) const OF_NODES: NamedTensor =
    NamedTensor::whole(LENGTHS, "[B, 2]", "queries and keys that are there").only("if present");

/// The tensor of how many nodes of every batch entry are there, which are queries and keys.
pub(crate) const OF_TREES: NamedTensor =
    NamedTensor::whole(LENGTHS, "[B]", "nodes that are there, the root among them")
        .only("if present");

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

    /// All nodes.
    pub const fn whole() -> Self {
        Self { queries: Vec::new(), keys: Vec::new() }
    }

    /// The tensor `lengths` [B] of queries, if there is one.
    pub fn of_queries<T: Real>(inputs: &Inputs<'_, T>) -> Result<Self, Error> {
        Ok(Self::queries(&numbers(inputs)?))
    }

    /// The tensor `lengths` [B] of nodes that are queries and keys, if there is one.
    pub fn of_trees<T: Real>(inputs: &Inputs<'_, T>) -> Result<Self, Error> {
        let lengths = numbers(inputs)?;
        Ok(Self::both(&lengths, &lengths))
    }

    /// The tensor `lengths` [B, 2] of queries and keys, if there is one.
    pub fn of_nodes<T: Real>(inputs: &Inputs<'_, T>) -> Result<Self, Error> {
        if !inputs.has_whole(LENGTHS) {
            return Ok(Self::whole());
        }
        let lengths = inputs.indices(LENGTHS)?;
        if lengths.ncols() != 2 {
            let advice = "A number of queries and one of keys per batch entry.";
            return Err(Error::shape(LENGTHS, "[B, 2]", lengths.shape(), advice));
        }
        Ok(Self { queries: lengths.column(0).to_vec(), keys: lengths.column(1).to_vec() })
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

/// The tensor `lengths` [B]; nothing where there is none.
fn numbers<T: Real>(inputs: &Inputs<'_, T>) -> Result<Vec<usize>, Error> {
    if !inputs.has_whole(LENGTHS) {
        return Ok(Vec::new());
    }
    let lengths = inputs.indices(LENGTHS)?;
    if lengths.nrows() != 1 {
        return Err(Error::shape(LENGTHS, "[B]", lengths.shape(), "One number per batch entry."));
    }
    Ok(lengths.into_iter().collect())
}
