use std::ops::Range;

use marginals_kernels::{Tile, TileMut, add_log_weight};
use ndarray::{Array2, Ix1};
use serde::{Deserialize, Serialize};

use super::contract::{Coverage, Prior, PriorPart, intersect};
use super::product::Combine;
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Accumulator, Block, Error, Parameter, Real, Shape};

/// w_ij = the weights of the edges i → j of a graph, added up, 1 each when it is unweighted; an edge
/// that the graph does not have is impossible.
///
/// The graph is in compressed sparse rows: the neighbours of query i are
/// `indices[indptr[i]..indptr[i + 1]]`, in any order. One that is there several times has parallel
/// edges, and the gradient of their common weight is shared out among them by weight. One graph serves
/// every batch entry and head, or there is one for each entry. Blocks without an edge are never
/// computed. In a file it is [`Named`]: the tensors `adjacency.indptr`, `adjacency.indices` and, if
/// present, `adjacency.log-weights`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adjacency<G = Graph> {
    #[serde(skip)]
    graph: G,
}

/// A graph, or one for each entry of a batch, in compressed sparse rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    queries: usize,
    /// Where the neighbours of query i of graph b start: entry b N + i.
    rows: Vec<usize>,
    /// Neighbours, in order within each row, each once.
    keys: Vec<usize>,
    /// The log-weight of each; none where all are 0.
    log_weights: Option<Vec<f64>>,
    /// Where the edges to each neighbour start among `edges`.
    groups: Vec<usize>,
    /// Where an edge stood in the caller's order, and its share of the neighbour's weight.
    edges: Vec<(usize, f64)>,
    /// Whether the caller gave log-weights, which can be learned.
    weighted: bool,
}

impl Adjacency {
    /// A graph without weights.
    ///
    /// # Errors
    /// [`Error::Value`] for rows that are none.
    pub fn new(indptr: Vec<usize>, indices: Vec<usize>) -> Result<Self, Error> {
        Self::batched(one_row(indptr), indices, None)
    }

    /// A graph with a log-weight per edge, in the order of `indices`.
    ///
    /// # Errors
    /// As [`new`](Self::new), [`Error::Shape`] for another number of log-weights, and
    /// [`Error::Value`] for NaN and ∞ among them.
    pub fn weighted(
        indptr: Vec<usize>,
        indices: Vec<usize>,
        log_weights: Vec<f64>,
    ) -> Result<Self, Error> {
        Self::batched(one_row(indptr), indices, Some(log_weights))
    }

    /// A graph for each entry of a batch: `indptr` [B, N + 1] has a row for each, every one starting
    /// at 0, and `indices` and log-weights are those of the first graph, then of the second and so on.
    ///
    /// # Errors
    /// As [`weighted`](Self::weighted).
    pub fn batched(
        indptr: Array2<usize>,
        indices: Vec<usize>,
        log_weights: Option<Vec<f64>>,
    ) -> Result<Self, Error> {
        let starts_at_0 = |row: &[usize]| row.first() == Some(&0) && row.is_sorted();
        let queries = indptr.ncols().saturating_sub(1);
        let indptr: Vec<Vec<usize>> = indptr.outer_iter().map(|row| row.to_vec()).collect();
        // Offsets are the caller's word: their sum may be no number.
        let mut ends = indptr.iter().filter_map(|row| row.last());
        let edges = ends.try_fold(0usize, |sum, &end| sum.checked_add(end));
        if !indptr.iter().all(|row| starts_at_0(row)) || edges != Some(indices.len()) {
            return Err(Error::value(
                "adjacency.indptr",
                format!(
                    "non-decreasing offsets from 0, up to the {} indices in all",
                    indices.len()
                ),
                "offsets that end or start elsewhere, or decrease",
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
        Ok(Self { graph: Graph::new(queries, &indptr, &indices, log_weights.as_deref()) })
    }
}

fn one_row(indptr: Vec<usize>) -> Array2<usize> {
    Array2::from_shape_fn((1, indptr.len()), |(_, i)| indptr[i])
}

impl Graph {
    fn new(
        queries: usize,
        indptr: &[Vec<usize>],
        indices: &[usize],
        log_weights: Option<&[f64]>,
    ) -> Self {
        let mut graph = Self {
            queries,
            rows: vec![0],
            keys: Vec::new(),
            log_weights: None,
            groups: vec![0],
            edges: Vec::with_capacity(indices.len()),
            weighted: log_weights.is_some(),
        };
        let mut merged = Vec::new();
        let mut first = 0;
        for offsets in indptr {
            for row in offsets.windows(2) {
                let mut row: Vec<usize> = (first + row[0]..first + row[1]).collect();
                row.sort_by_key(|&edge| indices[edge]);
                for parallel in row.chunk_by(|&a, &b| indices[a] == indices[b]) {
                    let weight = |edge: usize| log_weights.map_or(0.0, |weights| weights[edge]);
                    let largest = parallel.iter().map(|&e| weight(e)).fold(f64::MIN, f64::max);
                    let sum: f64 = parallel.iter().map(|&e| (weight(e) - largest).exp()).sum();
                    let all = match parallel {
                        [edge] => weight(*edge),
                        _ => largest + sum.ln(),
                    };
                    graph.keys.push(indices[parallel[0]]);
                    merged.push(all);
                    // What is impossible has no gradient to share out.
                    let share = |w: f64| if w == all { 1.0 } else { (w - all).exp() };
                    graph.edges.extend(parallel.iter().map(|&e| match all > f64::NEG_INFINITY {
                        true => (e, share(weight(e))),
                        false => (e, 0.0),
                    }));
                    graph.groups.push(graph.edges.len());
                }
                graph.rows.push(graph.keys.len());
            }
            first += offsets.last().copied().unwrap_or(0);
        }
        graph.log_weights = (graph.weighted || merged.iter().any(|w| *w != 0.0)).then_some(merged);
        graph
    }

    /// How many graphs there are.
    fn count(&self) -> usize {
        (self.rows.len() - 1).checked_div(self.queries).unwrap_or(1)
    }

    /// Positions among `keys` of the neighbours of query `i`.
    fn row(&self, batch: usize, i: usize) -> Range<usize> {
        let row = if self.count() == 1 { i } else { batch * self.queries + i };
        self.rows[row]..self.rows[row + 1]
    }

    /// Positions of those that lie among the keys of `block`.
    fn neighbours(&self, block: &Block, i: usize) -> Range<usize> {
        let row = self.row(block.batch, i);
        let keys = &self.keys[row.clone()];
        row.start + keys.partition_point(|&j| j < block.keys.start)
            ..row.start + keys.partition_point(|&j| j < block.keys.end)
    }
}

impl<G> Combine for Adjacency<G> {}

impl Part for Adjacency<Named> {
    const NAME: &'static str = "adjacency";
    const MEANING: &'static str = "w_ij = the weights of the edges i → j of a graph, added up, 1 each without weights, 0 where \
         there is none";
    const EXAMPLE: &'static str = "\"adjacency\"";
    const TENSORS: &'static [NamedTensor] = &[
        NamedTensor::whole(
            "adjacency.indptr",
            "[B, N + 1]",
            "where the neighbours of a query start",
        ),
        NamedTensor::whole("adjacency.indices", "[E]", "the neighbours, query by query"),
        NamedTensor::real("adjacency.log-weights", "[E]", "the log-weight of each edge")
            .only("if present"),
    ];
}

impl PriorPart for Adjacency<Named> {
    fn build<'a, T: Real>(&self, inputs: &Inputs<'a, T>) -> Result<Box<dyn Prior<T> + 'a>, Error> {
        let indptr = inputs.indices("adjacency.indptr")?;
        let indices = inputs.indices("adjacency.indices")?.into_iter().collect();
        let weights = match inputs.has("adjacency.log-weights") {
            true => Some(inputs.array::<Ix1>("adjacency.log-weights")?.into_iter().collect()),
            false => None,
        };
        Ok(Box::new(Adjacency::batched(indptr, indices, weights)?))
    }
}

