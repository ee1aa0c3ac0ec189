use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::contract::{Prior, PriorPart, hand_on_prior};
use super::of_distance::{Lent, OfDistance};
use super::product::Combine;
use crate::distance::{AnyDistance, DistancePart, Index};
use crate::model::part::{Named, NamedTensor, Part, Sizes, Weight, within};
use crate::model::per_head::head_index;
use crate::model::tensors::Inputs;
use crate::{Accumulator, Error, Parameter, Real, Shape};

/// log w_ij = table[bucket(d), head], d the distance: the learned relative bias of T5 (Raffel et al.,
/// arXiv 1910.10683, §2.1).
///
/// Half of the buckets hold one distance each, the others grow logarithmically up to
/// `max_distance`, and the last holds everything beyond. With [`Directions::Both`], half of the
/// buckets serve keys ahead of the query; with [`Directions::Behind`], keys ahead share bucket 0.
/// Between two whole distances the log-weight is interpolated linearly. In a file the table is
/// [`Named`]: the tensor `relative-bias`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RelativeBuckets<W = Array2<f64>> {
    /// Number of buckets: rows of the table.
    pub buckets: usize,
    /// Distance from which all share a bucket.
    pub max_distance: usize,
    /// Which keys are told apart.
    #[serde(rename = "bidirectional")]
    pub directions: Directions,
    /// The distance d.
    #[serde(default, skip_serializing_if = "AnyDistance::is_index")]
    pub distance: AnyDistance,
    #[serde(skip)]
    table: W,
}

/// Which keys are told apart by their distance; in a file, whether both directions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum Directions {
    /// Keys behind and ahead of the query, in buckets of their own.
    Both,
    /// Keys behind only, as in a decoder.
    Behind,
}

impl From<bool> for Directions {
    fn from(bidirectional: bool) -> Self {
        if bidirectional { Self::Both } else { Self::Behind }
    }
}

impl From<Directions> for bool {
    fn from(directions: Directions) -> Self {
        directions == Directions::Both
    }
}

impl RelativeBuckets {
    /// `table` has shape [buckets, H], or [buckets, 1] shared by every head.
    pub fn new(table: Array2<f64>, max_distance: usize, directions: Directions) -> Self {
        let buckets = table.nrows();
        Self { buckets, max_distance, directions, distance: AnyDistance::default(), table }
    }

    fn entry(&self, head: usize, d: f64) -> f64 {
        let column = head_index(self.table.ncols(), head);
        self.table[[self.bucket(d as i64), column]]
    }
}

impl RelativeBuckets<Named> {
    /// The prior whose table is in the input.
    pub fn named(buckets: usize, max_distance: usize, directions: Directions) -> Self {
        let distance = AnyDistance::default();
        Self { buckets, max_distance, directions, distance, table: Named }
    }
}

impl<W> RelativeBuckets<W> {
    /// The bucket of a whole distance.
    pub fn bucket(&self, d: i64) -> usize {
        let (buckets, first, distance) = match self.directions {
            Directions::Both => {
                let half = self.buckets / 2;
                (half, if d < 0 { half } else { 0 }, d.unsigned_abs())
            }
            Directions::Behind => (self.buckets, 0, d.max(0) as u64),
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

impl<W> Combine for RelativeBuckets<W> {}

impl<W: 'static> Part for RelativeBuckets<W> {
    const NAME: &'static str = "relative-buckets";
    const MEANING: &'static str = "log w_ij = table[bucket(d), h], d the distance";
    const EXAMPLE: &'static str =
        "{ relative-buckets = { buckets = 32, max-distance = 128, bidirectional = true } }";
    const TENSORS: &'static [NamedTensor] =
        &[NamedTensor::real("relative-bias", "[buckets, H]", "log-weights by bucket and head")];
    within!(distance);

    fn weights(&self, sizes: &Sizes) -> Vec<Weight> {
        vec![Weight { name: "relative-bias", shape: vec![self.buckets, sizes.heads], bound: 0.0 }]
    }
}

impl PriorPart for RelativeBuckets<Named> {
    fn build<'a, T: Real>(&self, inputs: &Inputs<'a, T>) -> Result<Box<dyn Prior<T> + 'a>, Error> {
        let table: Array2<f64> = inputs.array("relative-bias")?;
        if table.nrows() != self.buckets {
            return Err(Error::shape(
                "relative-bias",
                format!(
                    "[{}, {}], as the model's `buckets` says",
                    self.buckets, inputs.sizes.heads
                ),
                table.shape(),
                "Make the table and the setting agree.",
            ));
        }
        let prior = RelativeBuckets::new(table, self.max_distance, self.directions);
        Ok(Box::new(prior.over(self.distance.build(inputs)?)))
    }
    fn sees_ahead(&self) -> bool {
        DistancePart::sees_ahead(&self.distance)
    }
}

impl OfDistance for RelativeBuckets {
    fn distance(&self) -> &AnyDistance {
        &self.distance
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        let (buckets, heads) = self.table.dim();
        let (fewest, exact) = match self.directions {
            Directions::Both => (4, buckets / 4),
            Directions::Behind => (2, buckets / 2),
        };
        if buckets < fewest || (heads != 1 && heads != shape.heads) {
            return Err(Error::shape(
                "relative-bias",
                format!(
                    "[buckets, {}] (or [buckets, 1]) with at least {fewest} buckets",
                    shape.heads
                ),
                self.table.shape(),
                "Give one log-weight per bucket and head.",
            ));
        }
        if self.max_distance <= exact {
            return Err(Error::value(
                "relative-buckets.max-distance",
                format!("more than the {exact} distances that have buckets of their own"),
                self.max_distance,
            ));
        }
        match self.table.iter().find(|x| x.is_nan() || **x == f64::INFINITY) {
            None => Ok(()),
            Some(x) => Err(Error::value("relative-bias", "finite log-weights, or -inf", x)),
        }
    }
    fn log_weight(&self, head: usize, d: f64) -> f64 {
        let share = d - d.floor();
        // 0 times the −∞ of a neighbouring bucket is no number.
        if share == 0.0 {
            return self.entry(head, d);
        }
        (1.0 - share) * self.entry(head, d.floor()) + share * self.entry(head, d.ceil())
    }
    fn slope(&self, head: usize, d: f64) -> f64 {
        let (below, above) = (self.entry(head, d.floor()), self.entry(head, d.floor() + 1.0));
        if below == above { 0.0 } else { above - below }
    }
    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter::new("relative-bias", self.table.shape())]
    }
    fn gradient<T: Real>(&self, head: usize, d: f64, g: f64, into: &mut [Accumulator<'_, T>]) {
        let heads = self.table.ncols();
        let share = d - d.floor();
        for (d, share) in [(d.floor(), 1.0 - share), (d.ceil(), share)] {
            if share != 0.0 {
                into[0].add(self.bucket(d as i64) * heads + head_index(heads, head), g * share);
            }
        }
    }
    fn upper_bound(&self, head: usize, near: f64, far: f64) -> Option<f64> {
        // On either side buckets are in the order of distance.
        let column = self.table.column(head_index(self.table.ncols(), head));
        // Between two whole distances lies nothing above both.
        let far = far.abs().ceil().copysign(far);
        let buckets = self.bucket(near as i64)..=self.bucket(far as i64);
        buckets.map(|bucket| column[bucket]).reduce(f64::max)
    }
}

hand_on_prior!([T: Real] RelativeBuckets, this => Lent(this, &Index));
