//! Nodes that are there, of every batch entry of a ragged batch.

use super::contract::Lengths;
use crate::model::part::NamedTensor;
use crate::model::tensors::Inputs;
use crate::{Error, Real, Shape};

/// Names of the tensors.
const LENGTHS: &str = "lengths";
const KEY_LENGTHS: &str = "key-lengths";

/// The tensor of how many queries of every batch entry are there.
pub(crate) const OF_QUERIES: NamedTensor =
    NamedTensor::whole(LENGTHS, "[B]", "queries that are there").only("if present");

/// The tensor of how many keys of every batch entry are there.
pub(crate) const OF_KEYS: NamedTensor =
    NamedTensor::whole(KEY_LENGTHS, "[B]", "keys that are there").only("if present");

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
        Ok(Self::queries(&numbers(inputs, LENGTHS)?))
    }

    /// The tensor `lengths` [B] of nodes that are queries and keys, if there is one.
    pub fn of_trees<T: Real>(inputs: &Inputs<'_, T>) -> Result<Self, Error> {
        let lengths = numbers(inputs, LENGTHS)?;
        Ok(Self::both(&lengths, &lengths))
    }

    /// The tensors `lengths` and `key-lengths` [B], those that there are.
    pub fn of_nodes<T: Real>(inputs: &Inputs<'_, T>) -> Result<Self, Error> {
        Ok(Self::both(&numbers(inputs, LENGTHS)?, &numbers(inputs, KEY_LENGTHS)?))
    }

    /// Refuses lengths of another batch, and such as are beyond the sizes.
    pub fn check(&self, shape: &Shape) -> Result<(), Error> {
        for (name, lengths, nodes, kind) in [
            (LENGTHS, &self.queries, shape.queries, "queries"),
            (KEY_LENGTHS, &self.keys, shape.keys, "keys"),
        ] {
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
                return Err(Error::value(name, format!("at most {nodes}, the {kind}"), length));
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

/// A tensor [B] of whole numbers; nothing where there is none.
fn numbers<T: Real>(inputs: &Inputs<'_, T>, name: &str) -> Result<Vec<usize>, Error> {
    if !inputs.has_whole(name) {
        return Ok(Vec::new());
    }
    let lengths = inputs.indices(name)?;
    if lengths.nrows() != 1 {
        return Err(Error::shape(name, "[B]", lengths.shape(), "One number per batch entry."));
    }
    Ok(lengths.into_iter().collect())
}
