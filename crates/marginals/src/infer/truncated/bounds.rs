//! Upper bounds on the weights of edges, known without scoring them.

use std::ops::Range;

use ndarray::Axis;
use rayon::prelude::*;

use crate::infer::expanding::length;
use crate::infer::{ChoiceQuestions, EdgeQuestions, Problem};
use crate::tensor::Stored;
use crate::{Block, Error, Posterior, Real};

/// The longest vector of every run of nodes.
#[derive(Debug)]
struct Lengths {
    tile: usize,
    /// By batch entry and head.
    longest: Vec<Vec<f64>>,
}

impl Lengths {
    fn new<T: Real>(nodes: &Stored<'_, T>, tile: usize) -> Self {
        let (batch, heads, count, _) = nodes.dim();
        let of_head = |index: usize| {
            let rows = nodes.rows((index / heads, index % heads), 0..count);
            let longest = |tile: ndarray::ArrayView2<'_, T>| {
                let lengths = tile.outer_iter().map(|row| length(row.iter().copied()));
                lengths.fold(0.0, f64::max)
            };
            rows.axis_chunks_iter(Axis(0), tile).map(longest).collect()
        };
        let longest = (0..batch * heads).into_par_iter().map(of_head).collect();
        Self { tile, longest }
    }

    /// No node of a range, which is not empty, is longer.
    fn of(&self, head: usize, nodes: Range<usize>) -> f64 {
        let tiles = nodes.start / self.tile..nodes.end.div_ceil(self.tile);
        self.longest[head][tiles].iter().copied().fold(0.0, f64::max)
    }
}

/// Upper bounds of what blocks of edges weigh.
#[derive(Debug)]
pub(super) struct Bounds<'p, 'a, T: Real> {
    pub problem: &'p Problem<'a, T>,
    pub tile: usize,
    queries: Lengths,
    keys: Lengths,
}

impl<'p, 'a, T: Real> Bounds<'p, 'a, T> {
    /// Those of a posterior's edges, by runs of `tile` nodes.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`] where queries do not pick one edge each, and where the prior or the
    /// potential says nothing about edges out of sight.
    pub fn new(posterior: &'p Posterior<'a, T>, tile: usize) -> Result<Self, Error> {
        let refused = |why: String, instead: &str| Error::NotAnswerable {
            question: "truncated".into(),
            why,
            instead: instead.into(),
        };
        if !posterior
            .inference()
            .edges()
            .and_then(EdgeQuestions::choices)
            .is_some_and(ChoiceQuestions::has_one_edge)
        {
            return Err(refused(
                match posterior.inference().sets() {
                    Some(_) => format!("edges of `{}` depend on each other", posterior.structure()),
                    None => {
                        format!("`{}` does not give each query one edge", posterior.structure())
                    }
                },
                "It is there for `each-query-picks-one` and `each-query-picks-at-most-one`.",
            ));
        }
        let problem = &posterior.problem;
        let (prior, potential, shape) = (&problem.prior, problem.potential, &problem.shape);
        let all = shape.block((0, 0), 0..shape.queries, 0..shape.keys);
        let is_empty = shape.batch * shape.heads * shape.queries * shape.keys == 0;
        if !is_empty && prior.log_tail(&all).is_none() {
            return Err(refused(
                format!("the prior `{}` has no bound of the weights of keys unseen", prior.name()),
                "Implement `Prior::log_tail` and `Prior::upper_bound` for it, or infer exactly.",
            ));
        }
        if !is_empty && potential.greatest(0, 0.0, 0.0).is_none() {
            return Err(refused(
                format!("the potential `{}` has no bound of its scores", potential.name()),
                "Implement `Potential::greatest` for it, or infer exactly.",
            ));
        }
        let (queries, keys) = (Lengths::new(&problem.q, tile), Lengths::new(&problem.k, tile));
        Ok(Self { problem, tile, queries, keys })
    }

    /// An upper bound of log Σ_j e^θ_ij over the keys of `block`, for each of its queries, relative to
    /// what log-weights are relative to; ∞ where none is known.
    pub fn log_mass(&self, block: &Block) -> f64 {
        if block.keys.is_empty() || block.queries.is_empty() {
            return f64::NEG_INFINITY;
        }
        let shape = &self.problem.shape;
        let weight = self.problem.prior.log_tail(block).unwrap_or(f64::INFINITY);
        if weight == f64::NEG_INFINITY {
            return weight;
        }
        let head = shape.head_number((block.batch, block.head));
        let query = self.queries.of(head, block.queries.clone());
        let key_head = block.batch * shape.key_heads + shape.key_head(block.head);
        let key = self.keys.of(key_head, block.keys.clone());
        let score = self.problem.potential.greatest(block.head, query, key);
        let score = score.unwrap_or(f64::INFINITY);
        // The scores that a pass makes are rounded where they are summed.
        let terms = shape.query_width.max(shape.key_width) as f64 + 8.0;
        let rounding = T::epsilon().f64() * (terms * score.abs() + weight.abs() + 8.0);
        let bound = weight + score + rounding;
        if bound.is_nan() { f64::INFINITY } else { bound }
    }
}
