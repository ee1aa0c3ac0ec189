//! The contract of structures whose edges depend on each other.

use std::fmt::Debug;

use marginals_kernels::random::{philox, uniform};
use serde::{Deserialize, Serialize};

use crate::infer::entropic::Margins;
use crate::{Error, Shape};

/// The nodes that are there, of one batch entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Queries.
    pub queries: usize,
    /// Keys.
    pub keys: usize,
}

/// Scores of one factor: those of its edges row after row, then the structure's own.
///
/// Edge (i, j) is number i · `row` + j. Nodes from `queries` or `keys` on are not there: their edges
/// have score −∞. All arithmetic on edge sets is in `f64`: log-partitions grow with the number of
/// nodes, and would take the digits of what varies from `f32`.
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a> {
    /// Queries that are there.
    pub queries: usize,
    /// Keys that are there.
    pub keys: usize,
    /// Edges from one query to the next.
    pub row: usize,
    /// Edges of the whole table; the structure's own scores come after them.
    pub edges: usize,
    /// The scores: finite, or −∞ for what is impossible. NaN makes every answer about the factor NaN.
    pub values: &'a [f64],
}

impl Scores<'_> {
    /// Score of an edge.
    #[inline(always)]
    pub fn edge(&self, query: usize, key: usize) -> f64 {
        self.values[query * self.row + key]
    }

    /// Score of the structure's own with this number.
    #[inline(always)]
    pub fn own(&self, index: usize) -> f64 {
        self.values[self.edges + index]
    }
}

/// The first two derivatives' worth of a posterior over edge sets: log Z, and its gradient in every score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// log Z; −∞ where no edge set is possible.
    pub log_partition: f64,
    /// Expected number of times that each score counts, ∂ log Z/∂θ: the marginals of the edges, then the
    /// like of the structure's own. All 0 where no edge set is possible.
    pub expected: Vec<f64>,
}

/// [`Moments`], and their derivative as the scores move.
#[derive(Clone, Debug, PartialEq)]
pub struct Tangents {
    /// At the scores themselves.
    pub moments: Moments,
    /// Derivative of the expected numbers along the direction: the Hessian of log Z times it.
    pub expected: Vec<f64>,
}

/// An edge set.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeSet {
    /// Σ θ over its edges, with the structure's own scores.
    pub score: f64,
    /// Numbers of its edges, in order.
    pub edges: Vec<usize>,
}

/// Most edges that an edge set may give one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerQuery {
    /// One: an edge set is a key, or none, of every query.
    One,
    /// Any number.
    Several,
}

/// Uniform random numbers that are a function of what they are for: independent of threads and of each
/// other.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// The seed.
    pub seed: u64,
    /// Number of the factor.
    pub factor: u64,
}

impl Noise {
    /// A number in (0, 1): the `index`th of one draw.
    pub fn uniform(&self, draw: usize, index: usize) -> f64 {
        let counter =
            [index as u32, draw as u32, self.factor as u32, (self.factor >> 32) as u32 ^ 0xC0DE];
        let bits = philox(counter, [self.seed as u32, (self.seed >> 32) as u32]);
        uniform(bits[0], bits[1])
    }
}

/// Possible edge sets of a factor, and sums over them.
///
/// With x the scores and n(φ) how often each counts in φ, p(φ) = exp(n(φ)·x)/Z. Everything that is asked
/// of a posterior comes down to the methods here; where one has no algorithm it is refused by name.
pub trait EdgeSets: Debug + Send + Sync {
    /// Most edges of one query.
    fn per_query(&self) -> PerQuery;

    /// log Z and its gradient of every factor.
    fn moments(&self, factors: &[Scores<'_>]) -> Vec<Moments>;

    /// Moments with the derivative of the gradient along a direction of each factor's scores. Where a
    /// score is −∞ its direction is 0.
    fn tangents(&self, factors: &[Scores<'_>], directions: &[Vec<f64>]) -> Vec<Tangents>;

    /// The `count` possible edge sets of highest score, best first; fewer where there are not so many.
    /// Ties go to the set whose edges come first: at the first edge in which two differ, to the one that
    /// has it.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`] where more than one is asked for and only the best is known.
    fn best(&self, factor: &Scores<'_>, count: usize) -> Result<Vec<EdgeSet>, Error>;

    /// Exact independent draws, each the numbers of its edges in order; `None` where no edge set is
    /// possible.
    fn draws(&self, factor: &Scores<'_>, count: usize, noise: Noise) -> Vec<Option<Vec<usize>>>;

    /// Highest score of the edge sets that have each edge; −∞ for edges that none has.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`] where there is no algorithm for it.
    fn max_marginals(&self, factor: &Scores<'_>) -> Result<Vec<f64>, Error>;

    /// Refuses factors of so many queries and keys where sums over their edge sets are out of reach, and
    /// only the best are found.
    ///
    /// # Errors
    /// [`Error::Value`] with the limit, and what to ask instead.
    fn check_sums(&self, _queries: usize, _keys: usize) -> Result<(), Error> {
        Ok(())
    }

    /// Masses of the nodes of every head, where an edge set is a plan that moves them; `lengths` are those of
    /// a batch entry.
    fn margins(&self, _shape: &Shape, _lengths: &dyn Fn(usize) -> Lengths) -> Option<Margins> {
        None
    }
}
