use std::ops::Range;

use marginals_kernels::{Tile, TileMut, add_log_weight};
use ndarray::Ix1;
use serde::{Deserialize, Serialize};

use super::contract::{Coverage, Prior, PriorPart, intersect};
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Accumulator, Block, Error, Parameter, Real, Shape};

/// log w_ij = `log_weights` of the edge i → j where the graph has one (0 when unweighted), −∞
/// elsewhere.
///
/// The graph is in compressed sparse rows: the neighbours of query i are
/// `indices[indptr[i]..indptr[i + 1]]`, in any order, each at most once. It is shared by every
/// batch entry and head. Blocks without an edge are never computed. In a file it is [`Named`]: the
/// tensors `adjacency.indptr`, `adjacency.indices` and, if present, `adjacency.log-weights`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adjacency<G = Graph> {
    #[serde(skip)]
    graph: G,
}

/// A graph in compressed sparse rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    indptr: Vec<usize>,
    /// Sorted within each row.
    indices: Vec<usize>,
    log_weights: Option<Vec<f64>>,
    /// Where each sorted edge stood in the caller's order.
    edge: Vec<usize>,
}

impl Adjacency {
    /// A graph without weights.
    pub fn new(indptr: Vec<usize>, indices: Vec<usize>) -> Result<Self, Error> {
        Self::build(indptr, indices, None)
    }

    /// A graph with a log-weight per edge, in the order of `indices`.
    pub fn weighted(
        indptr: Vec<usize>,
        indices: Vec<usize>,
        log_weights: Vec<f64>,
    ) -> Result<Self, Error> {
        Self::build(indptr, indices, Some(log_weights))
    }

    fn build(
        indptr: Vec<usize>,
        indices: Vec<usize>,
        log_weights: Option<Vec<f64>>,
    ) -> Result<Self, Error> {
        let ordered = indptr.windows(2).all(|w| w[0] <= w[1]);
        if indptr.first() != Some(&0) || indptr.last() != Some(&indices.len()) || !ordered {
            return Err(Error::value(
                "adjacency.indptr",
                format!("non-decreasing offsets from 0 to the {} indices", indices.len()),
                format!("{} offsets that are not", indptr.len()),
            ));
        }
        if let Some(weights) = &log_weights {
            if weights.len() != indices.len() {
                return Err(Error::shape(
                    "adjacency.log-weights",
                    format!("[{}], one per edge", indices.len()),
                    &[weights.len()],
                    "Give one log-weight per entry of adjacency.indices.",
                ));
            }
            if let Some(w) = weights.iter().find(|w| w.is_nan() || **w == f64::INFINITY) {
                return Err(Error::value("adjacency.log-weights", "finite numbers or -inf", w));
            }
        }
        let mut edge: Vec<usize> = (0..indices.len()).collect();
        for (i, row) in indptr.windows(2).enumerate() {
            let row = &mut edge[row[0]..row[1]];
            row.sort_by_key(|&e| indices[e]);
            if let Some(pair) = row.windows(2).find(|p| indices[p[0]] == indices[p[1]]) {
                return Err(Error::value(
                    "adjacency.indices",
                    "each neighbour at most once per row",
                    format!("key {} twice in row {i}", indices[pair[0]]),
                ));
            }
        }
        Ok(Self {
            graph: Graph {
                indices: edge.iter().map(|&e| indices[e]).collect(),
                log_weights: log_weights.map(|w| edge.iter().map(|&e| w[e]).collect()),
                indptr,
                edge,
            },
        })
    }
}

impl Graph {
    /// Positions in `indices` of the neighbours of query `i` that lie in `keys`.
    fn neighbours(&self, i: usize, keys: &Range<usize>) -> Range<usize> {
        let (from, to) = (self.indptr[i], self.indptr[i + 1]);
        let row = &self.indices[from..to];
        from + row.partition_point(|&j| j < keys.start)
            ..from + row.partition_point(|&j| j < keys.end)
    }
}

