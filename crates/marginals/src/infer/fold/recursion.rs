//! Recursions: cells, and the rules that make them.

use std::fmt::Debug;

use crate::infer::coupled::{PerQuery, Scores};

/// Sizes of a factor that a recursion is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Queries.
    pub queries: usize,
    /// Keys.
    pub keys: usize,
    /// Edges from one query to the next.
    pub row: usize,
    /// Edges of the whole table, before the structure's own scores.
    pub edges: usize,
}

impl Size {
    /// That of a factor.
    pub fn of(scores: &Scores<'_>) -> Self {
        let Scores { queries, keys, row, edges, .. } = *scores;
        Self { queries, keys, row, edges }
    }

    /// Number of an edge among the scores.
    #[inline(always)]
    pub fn edge(&self, query: usize, key: usize) -> usize {
        query * self.row + key
    }

    /// Number of a score of the structure's own.
    #[inline(always)]
    pub fn own(&self, index: usize) -> usize {
        self.edges + index
    }
}

/// One way to make a cell: up to two cells and two scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) parts: [u32; 2],
    pub(super) scores: [u32; 2],
}

/// No part, or no score.
pub(super) const NONE: u32 = u32::MAX;

impl Rule {
    /// Of no cell and no score: weight 1.
    pub const ONE: Self = Self { parts: [NONE; 2], scores: [NONE; 2] };

    /// Of one cell, as it is.
    #[inline(always)]
    pub fn cell(cell: usize) -> Self {
        Self { parts: [cell as u32, NONE], ..Self::ONE }
    }

    /// Of two cells.
    #[inline(always)]
    pub fn cells(first: usize, second: usize) -> Self {
        Self { parts: [first as u32, second as u32], ..Self::ONE }
    }

    /// This one times e^score. A rule takes two.
    #[inline(always)]
    pub fn with(self, score: usize) -> Self {
        let [first, second] = self.scores;
        match first {
            NONE => Self { scores: [score as u32, second], ..self },
            _ => Self { scores: [first, score as u32], ..self },
        }
    }

    /// The cells it is made of.
    pub(super) fn parts(self) -> impl Iterator<Item = usize> {
        self.parts.into_iter().filter(|part| *part != NONE).map(|part| part as usize)
    }

    /// The scores it names.
    pub(super) fn scores(self) -> impl Iterator<Item = usize> {
        self.scores.into_iter().filter(|score| *score != NONE).map(|score| score as usize)
    }
}

/// A recursion over cells, for factors up to a size.
///
/// Every edge set must be made in exactly one way, or it counts several times.
pub trait Recursion: Debug + Send + Sync {
    /// Number of cells, in an order in which a cell comes after those it is made of.
    fn cells(&self) -> usize;

    /// Adds the rules of a cell to `into`, which is empty. A cell without any is impossible.
    fn rules(&self, cell: usize, into: &mut Vec<Rule>);

    /// The cell that is made of the whole of a factor of so many queries and keys.
    fn goal(&self, queries: usize, keys: usize) -> usize;
}

/// Maker of the recursion of a size: a structure.
pub trait Unfold: Debug + Send + Sync {
    /// Most edges of one query in an edge set.
    fn per_query(&self) -> PerQuery;

    /// The recursion of factors up to a size.
    fn unfold(&self, size: Size) -> Box<dyn Recursion>;
}
