use ndarray::Array2;

use super::{Stationary, stationary::stationary_prior};
use crate::{Accumulator, Error, Parameter, Real, model};

/// log w_ij = table[bucket(d), head], d the relative position: the learned relative bias of T5
/// (Raffel et al., arXiv 1910.10683, §2.1).
///
/// Half of the buckets hold one distance each, the others grow logarithmically up to
/// `max_distance`, and the last holds everything beyond. With [`Directions::Both`], half of the
/// buckets serve keys ahead of the query; with [`Directions::Behind`], keys ahead share bucket 0.
#[derive(Clone, Debug, PartialEq)]
pub struct RelativeBuckets {
    table: Array2<f64>,
    max_distance: usize,
    directions: Directions,
}

/// Which keys are told apart by their distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directions {
    /// Keys behind and ahead of the query, in buckets of their own.
    Both,
    /// Keys behind only, as in a decoder.
    Behind,
}

impl RelativeBuckets {
    /// `table` has shape [buckets, H], or [buckets, 1] shared by every head.
    pub fn new(table: Array2<f64>, max_distance: usize, directions: Directions) -> Self {
        Self { table, max_distance, directions }
    }

    /// The bucket of relative position `d` (query minus key).
    pub fn bucket(&self, d: i64) -> usize {
        let (buckets, first, distance) = match self.directions {
            Directions::Both => {
                let half = self.table.nrows() / 2;
                (half, if d < 0 { half } else { 0 }, d.unsigned_abs())
            }
            Directions::Behind => (self.table.nrows(), 0, d.max(0) as u64),
        };
        let exact = (buckets / 2).max(1);
        if distance < exact as u64 {
            return first + distance as usize;
        }
        let growth = (distance as f64 / exact as f64).ln()
            / (self.max_distance as f64 / exact as f64).ln()
            * (buckets - exact) as f64;
        first + (exact + growth as usize).min(buckets - 1)
    }
}

impl Stationary for RelativeBuckets {
    fn log_weight(&self, head: usize, d: i64) -> f64 {
        self.table[[self.bucket(d), model::head_index(self.table.ncols(), head)]]
    }
    fn gradient<T: Real>(&self, head: usize, d: i64, g: f64, into: &mut [Accumulator<'_, T>]) {
        let heads = self.table.ncols();
        into[0].add(self.bucket(d) * heads + model::head_index(heads, head), g);
    }
}

stationary_prior!(
    RelativeBuckets,
    "relative-buckets",
    |prior, shape| {
        let (buckets, heads) = prior.table.dim();
        let fewest = match prior.directions {
            Directions::Both => 4,
            Directions::Behind => 2,
        };
        if buckets < fewest || (heads != 1 && heads != shape.heads) {
            return Err(Error::shape(
                "relative-bias",
                format!(
                    "[buckets, {}] (or [buckets, 1]) with at least {fewest} buckets",
                    shape.heads
                ),
                prior.table.shape(),
                "Give one log-weight per bucket and head.",
            ));
        }
        let exact = if prior.directions == Directions::Both { buckets / 4 } else { buckets / 2 };
        if prior.max_distance <= exact {
            return Err(Error::value(
                "relative-buckets.max-distance",
                format!("more than the {exact} distances that have buckets of their own"),
                prior.max_distance,
            ));
        }
        match prior.table.iter().find(|x| x.is_nan() || **x == f64::INFINITY) {
            None => Ok(()),
            Some(x) => Err(Error::value("relative-bias", "finite log-weights, or -inf", x)),
        }
    },
    |prior| vec![Parameter::new("relative-bias", prior.table.shape())]
);
