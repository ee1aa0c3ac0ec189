//! Sums over the edge sets that a recursion builds.
//!
//! A [`Recursion`] says how cells are made of cells, each by several rules; the goal is made of all the
//! others, in as many ways as there are edge sets, each way once. A rule multiplies: the weight of what it
//! makes is the product of its parts' and of e^score of the scores it names. A cell adds its rules up:
//!
//! ```text
//! Z_c = Σ_rules Π_parts Z_part · exp(Σ scores),        Z = Z_goal.
//! ```
//!
//! One recursion answers everything. Read with another addition and multiplication it gives the best edge
//! sets (max and +), or counts them (scores of 0); read backwards, with the share of every rule in its
//! cell, the expected numbers of all scores, and with both in dual numbers, their derivatives; read
//! from the goal down with drawn rules, exact draws. Where a recursion has a faster form for its sums it may
//! take that: `messages` of chains. Goodman, *Semiring Parsing* (1999), and Huang,
//! *Advanced Dynamic Programming in Semiring and Hypergraph Frameworks* (2008), are the theory.

mod best;
mod draws;
mod lanes;
pub(crate) mod messages;
mod recursion;
mod rows;
pub(crate) mod segments;

pub use recursion::{Recursion, Rule, Size, Unfold};

use crate::Error;
use crate::infer::coupled::{EdgeSet, EdgeSets, Moments, Noise, PerQuery, Scores, Tangents};

/// Edge sets that a recursion builds.
#[derive(Clone, Debug)]
pub struct Fold<U> {
    /// Maker of the recursion of a size.
    pub unfold: U,
}

impl<U: Unfold> EdgeSets for Fold<U> {
    fn per_query(&self) -> PerQuery {
        self.unfold.per_query()
    }

    fn moments(&self, factors: &[Scores<'_>]) -> Vec<Moments> {
        lanes::moments(&self.unfold, factors)
    }

    fn tangents(&self, factors: &[Scores<'_>], directions: &[Vec<f64>]) -> Vec<Tangents> {
        lanes::tangents(&self.unfold, factors, directions)
    }

    fn best(&self, factor: &Scores<'_>, count: usize) -> Result<Vec<EdgeSet>, Error> {
        Ok(best::best(&self.unfold, factor, count))
    }

    fn draws(&self, factor: &Scores<'_>, count: usize, noise: Noise) -> Vec<Option<Vec<usize>>> {
        draws::draws(&self.unfold, factor, count, noise)
    }

    fn max_marginals(&self, factor: &Scores<'_>) -> Result<Vec<f64>, Error> {
        Ok(best::max_marginals(&self.unfold, factor))
    }
}