impl Part for Adjacency<Named> {
    const NAME: &'static str = "adjacency";
    const MEANING: &'static str =
        "log w_ij = the log-weight of the edge i → j, 0 without weights, −∞ where there is none";
    const EXAMPLE: &'static str = "\"adjacency\"";
    const TENSORS: &'static [NamedTensor] = &[
        NamedTensor::whole(
            "adjacency.indptr",
            "[N + 1]",
            "where the neighbours of each query start",
        ),
        NamedTensor::whole(
            "adjacency.indices",
            "[E]",
            "the keys that are neighbours, query by query",
        ),
        NamedTensor::real("adjacency.log-weights", "[E]", "the log-weight of each edge")
            .only("if present"),
    ];
}

impl PriorPart for Adjacency<Named> {
    fn build<'a, T: Real>(&self, inputs: &Inputs<'a, T>) -> Result<Box<dyn Prior<T> + 'a>, Error> {
        let indptr = inputs.indices("adjacency.indptr")?.into_iter().collect();
        let indices = inputs.indices("adjacency.indices")?.into_iter().collect();
        Ok(Box::new(match inputs.has("adjacency.log-weights") {
            false => Adjacency::new(indptr, indices)?,
            true => {
                let weights = inputs.array::<Ix1>("adjacency.log-weights")?;
                Adjacency::weighted(indptr, indices, weights.into_iter().collect())?
            }
        }))
    }
}

impl<T: Real> Prior<T> for Adjacency {
    fn name(&self) -> &'static str {
        <Adjacency<Named> as Part>::NAME
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        if self.graph.indptr.len() != shape.queries + 1 {
            return Err(Error::shape(
                "adjacency.indptr",
                format!("[{}], one more than the queries", shape.queries + 1),
                &[self.graph.indptr.len()],
                "Rows of the graph are queries.",
            ));
        }
        match self.graph.indices.iter().find(|&&j| j >= shape.keys) {
            None => Ok(()),
            Some(j) => Err(Error::value(
                "adjacency.indices",
                format!("keys from 0 to {}", shape.keys.saturating_sub(1)),
                j,
            )),
        }
    }
    fn add_log_weights(&self, block: &Block, mut scores: TileMut<'_, T>) {
        for (r, i) in block.queries.clone().enumerate() {
            let row = scores.row_mut(r);
            let mut next = 0;
            for e in self.graph.neighbours(i, &block.keys) {
                let c = self.graph.indices[e] - block.keys.start;
                row[next..c].fill(T::neg_infinity());
                if let Some(weights) = &self.graph.log_weights {
                    row[c] = add_log_weight(row[c], T::of(weights[e]));
                }
                next = c + 1;
            }
            row[next..].fill(T::neg_infinity());
        }
    }
    fn coverage(&self, block: &Block) -> Coverage {
        let empty = block.queries.clone().all(|i| self.graph.neighbours(i, &block.keys).is_empty());
        if empty { Coverage::Empty } else { Coverage::Weighted }
    }
    fn live_keys(&self, block: &Block) -> Range<usize> {
        let hull = block
            .queries
            .clone()
            .filter_map(|i| {
                let row = &self.graph.indices[self.graph.indptr[i]..self.graph.indptr[i + 1]];
                Some(*row.first()?..row.last()? + 1)
            })
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
            .unwrap_or(0..0);
        intersect(block.keys.clone(), hull)
    }
    fn is_mask(&self) -> bool {
        self.graph.log_weights.is_none()
    }
    fn parameters(&self) -> Vec<Parameter> {
        let weights = self.graph.log_weights.as_ref();
        weights.map(|w| Parameter::new("adjacency.log-weights", &[w.len()])).into_iter().collect()
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    ) {
        if self.graph.log_weights.is_none() {
            return;
        }
        for (r, i) in block.queries.clone().enumerate() {
            let row = gradient.row(r);
            for e in self.graph.neighbours(i, &block.keys) {
                into[0]
                    .add(self.graph.edge[e], row[self.graph.indices[e] - block.keys.start].f64());
            }
        }
    }
}