impl<T: Real> Prior<T> for Adjacency {
    fn name(&self) -> &'static str {
        <Adjacency<Named> as Part>::NAME
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        let graph = &self.graph;
        let graphs = graph.count();
        if graph.queries != shape.queries || (graphs != 1 && graphs != shape.batch) {
            return Err(Error::shape(
                "adjacency.indptr",
                format!("[{}, {}] (or a batch of 1)", shape.batch, shape.queries + 1),
                &[graphs, graph.queries + 1],
                "Rows of a graph are queries, and its offsets one more.",
            ));
        }
        match graph.keys.iter().find(|&&j| j >= shape.keys) {
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
            for e in self.graph.neighbours(block, i) {
                let c = self.graph.keys[e] - block.keys.start;
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
        let empty = block.queries.clone().all(|i| self.graph.neighbours(block, i).is_empty());
        if empty { Coverage::Empty } else { Coverage::Weighted }
    }
    fn live_keys(&self, block: &Block) -> Range<usize> {
        let hull = block
            .queries
            .clone()
            .filter_map(|i| {
                let row = &self.graph.keys[self.graph.row(block.batch, i)];
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
        let parameter = || Parameter::new("adjacency.log-weights", &[self.graph.edges.len()]);
        self.graph.weighted.then(parameter).into_iter().collect()
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    ) {
        if !self.graph.weighted {
            return;
        }
        for (r, i) in block.queries.clone().enumerate() {
            let row = gradient.row(r);
            for e in self.graph.neighbours(block, i) {
                let g = row[self.graph.keys[e] - block.keys.start].f64();
                for &(edge, share) in
                    &self.graph.edges[self.graph.groups[e]..self.graph.groups[e + 1]]
                {
                    into[0].add(edge, g * share);
                }
            }
        }
    }
    fn upper_bound(&self, block: &Block) -> Option<f64> {
        let Some(weights) = &self.graph.log_weights else { return Some(0.0) };
        let weights = |i| &weights[self.graph.neighbours(block, i)];
        Some(block.queries.clone().flat_map(weights).fold(f64::NEG_INFINITY, |m, &w| m.max(w)))
    }
    fn log_tail(&self, block: &Block) -> Option<f64> {
        let sum = |i| {
            let row = self.graph.neighbours(block, i);
            let Some(weights) = &self.graph.log_weights else { return (row.len() as f64).ln() };
            let largest = weights[row.clone()].iter().fold(f64::NEG_INFINITY, |m, &w| m.max(w));
            match largest == f64::NEG_INFINITY {
                true => largest,
                false => {
                    largest + weights[row].iter().map(|w| (w - largest).exp()).sum::<f64>().ln()
                }
            }
        };
        block.queries.clone().map(sum).reduce(f64::max)
    }
}
